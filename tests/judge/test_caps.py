"""Caps are kept to the call, with many requests at a time and over several runs."""

import re
from collections.abc import Callable

import pytest

from handpick.errors import JudgeError
from handpick.judge import Judge, Usage
from tests.judge.server import Response, Server, refuses, says

MakeJudge = Callable[..., Judge]
PROMPTS = [f"prompt {i:02}" for i in range(30)]


def test_the_cap_on_calls_is_kept_to_the_call(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says(f"on {prompt}", delay=0.02)
    with pytest.raises(JudgeError) as caught:
        judge(max_calls=10, workers=8).ask(PROMPTS)
    assert len(server.asked) == 10
    assert re.fullmatch(
        r"the cap of 10 calls \(--max-judge-calls\) is reached, with 10 of 30 prompts answered and kept in .*"
        r"judge.jsonl; raise the cap and run again, and nothing is asked twice",
        str(caught.value),
    )

    with pytest.raises(JudgeError, match="with 10 of 30"):  # a run more is no call more
        judge(max_calls=10).ask(PROMPTS)
    assert len(server.asked) == 10

    answers = judge(max_calls=30).ask(PROMPTS)
    assert [answer.text for answer in answers] == [f"on {prompt}" for prompt in PROMPTS]
    assert set(server.prompts.values()) == {1}


def test_retries_count_as_calls(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, before: says("x") if before else refuses(500)
    with pytest.raises(JudgeError, match="the cap of 15 calls"):
        judge(max_calls=15, workers=4).ask(PROMPTS)
    assert len(server.asked) == 15


def test_no_call_at_all(server: Server, judge: MakeJudge) -> None:
    message = r"0 tokens are used and the next call could pass the cap of 1 \(--max-judge-tokens\), with 0 of 30"
    with pytest.raises(JudgeError, match=message):
        judge(max_tokens_total=1).ask(PROMPTS)
    assert not server.asked


def test_the_cap_on_tokens_is_never_passed(server: Server, judge: MakeJudge) -> None:
    """A prompt of 9 bytes can have no more than 125 tokens, and this server uses all of them, now and then."""
    server.respond = lambda prompt, _: says("x", (125, 50) if prompt.endswith("0") else (60, 10), delay=0.01)
    one = judge(max_tokens_total=1000, max_answer_tokens=50, workers=8)
    with pytest.raises(
        JudgeError, match=r"tokens are used and the next call could pass the cap of 1,000 \(--max-judge-tokens"
    ):
        one.ask(PROMPTS)
    used = one.used.tokens_in + one.used.tokens_out
    assert 1000 - (125 + 50) < used <= 1000
    assert one.used.calls == len(server.asked)

    judge(max_tokens_total=10_000, max_answer_tokens=50).ask(PROMPTS)
    assert set(server.prompts.values()) == {1}


def test_the_cap_on_money_is_never_passed(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says("x", (100_000, 10_000), delay=0.01)
    prompts = ["x" * 99_875 + prompt for prompt in PROMPTS]
    one = judge(max_cost=1, price_in=1, price_out=2, max_answer_tokens=10_000, workers=8)
    with pytest.raises(
        JudgeError, match=r"0\.96 is spent and the next call could pass the cap of 1\.00 \(--max-judge-cost\)"
    ):
        one.ask(prompts)
    assert one.used == Usage(8, 800_000, 80_000)


def test_what_is_given_back_is_used(server: Server, judge: MakeJudge) -> None:
    """Two requests at a time could pass the cap, one after the other none does: they wait for each other."""
    server.respond = lambda prompt, _: says("x", (10, 1), delay=0.01)
    one = judge(max_tokens_total=29 * 11 + 175, max_answer_tokens=50, workers=8)
    assert all(answer.text == "x" for answer in one.ask(PROMPTS))
    assert one.used == Usage(30, 300, 30)


def test_an_answer_that_does_not_say_what_it_took_counts_as_the_most(server: Server, judge: MakeJudge) -> None:
    server.respond = lambda prompt, _: says("x", None)
    one = judge(max_answer_tokens=50)
    one.ask(PROMPTS[:2])
    assert one.used == Usage(2, 250, 100)


def test_a_refusal_takes_no_tokens_and_a_broken_answer_the_most(server: Server, judge: MakeJudge) -> None:
    failures = [refuses(500), Response(b"{")]
    server.respond = lambda prompt, before: failures[before] if before < 2 else says("x", (7, 3))
    one = judge(max_answer_tokens=50)
    one.ask(PROMPTS[:1])
    assert one.used == Usage(3, 125 + 7, 50 + 3)
