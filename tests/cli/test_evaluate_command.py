"""``handpick evaluate``: base models, adapters and whole models; what it shows, writes, keeps and refuses."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import handpick.cli.evaluate  # noqa: F401  (the command)
from handpick import bundled
from handpick.cli import app
from handpick.fingerprint import file_digest
from tests.conftest import records, write_jsonl
from tests.judge.server import KEY, KEY_ENV, Response, Server, running, says

MODEL = bundled.model_path()


def handpick_evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


def good(*arguments: object) -> str:
    shown = handpick_evaluate(*arguments)
    assert shown.exit_code == 0, shown.stderr
    return shown.stdout


def complaint(*arguments: object) -> str:
    shown = handpick_evaluate(*arguments)
    assert shown.exit_code == 2, shown.output
    (line,) = [line for line in shown.stderr.splitlines() if line.startswith("handpick: ")]
    return line.removeprefix("handpick: ")


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal with room for paths."""
    monkeypatch.setattr("handpick.cli.show.console.width", 300, raising=False)


@pytest.fixture(scope="module")
def boolq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = records(bundled.target_path("boolq"), 6)
    return write_jsonl(tmp_path_factory.mktemp("data") / "boolq_test.jsonl", [
        record | {"subtask": "left" if i % 2 else "right", "example": i // 2} for i, record in enumerate(found)
    ])  # fmt: skip


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(
        tmp_path_factory.mktemp("data") / "prompts.jsonl", [{"id": f"p{i}", "prompt": f"Say {i}."} for i in range(4)]
    )


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of random weights on the shipped model, as PEFT saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    from handpick.model import load_base

    torch.manual_seed(0)
    config = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules="all-linear", init_lora_weights=False)
    folder = tmp_path_factory.mktemp("runs") / "adapter"
    get_peft_model(load_base(str(MODEL), torch.float32), config).save_pretrained(str(folder))
    return folder


def test_it_shows_and_writes_metrics_with_intervals_by_subtask(boolq: Path, tmp_path: Path) -> None:
    shown = good(
        "--model", MODEL, "--target", boolq, "--metric", "loss", "--metric", "choice", "--example-field", "example",
        "--max-new-tokens", 8, "--out", tmp_path,
    )  # fmt: skip
    assert "loss, mean of 2 subtasks" in shown
    assert re.search(r"boolq_test\s+│ loss\s+│\s+[\d.]+ │ +\[[\d.]+, [\d.]+\] │ +3 │", shown)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    task = written["tasks"]["boolq_test"]
    assert set(task["metrics"]) == set(task["macro"]) == {"loss", "choice"}
    assert set(task["subtasks"]) == {"left", "right"}
    assert task["metrics"]["loss"]["n"] == 3
    assert task["metrics"]["loss"]["low"] <= task["metrics"]["loss"]["value"] <= task["metrics"]["loss"]["high"]
    predictions = tmp_path / "predictions-boolq_test.jsonl"
    assert stat.S_IMODE(predictions.stat().st_mode) == 0o600
    kept = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [line["id"] for line in kept] == [record["id"] for record in records_of(boolq)]
    assert all({"prompt", "answer", "scores", "subtask", "example"} <= set(line) for line in kept)


def records_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_adapter_a_whole_model_and_the_base(boolq: Path, adapter: Path, tmp_path: Path) -> None:
    """Merged, the adapter is a whole model of the same loss, which is not the base's."""
    import torch
    from peft import PeftModel
    from transformers import AutoTokenizer

    from handpick.model import load_base

    whole = tmp_path / "whole"
    PeftModel.from_pretrained(load_base(str(MODEL), torch.float32), str(adapter)).merge_and_unload().save_pretrained(
        whole
    )
    AutoTokenizer.from_pretrained(MODEL).save_pretrained(whole)
    losses = {}
    for name, model in {"base": MODEL, "adapter": adapter, "whole": whole}.items():
        good("--model", model, "--target", f"t={boolq}", "--out", tmp_path / f"of-{name}")
        found = json.loads((tmp_path / f"of-{name}" / "evaluation.json").read_text())
        losses[name] = found["tasks"]["t"]["metrics"]["loss"]["value"]
    assert losses["adapter"] == pytest.approx(losses["whole"], rel=1e-4)
    assert abs(losses["base"] - losses["adapter"]) > 0.01
    assert "does not match" in complaint("--model", MODEL, "--target", f"t={boolq}", "--out", tmp_path / "of-adapter")


