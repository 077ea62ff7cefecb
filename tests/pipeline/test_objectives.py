"""ROSE and NICE from files to a selection."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import handpick
from handpick.cli import app
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError, JudgeError, ModelError, SettingsError
from handpick.objectives.next_token import NextToken
from handpick.objectives.protocol import Policy, Prepared, Row, WeightedSequence
from handpick.sandbox.find import why_not
from tests.conftest import write_jsonl
from tests.judge.server import running, says
from tests.pipeline.conftest import Finished

Given = dict[str, Any]
DRAWN = {"method": "nice", "samples": 4, "max_new_tokens": 8, "max_length": 2048}


@pytest.fixture(scope="module")
def pairs_file(data: Path) -> Path:
    """Three pairs in TRL's shape, one of HH-RLHF's, one of ShareGPT's, and one that is no pair."""
    said = {"role": "assistant", "content": "I would rather not say."}
    records: list[dict[str, Any]] = [
        {"id": f"p{i}", "prompt": f"What is {i} plus {i}?", "chosen": f"It is {2 * i}.", "rejected": "Who knows."}
        for i in range(3)
    ]
    records += [
        {
            "id": "hh", "chosen": "\n\nHuman: Hello\n\nAssistant: Hello, friend.",
            "rejected": "\n\nHuman: Hello\n\nAssistant: No.",
        },
        {"id": "share", "conversations": [{"from": "human", "value": "Your name?"}], "chosen": {"from": "gpt", "value": "Pip."}, "rejected": {"from": "gpt", "value": "None."}},  # noqa: E501
        {"id": "single", "messages": [{"role": "user", "content": "Hm?"}, said]},
    ]  # fmt: skip
    return write_jsonl(data / "pairs.jsonl", records)


@pytest.fixture(scope="module")
def prompts_file(data: Path) -> Path:
    """Prompts and nothing else."""
    return write_jsonl(data / "prompts.jsonl", [{"id": f"n{i}", "prompt": f"Tell me about {i}."} for i in range(3)])


@pytest.fixture(scope="module")
def rewards_file(data: Path) -> Path:
    text = "def long(prompts, completions, records):\n    return [len(text) for text in completions]\n\n"
    text += "def alike(prompts, completions, records):\n    return [0.0] * len(completions)\n"
    (data / "my_rewards.py").write_text(text)
    return data / "my_rewards.py"


def test_rose_chooses_by_pairs(given: Given, finished: Finished, pairs_file: Path, tmp_path: Path) -> None:
    """On the pool's features that are there already; a record that is no pair is set aside."""
    out = finished.copy_to(tmp_path / "out")
    selection = handpick.select(**given | {"query": pairs_file, "method": "rose"}, out=str(out))
    assert len(selection.ids) == 10
    (store,) = (
        handpick.FeatureStore.open(path)
        for path in (out / "features").glob("query-*")
        if handpick.FeatureStore.open(path).manifest.build["objective"] == "preference"
    )
    assert store.ids == ["p0", "p1", "p2", "hh", "share"]
    assert store.manifest.build["loss"] == "dpo"
    assert all(np.asarray(store.norms(t)).all() for t in range(2))
    (bad,) = (json.loads(line) for line in (out / "quarantine-query.jsonl").read_text().splitlines())
    assert "no rejected answer" in bad["reason"]
    assert selection.settings["method"] == "rose"
    other = handpick.select(**given | {"query": pairs_file, "method": "rose", "preference_loss": "simpo"}, out=str(out))
    assert other.scores != selection.scores
    assert handpick.select(**given | {"query": pairs_file, "method": "rose"}, out=str(out)).ids == selection.ids


def test_the_objective_may_be_named_apart_from_the_method(
    given: Given, finished: Finished, pairs_file: Path, tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "out")
    selection = handpick.select(**given | {"query": pairs_file, "objective": "preference"}, out=str(out))
    assert {q for q in selection.picked_for if q} == {"p0", "p1", "p2", "hh", "share"}  # round-robin


