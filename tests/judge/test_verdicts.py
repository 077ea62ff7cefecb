"""Scores and comparisons, by judges that are fair, biased or confused."""

import json
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

from handpick.errors import SettingsError
from handpick.judge import Judge, Tally, Verdict, compare, rate, tally
from tests.judge.server import Response, Server, refuses, says

MakeJudge = Callable[..., Judge]

N = 20
PROMPTS = [f"question {i}" for i in range(N)]
SHORT, LONG = [f"{i}" for i in range(N)], [f"{i} and more" for i in range(N)]


def shown(prompt: str, label: str) -> str:
    """What stands in a fence of a judge's prompt."""
    found = re.search(rf"\[begin {label} (\w+)\]\n(.*)\n\[end {label} \1\]", prompt, re.DOTALL)
    assert found
    return found[2]


def longer(prompt: str, before: int = 0) -> Response:
    """A judge that likes long answers."""
    a, b = len(shown(prompt, "answer A")), len(shown(prompt, "answer B"))
    return says(json.dumps({"reason": "length", "verdict": "A" if a > b else "B" if b > a else "tie"}))


@pytest.mark.parametrize(
    ("first", "second", "outcome", "flipped"),
    [
        ("a", "a", "a", False),
        ("b", "b", "b", False),
        ("tie", "tie", "tie", False),
        ("a", "tie", "a", False),
        ("tie", "a", "a", False),
        ("b", "tie", "b", False),
        ("tie", "b", "b", False),
        ("a", "b", "tie", True),
        ("b", "a", "tie", True),
        *[(*pair, None, False) for pair in product(["a", "b", "tie", None], repeat=2) if None in pair],
    ],
)
def test_outcomes(first: str, second: str, outcome: str | None, flipped: bool) -> None:
    verdict = Verdict(first, second)  # type: ignore[arg-type]
    assert (verdict.outcome, verdict.flipped) == (outcome, flipped)


def test_a_fair_judge(server: Server, judge: MakeJudge) -> None:
    server.respond = longer
    assert compare(judge(), PROMPTS, SHORT, LONG) == [Verdict("b", "b")] * N
    assert compare(judge(), PROMPTS, LONG, SHORT) == [Verdict("a", "a")] * N
    assert len(server.asked) == 2 * N  # the second comparison asks the same, the other way round


def test_a_judge_that_looks_at_the_place_alone(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says('{"verdict": "A"}')
    verdicts = compare(judge(), PROMPTS, SHORT, LONG)
    assert verdicts == [Verdict("a", "b")] * N
    assert tally(verdicts) == Tally(a=0, b=0, tie=N, flipped=N, missing=0)


def test_equal_answers_are_a_tie_and_cost_nothing(server: Server, judge: MakeJudge) -> None:
    server.respond = longer
    verdicts = compare(judge(), PROMPTS, SHORT, [*SHORT[:-1], "much longer"])
    assert verdicts == [Verdict("tie", "tie")] * (N - 1) + [Verdict("b", "b")]
    assert len(server.asked) == 2


def test_a_malformed_verdict_is_asked_for_once_more(server: Server, judge: MakeJudge) -> None:
    def respond(prompt: str, before: int) -> Response:
        if shown(prompt, "prompt") == "question 3":
            return says("I would rather not say.")
        if shown(prompt, "prompt") == "question 5" and "Reply with the JSON object alone" not in prompt:
            return says("Hm.")
        return longer(prompt)

    server.respond = respond
    verdicts = compare(judge(), PROMPTS, SHORT, LONG)
    assert verdicts == [Verdict(None, None) if i == 3 else Verdict("b", "b") for i in range(N)]
    assert tally(verdicts) == Tally(a=0, b=N - 1, tie=0, flipped=0, missing=1)
    assert len(server.asked) == 2 * N + 4
    assert set(server.prompts.values()) == {1}

    assert compare(judge(), PROMPTS, SHORT, LONG) == verdicts
    assert len(server.asked) == 2 * N + 4


def test_missing_verdicts_are_said(server: Server, judge: MakeJudge, capsys: pytest.CaptureFixture[str]) -> None:
    def respond(prompt: str, before: int) -> Response:
        question = shown(prompt, "prompt")
        return {
            "question 1": says('{"score":', finish="length"),
            "question 2": refuses(400),
            "question 3": says("seven"),
        }.get(question, says('{"score": 7}'))

    server.respond = respond
    scores = rate(judge(), PROMPTS, SHORT)
    assert scores == [None if i in (1, 2, 3) else 7 for i in range(N)]
    said = capsys.readouterr().err
    assert (
        "3 of 20 verdicts are missing: 1 without an answer, 1 cut off at --max-answer-tokens, 1 with an answer that"
        in said
    )


def test_scores_on_a_scale_of_ones_own(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says('{"score": 0.5}' if "from 0 to 1" in prompt else '{"score": 2}')
    assert rate(judge(), PROMPTS[:1], SHORT[:1], scale=(0, 1)) == [0.5]
    assert rate(judge(), PROMPTS[:1], SHORT[:1]) == [2]


def test_references(server: Server, judge: MakeJudge, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("{prompt} {answer} {reference} {low} {high}", encoding="utf-8")
    server.respond = lambda prompt, _: says(json.dumps({"score": shown(prompt, "reference answer")}))
    one = judge(prompt=str(path))
    assert rate(one, PROMPTS[:2], SHORT[:2], references=["3", "4"]) == [3, 4]
    with pytest.raises(SettingsError, match=r"mine.txt has {reference}, and there are no reference answers here; take"):
        rate(one, PROMPTS[:2], SHORT[:2])


def test_a_conversation_is_shown_with_its_roles(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says('{"score": 3}')
    turns = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hello"}]
    rate(judge(), [turns], ["hi"])
    assert shown(server.asked[0].prompt, "prompt") == "system:\nbe kind\n\nuser:\nhello"


def test_nothing_to_judge(server: Server, judge: MakeJudge) -> None:
    assert (rate(judge(), [], []), compare(judge(), [], [], [])) == ([], [])