def test_other_tasks_of_the_same_model_stay(boolq: Path, prompts: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def short(prompts, completions, records):\n    return [len(text) < 9 for text in completions]\n")
    good("--model", MODEL, "--target", boolq, "--out", tmp_path, "--limit", 2)
    good(
        "--model", MODEL, "--target", f"mine={prompts}", "--metric", f"{mine}:short", "--max-new-tokens", 4,
        "--out", tmp_path,
    )  # fmt: skip
    tasks = json.loads((tmp_path / "evaluation.json").read_text())["tasks"]
    assert set(tasks) == {"boolq_test", "mine"}
    assert tasks["boolq_test"]["records"] == 2
    again = ("--metric", "rouge-l", "--max-new-tokens", 4, "--out", tmp_path, "--limit", 2)
    said = " ".join(handpick_evaluate("--model", MODEL, "--target", boolq, *again).stderr.split())
    assert f"loss of boolq_test, measured before, is no longer in {tmp_path}" in said


def test_what_cannot_be_is_one_sentence(boolq: Path, prompts: Path, tmp_path: Path) -> None:
    start = ("--model", MODEL, "--out", tmp_path)
    assert complaint(*start).startswith("nothing to measure: give --target FILE")
    assert complaint(*start, "--target", tmp_path / "none.jsonl") == f"there is no file {tmp_path / 'none.jsonl'}"
    assert complaint(*start, "--target", boolq, "--metric", "acuracy").startswith("no metric 'acuracy'")
    assert complaint(*start, "--target", boolq, "--limit", 0).startswith("--limit should be greater than or equal to 1")
    assert complaint(*start, "--target", f"a/b={boolq}").startswith(f"--target 'a/b={boolq}' names no task")
    assert complaint(*start, "--target", boolq, "--base", MODEL).startswith("--base is for an adapter")
    assert complaint(*start, "--target", prompts, "--metric", "pass@1").startswith("the reward unit-tests runs code")
    assert complaint(*start, "--versus", MODEL).startswith("--versus needs --prompts FILE and --judge")
    assert complaint(*start, "--target", boolq, "--judge", "m").startswith("--judge is for --versus")
    assert complaint("--model", tmp_path / "no", "--target", boolq).startswith("there is no model folder")


def test_what_nothing_would_read_is_refused(boolq: Path, prompts: Path, tmp_path: Path) -> None:
    start = ("--model", MODEL, "--out", tmp_path)
    on_a_task = (*start, "--target", boolq)
    passing = (*on_a_task, "--metric", "pass@1", "--allow-code-execution")
    assert complaint(*passing, "--temperature", 0.2) == (
        "--temperature is for drawn answers, and pass@1 draw none: give --metric pass@10, or pass@1 with --samples, or "
        "leave --temperature out"
    )
    assert complaint(*on_a_task, "--temperature", 0.8).startswith("--temperature is for drawn answers, and loss draw")
    assert complaint(*on_a_task, "--choice", "yes", "--choice", "no") == (
        "--choice is for choice-likelihood: give it as --metric, or leave --choice out"
    )
    versus = (*start, "--versus", MODEL, "--prompts", prompts, "--judge", "rouge-l")
    for flag, value in {"--metric": "loss", "--samples": 3, "--temperature": 0.2, "--choice": "yes"}.items():
        assert complaint(*versus, flag, value) == (
            f"{flag} is for the tasks of --target, and there is none: leave {flag} out"
        )
    flags = {
        "--judge-url": "http://localhost:1/v1", "--judge-key-env": "KEY", "--judge-prompt": "p.txt",
        "--judge-workers": 2, "--judge-temperature": "none", "--max-answer-tokens": 9, "--max-judge-calls": 9,
        "--judge-seed": 1, "--judge-timeout": 9, "--judge-retries": 1,
        "--max-judge-tokens": 9, "--max-judge-cost": 9, "--judge-price-in": 1, "--judge-price-out": 1,
    }  # fmt: skip
    for flag, value in flags.items():
        assert complaint(*versus, flag, value) == (
            f"{flag} is for a language model that judges, and rouge-l is a rule: leave {flag} out, or name one "
            "(--metric judge:MODEL, or --versus with --judge MODEL)"
        )
        assert complaint(*on_a_task, flag, value).startswith(
            f"{flag} is for a language model that judges, and there is none here: leave {flag} out"
        )
    local = (*versus[:-1], f"local:{MODEL}")
    for flag in ("--judge-workers", "--judge-timeout", "--judge-retries", "--judge-seed"):
        assert complaint(*local, flag, 2).startswith(f"{flag} is for a judge behind a server, and local:")


def test_what_is_for_answers_or_tasks_is_refused_where_there_are_none(boolq: Path, tmp_path: Path) -> None:
    start = ("--model", MODEL, "--out", tmp_path)
    for metrics in ((), ("--metric", "loss"), ("--metric", "loss", "--metric", "choice-likelihood:mean")):
        for flag, value in {"--max-new-tokens": 8, "--stop": "."}.items():
            assert complaint(*start, "--target", boolq, *metrics, flag, value).startswith(
                f"{flag} is for answers of the model's own, and loss"
            )
    assert complaint(*start, "--target", boolq, "--stop", ".") == (
        "--stop is for answers of the model's own, and loss asks for none: give a --metric that does, such as "
        "exact-match, or leave --stop out"
    )
    harness = (*start, "--lm-eval", "gsm8k")
    for flag, value in {
        "--metric": ["loss"], "--choice": ["yes"], "--samples": [2], "--temperature": [1], "--subtask-field": ["part"],
        "--batch-tokens": [9],
    }.items():  # fmt: skip
        assert complaint(*harness, flag, *value) == (
            f"{flag} is for the tasks of --target, and there is none: leave {flag} out"
        )
    for flag, value in {
        "--example-field": ["part"], "--max-new-tokens": [8], "--stop": ["."], "--allow-code-execution": [],
        "--allow-weak-sandbox": [],
    }.items():  # fmt: skip
        assert complaint(*harness, flag, *value) == (
            f"{flag} is for --target and --versus, and there is neither: leave {flag} out"
        )
    for flag, value in {"--lm-eval-chat": [], "--lm-eval-include": [str(tmp_path)]}.items():
        assert complaint(*start, "--target", boolq, flag, *value) == (
            f"{flag} is for --lm-eval, and there is none: leave {flag} out"
        )


def test_complaints_name_flags_and_no_key(boolq: Path, tmp_path: Path) -> None:
    start = ("--model", MODEL, "--out", tmp_path, "--target", boolq)
    assert complaint(*start, "--limit", "ten").startswith("--limit should be a valid integer")
    assert complaint(*start, "--metric", "pass@2", "--samples", "many").startswith(
        "--samples should be a valid integer"
    )
    said = complaint(*start, "--metric", "judge:m", "--judge-workers", KEY)
    assert said.startswith("the judge's setting workers: Input should be a valid integer")
    assert KEY not in said


# --- a judge that grades ---


def test_a_judge_is_asked_as_it_was_told_to_be(boolq: Path, server: Server, tmp_path: Path) -> None:
    """And what decided its grades stands beside them."""
    server.respond = lambda prompt, before: says('{"score": 10}')
    strict = tmp_path / "strict.txt"
    strict.write_text("Be strict. {prompt} {answer} {low} {high}", encoding="utf-8")
    good(
        "--model", MODEL, "--target", f"t={boolq}", "--metric", "judge:m", "--judge-url", server.url,
        "--judge-key-env", KEY_ENV, "--judge-prompt", strict, "--judge-temperature", "none",
        "--max-answer-tokens", 4096, "--judge-workers", 1, "--max-new-tokens", 4, "--out", tmp_path / "out",
        "--judge-seed", "none", "--judge-timeout", 9.5, "--judge-retries", 0,
    )  # fmt: skip
    assert server.most_at_once == 1
    for asked in server.asked:
        assert "temperature" not in asked.body
        assert "seed" not in asked.body
        assert asked.body["max_tokens"] == 4096
        assert asked.prompt.startswith("Be strict.")
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())["tasks"]["t"]["task"]["rewards"]
    assert written == {
        "judge:m": {
            "reward": "judge", "model": "m", "temperature": None, "seed": None, "max_answer_tokens": 4096,
            "prompt": file_digest(strict),
        },
    }  # fmt: skip