def test_nice_needs_no_labels(
    given: Given, finished: Finished, prompts_file: Path, rewards_file: Path, tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "out")
    asked = given | DRAWN | {"query": prompts_file, "reward": f"{rewards_file}:long"}
    selection = handpick.select(**asked, out=str(out))
    assert len(selection.ids) == 10
    samples = sorted((out / "samples").glob("samples-*.jsonl"))
    assert len(samples) == 2  # a checkpoint each
    lines = [json.loads(line) for line in samples[0].read_text().splitlines()]
    assert len(lines) == 3
    assert all(len(line["value"]) == 4 for line in lines)
    before = [path.read_bytes() for path in samples]
    centered = handpick.select(**asked | {"advantage": "rloo"}, out=str(out))
    assert [path.read_bytes() for path in samples] == before
    assert centered.fingerprints["query"] != selection.fingerprints["query"]


def test_a_reward_may_be_any_function(
    given: Given, finished: Finished, prompts_file: Path, rewards_file: Path, tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "out")
    asked = given | DRAWN | {"query": prompts_file}
    seen: list[Any] = []

    def long(prompts: Any, completions: Any, records: Any) -> Any:
        seen.extend(zip(prompts, records, strict=True))
        return np.array([len(text) for text in completions])

    selection = handpick.select(**asked, reward=long, out=str(out))
    assert seen[0] == ([{"role": "user", "content": "Tell me about 0."}], {"id": "n0", "prompt": "Tell me about 0."})
    named = handpick.select(**asked, reward=f"{rewards_file}:long", out=str(out))
    assert selection.ids == named.ids
    short = handpick.select(**asked, reward=lambda p, c, r: [-len(text) for text in c], out=str(out))
    assert short.scores != selection.scores  # lambdas and closures are never taken for one another
    assert selection.settings["reward"].endswith(":test_a_reward_may_be_any_function.<locals>.long")
    with pytest.raises(SettingsError, match="three arguments"):
        handpick.select(**asked, reward=lambda completions: [0.0], out=str(out))


def test_represent_needs_no_reward(given: Given, out: str) -> None:
    """The pool's features do not depend on the query's objective."""
    settings = {name: value for name, value in given.items() if name not in ("query", "budget")}
    assert len(handpick.represent_pool(**settings | {"method": "nice"}, out=out)) == 40


class FirstWord:
    """An objective of one's own: the loss of the answer's first token."""

    advice = "name other queries"

    def __init__(self, renderer: Renderer, max_length: int) -> None:
        self._own = NextToken(renderer, max_length)

    def fingerprint(self) -> Any:
        return {"objective": "first word"}

    def prepare(self, examples: Any) -> Prepared:
        return self._own.prepare(examples)

    def rows(self, items: Any, policy: Policy) -> list[Row]:
        cut = []
        for sequence in items:
            first = next(i for i, label in enumerate(sequence.labels) if label != IGNORED)
            cut.append(Rendered(sequence.input_ids[: first + 1], sequence.labels[: first + 1], first + 1))
        return [[WeightedSequence(sequence, 1.0)] for sequence in cut]


def test_an_objective_may_be_ones_own(given: Given, finished: Finished, tmp_path: Path) -> None:
    out = finished.copy_to(tmp_path / "out")
    selection = handpick.select(**given, objective=FirstWord, out=str(out))
    assert selection.scores != finished.selection.scores
    assert selection.fingerprints["query"]["build"]["objective"] == "first word"
    with pytest.raises(SettingsError, match="objective of your own"):
        handpick.select(**given, objective=FirstWord, reward="choice", out=str(out))


def test_a_reference_that_is_no_checkpoint_is_said_first(
    given: Given, pairs_file: Path, out: str, no_model: None
) -> None:
    with pytest.raises(ModelError, match="no checkpoint folder"):
        handpick.select(**given | {"query": pairs_file, "method": "rose", "reference": "nowhere"}, out=out)