def test_a_judge_that_gives_no_grade_ends_it_and_what_was_answered_is_kept(
    boolq: Path, server: Server, tmp_path: Path
) -> None:
    start = (
        "--model", MODEL, "--target", f"t={boolq}", "--metric", "judge:m", "--judge-url", server.url,
        "--judge-key-env", KEY_ENV, "--max-new-tokens", 4, "--judge-retries", 0, "--out", tmp_path,
    )  # fmt: skip
    server.respond = lambda prompt, before: says("7/10") if len(prompt) % 2 else Response(status=500)
    message = "judge:m has no record left of the 6 of t: judge:m gave no grade"
    assert complaint(*start) == message
    kept = [json.loads(line) for line in (tmp_path / "predictions-t.jsonl").read_text().splitlines()]
    assert all(line["scores"] == {} and line["left_out"] == "judge:m gave no grade" for line in kept)
    assert len({line["answer"] for line in kept}) > 0
    assert (tmp_path / "verdicts" / "judge.jsonl").exists()
    assert not (tmp_path / "evaluation.json").exists()
    server.respond = lambda prompt, before: says('{"score": 10}', delay=5)
    assert complaint(*start, "--judge-timeout", 0.2) == message  # what failed is asked again
    server.released.set()
    half = good(*start)
    assert "records of t left out" in half or (tmp_path / "evaluation.json").exists()
    found = json.loads((tmp_path / "evaluation.json").read_text())["tasks"]["t"]
    assert found["metrics"]["judge:m"]["value"] == 1  # of those that could be read
    assert found["records"] + found["left_out"] == 6
    assert found["left_out"] == sum("7/10" in line for line in (tmp_path / "verdicts" / "judge.jsonl").open()) / 2


# --- against another model ---


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv(KEY_ENV, KEY)
    with running() as server:
        yield server


def verdicts(folder: Path) -> list[dict[str, Any]]:
    assert stat.S_IMODE((folder / "verdicts.jsonl").stat().st_mode) == 0o600
    return records_of(folder / "verdicts.jsonl")


def test_against_another_model_by_a_judge(adapter: Path, prompts: Path, server: Server, tmp_path: Path) -> None:
    """A judge that always prefers the first place: every pair flips, so all tie; asked again, nobody is asked."""
    server.respond = lambda prompt, before: says('{"verdict": "A"}')
    start = (
        "--model", MODEL, "--versus", adapter, "--prompts", prompts, "--judge", "m", "--judge-url", server.url,
        "--judge-key-env", KEY_ENV, "--max-new-tokens", 6, "--out", tmp_path,
    )  # fmt: skip
    shown = good(*start)
    assert "0 won, 4 tied, 0 lost" in shown
    assert "4 ties because the two orders disagree" in shown
    assert len(server.asked) == 8
    found = verdicts(tmp_path)
    assert [(v["first"], v["second"], v["outcome"]) for v in found] == [("a", "b", "tie")] * 4
    assert all(v["a"] != v["b"] for v in found)
    good(*start)
    assert len(server.asked) == 8
    written = json.loads((tmp_path / "versus.json").read_text())
    assert written["winning_score"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 4}
    # one that knows which answer is the first model's
    first = {v["a"] for v in found}
    server.respond = lambda prompt, before: says(
        json.dumps({"verdict": "A" if min(prompt.find(a) % 10**6 for a in first) < shortest(prompt, found) else "B"})
    )
    shown = good(*start[:-1], tmp_path / "again")
    assert "4 won, 0 tied, 0 lost" in shown
    assert "winning score 2.0000" in shown