def test_without_any_signal_the_pool_is_not_computed(
    given: Given, prompts_file: Path, rewards_file: Path, out: str
) -> None:
    for more in ({}, {"score_only": True}):
        with pytest.raises(DataError, match="nothing to choose by"):
            handpick.select(
                **given | DRAWN | more | {"query": prompts_file, "reward": f"{rewards_file}:alike"}, out=out
            )
    assert not list(Path(out, "features").glob("pool*/shards/*/*"))
    assert not list(Path(out, "features").glob("scores*"))


def test_a_run_without_any_signal_stops_with_advice(
    given: Given, finished: Finished, prompts_file: Path, rewards_file: Path, tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "out")
    with pytest.raises(DataError, match=r"nothing to choose by.*--temperature.*--samples.*partial credit"):
        handpick.select(**given | DRAWN | {"query": prompts_file, "reward": f"{rewards_file}:alike"}, out=str(out))


def test_prompts_without_signal_are_left_out_by_name(
    given: Given, finished: Finished, rewards_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished.copy_to(tmp_path / "out")
    records = [{"id": name, "prompt": f"Say {name}."} for name in ("loud", "mute", "plain")]
    query = write_jsonl(tmp_path / "q.jsonl", records)
    (tmp_path / "r.py").write_text(
        "def of(prompts, completions, records):\n"
        "    return [0 if r['id'] == 'mute' else len(c) for c, r in zip(completions, records)]\n"
    )
    selection = handpick.select(
        **given | DRAWN | {"query": query, "reward": f"{tmp_path / 'r.py'}:of", "algorithm": "round-robin"},
        out=str(out),
    )
    assert set(selection.picked_for) == {"loud", "plain"}
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 3 queries have no gradient at any checkpoint and are left out: mute" in said


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "nice"}, "no reward given"),
        ({"reward": "exact-match"}, "next-token objective does not look at --reward"),
        ({"method": "rose", "samples": 3}, "preference objective does not look at --samples"),
        ({"method": "nice", "reward": "choice", "beta": 1.0}, "reward objective does not look at --beta"),
        ({"method": "rose", "gamma": 3.0}, "gamma is simpo's margin, and the loss is dpo"),
        ({"method": "rose", "preference_loss": "simpo", "reference": "x"}, "simpo compares with no reference"),
        ({"method": "nice", "reward": "choice", "judge_prompt": "x"}, "judge_prompt is for --reward judge:"),
        ({"method": "nice", "reward": "exact-mach"}, "exact-match"),
        ({"method": "nice", "reward": "unit-tests"}, "--allow-code-execution"),
        ({"method": "nice", "reward": "nobody.py:f"}, "nobody.py"),
        ({"method": "nice", "reward": "exact-match", "max_length": 200}, "no room for a prompt"),
        ({"objective": "preference", "beta": -1.0}, "beta"),
        ({"method": "nice", "reward": "choice", "samples": 1, "advantage": "rloo"}, "more than 1"),
    ],
)
def test_what_cannot_be_is_said_before_a_model_is_loaded(
    changed: dict[str, Any], message: str, given: Given, out: str, no_model: None
) -> None:
    with pytest.raises(SettingsError, match=message):
        handpick.select(**given | changed, out=out)