def test_two_evaluations_are_compared_test_by_test(adapter: Path, boolq: Path, tmp_path: Path) -> None:
    for name, model in (("a", MODEL), ("b", adapter)):
        good("--model", model, "--target", f"boolq={boolq}", "--metric", "loss", "--out", tmp_path / name)
    shown = CliRunner().invoke(app, ["diff", str(tmp_path / "a"), str(tmp_path / "b")])
    assert shown.exit_code == 0, shown.stderr
    losses = [
        json.loads((tmp_path / name / "evaluation.json").read_text())["tasks"]["boolq"]["metrics"]["loss"]["value"]
        for name in "ab"
    ]
    (row,) = [line for line in shown.stdout.splitlines() if "boolq" in line]
    cells = row.split()
    assert cells[:4] == ["boolq", "loss", *(f"{loss:.4f}" for loss in losses)]
    assert float(cells[4]) == pytest.approx(losses[0] - losses[1], abs=1e-4)
    assert cells[-1] == "6"
    assert f"first: {tmp_path / 'a'}\nsecond: {tmp_path / 'b'}\n" in shown.stdout
    assert "so of loss below 0 the first is better" in shown.stdout
    shown = CliRunner().invoke(app, ["diff", str(tmp_path / "a"), str(tmp_path)])
    assert shown.exit_code == 2
    assert "evaluation.json: name a folder that `handpick evaluate` wrote" in " ".join(shown.stderr.split())


def shortest(prompt: str, found: list[dict[str, Any]]) -> int:
    """Where the first of the other model's answers stands."""
    return min(prompt.find(v["b"]) % 10**6 for v in found)


def test_a_cap_on_the_judge_ends_it_and_nothing_is_lost(
    adapter: Path, prompts: Path, server: Server, tmp_path: Path
) -> None:
    server.respond = lambda prompt, before: says('{"verdict": "tie"}')
    start = (
        "--model", MODEL, "--versus", adapter, "--prompts", prompts, "--judge", "m", "--judge-url", server.url,
        "--judge-key-env", KEY_ENV, "--max-new-tokens", 6, "--out", tmp_path,
    )  # fmt: skip
    assert "raise the cap and run again" in complaint(*start, "--max-judge-calls", 3)
    assert len(server.asked) == 3
    good(*start)
    assert len(server.asked) == 8


def test_against_another_model_by_a_rule(adapter: Path, prompts: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def longer(prompts, completions, records):\n    return [len(text) for text in completions]\n")
    shown = good(
        "--model", MODEL, "--versus", adapter, "--prompts", prompts, "--judge", f"{mine}:longer",
        "--max-new-tokens", 6, "--out", tmp_path,
    )  # fmt: skip
    found = verdicts(tmp_path)
    wins, losses = (sum(len(v[x]) > len(v[y]) for v in found) for x, y in ("ab", "ba"))
    assert wins != losses
    assert f"{wins} won, {4 - wins - losses} tied, {losses} lost" in shown
    assert f"winning score {(wins - losses) / 4 + 1:.4f}" in shown
    bare = {"id": "bare", "messages": [{"role": "assistant", "content": "So."}]}
    asked = write_jsonl(tmp_path / "asked.jsonl", [*records_of(prompts), bare])
    shown = handpick_evaluate(
        "--model", MODEL, "--versus", adapter, "--prompts", asked, "--judge", f"{mine}:longer",
        "--max-new-tokens", 6, "--out", tmp_path,
    )  # fmt: skip
    assert "1 of 5 prompts are left out; bare: no prompt" in " ".join(shown.stderr.split())


def test_a_function_in_a_module_is_a_rule(
    adapter: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No judge is asked: there is no server, and no key."""
    (tmp_path / "my_rules").mkdir()
    (tmp_path / "my_rules" / "__init__.py").touch()
    (tmp_path / "my_rules" / "lengths.py").write_text(
        "def longer(prompts, completions, records):\n    return [len(text) for text in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    good(
        "--model", MODEL, "--versus", adapter, "--prompts", prompts, "--judge", "my_rules.lengths:longer",
        "--max-new-tokens", 6, "--out", tmp_path / "out",
    )  # fmt: skip
    for found in verdicts(tmp_path / "out"):
        a, b = len(found["a"]), len(found["b"])
        assert found["outcome"] == ("a" if a > b else "b" if b > a else "tie")


def test_help_teaches() -> None:
    shown = " ".join(good("--help-all").split())
    assert "--judge gpt-5-mini --judge-temperature none" in shown
    for words in ("--versus", "--lm-eval", "--allow-code-execution", "exact-match:last-number"):
        assert words in shown