def test_a_judge_on_a_real_server(
    given: Given, finished: Finished, prompts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long answers are the better ones; another selection asks nothing again, and the cap holds."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    out = finished.copy_to(tmp_path / "out")
    asked = given | DRAWN | {"query": prompts_file, "reward": "judge:m", "judge_key_env": "NOT_SET_ANYWHERE"}
    with running() as server:
        server.respond = lambda prompt, _: says(json.dumps({"score": 1 + len(prompt) % 10}))
        with pytest.raises(JudgeError, match="5"):
            handpick.select(**asked, judge_url=server.url, max_judge_calls=5, out=str(out))
        assert len(server.asked) == 5
        selection = handpick.select(**asked, judge_url=server.url, out=str(out))
        n = len(server.asked)
        assert max(server.prompts.values()) == 1
        again = handpick.select(**asked, judge_url=server.url, advantage="centered", out=str(out))
        assert len(server.asked) == n
        handpick.select(
            **asked, judge_url=server.url, judge_temperature="none", max_answer_tokens=77, out=str(out)
        )  # other answers of the judge: all is asked anew
        bodies = [each.body for each in server.asked[n:]]
    assert bodies
    assert all("temperature" not in body and body["max_tokens"] == 77 for body in bodies)
    assert len(selection.ids) == len(again.ids) == 10


def test_a_judge_without_a_verdict_gives_no_grade(
    given: Given,
    finished: Finished,
    prompts_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It was the middle of the scale, a signal of every prompt, and success."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    out = finished.copy_to(tmp_path / "out")
    asked = given | DRAWN | {"query": prompts_file, "reward": "judge:m", "judge_key_env": "NOT_SET_ANYWHERE"}
    asked |= {"samples": 3, "judge_retries": 0, "out": str(out)}
    with running() as server:
        server.respond = lambda prompt, _: says("I would rather not say.")
        with pytest.raises(JudgeError, match=r"^the judge m gave no score to 9 of 9 completions, so there is nothing"):
            handpick.select(**asked, judge_url=server.url)
        assert len(list((out / "samples").glob("samples-*.jsonl"))) == 1  # of the first checkpoint; kept
        assert (out / "samples" / "verdicts" / "judge.jsonl").exists()
        n = len(server.asked)
        assert n == 18  # with a reminder each
        with pytest.raises(JudgeError, match="9 of 9"):
            handpick.select(**asked, judge_url=server.url, judge_timeout=7)
        assert len(server.asked) == n  # a judge that may think longer is not asked again
        server.respond = lambda prompt, _: says("" if "about 1" in prompt else json.dumps({"score": len(prompt) % 9}))
        capsys.readouterr()
        selection = handpick.select(**asked, judge_url=server.url, judge_seed=1)
        assert all(each.body["seed"] == 1 for each in server.asked[n:])
    assert set(selection.picked_for) <= {"n0", "n2", None}
    said = " ".join(capsys.readouterr().err.split())
    assert "answers have no score and count for nothing; 2 of 3 prompts have a signal; none have n1" in said
    assert "1 of 3 queries have no gradient at any checkpoint and are left out: n1" in said


def test_references_that_cannot_be_graded_are_said_before_a_model_is_loaded(
    given: Given, prompts_file: Path, out: str, no_model: None
) -> None:
    with pytest.raises(DataError, match=r"^no query can be used for the reward objective; the first, 'n0': no referen"):
        handpick.select(**given | DRAWN | {"query": prompts_file, "reward": "exact-match:last-number"}, out=out)


def test_code_runs_only_where_it_is_allowed(given: Given, finished: Finished, tmp_path: Path) -> None:
    out = finished.copy_to(tmp_path / "out")
    if why_not("namespaces") and why_not("bwrap"):
        pytest.skip(f"no strong sandbox here: {why_not('namespaces')}")
    record = {"id": "m", "prompt": "Write add(a, b).", "tests": ["assert add(1, 2) == 3"], "setup": ""}
    query = write_jsonl(tmp_path / "code.jsonl", [record])
    asked = given | DRAWN | {"query": query, "reward": "unit-tests"}
    with pytest.raises(SettingsError, match="--allow-code-execution"):
        handpick.select(**asked, out=str(out))
    with pytest.raises(DataError, match="nothing to choose by"):  # a model of random weights writes no code
        handpick.select(**asked, allow_code_execution=True, out=str(out))


def test_from_the_command_line(
    given: Given, finished: Finished, prompts_file: Path, rewards_file: Path, tmp_path: Path
) -> None:
    out = finished.copy_to(tmp_path / "out")
    flags = [
        "select", "--store", str(out / "features" / "pool"), "--query", str(prompts_file), "--method", "nice",
        "--reward", f"{rewards_file}:long", "--samples", "3", "--max-new-tokens", "6", "--budget", "5",
        "--variants", "topk", "--variants", "rejection", "--stop", "zzz", "--out", str(tmp_path / "cli"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, flags)
    assert result.exit_code == 0, result.output
    assert "5 of 40 examples chosen by nice" in result.output
    assert len((tmp_path / "cli" / "selected.jsonl").read_text().splitlines()) == 5
