"""``handpick iterselect`` from the command line, without a judge."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from handpick.cli import app
from tests.conftest import write_jsonl
from tests.iterselecttune.conftest import tiny_classifier, tiny_sentences, world

__all__ = ["tiny_classifier", "tiny_sentences"]  # fixtures

runner = CliRunner()


@pytest.fixture
def given(tmp_path: Path, tiny_model: Path, tiny_classifier: Path, tiny_sentences: Path) -> list[str]:
    pool = write_jsonl(tmp_path / "pool.jsonl", world(60))
    return [
        "iterselect", "--pool", str(pool), "--model", str(tiny_model), "--judge", "rule:rouge-l", "--out",
        str(tmp_path / "out"), "--rounds", "1", "--batch", "12", "--clusters", "3", "--max-new-tokens", "4",
        "--encoder", str(tiny_sentences), "--classifier", str(tiny_classifier), "--hard-below", "2", "--seed", "3",
    ]  # fmt: skip


def test_from_a_pool_to_a_choice(given: list[str], tmp_path: Path) -> None:
    result = runner.invoke(app, given)
    assert result.exit_code == 0, result.output
    assert "1 round of up to 12 examples: 12 answers of the base model" in result.output
    assert "no judge is asked: a rule decides" in result.output
    assert "12 chosen: 12 judged hard, 0 by the classifier and likeness" in result.output
    rows = [line.split() for line in result.output.splitlines() if line.strip().startswith("1 ")]
    assert ["1", "12", "12", "0", "0", "0", "0", "0", "–", "–", "–", "–"] in rows
    assert "the classifier and the embeddings read prompts alone" in result.stdout
    assert len((tmp_path / "out" / "selected.jsonl").read_bytes().splitlines()) == 12
    assert json.loads((tmp_path / "out" / "selection.json").read_bytes())["settings"]["seed"] == 3


def test_a_dry_run_does_nothing(given: list[str], tmp_path: Path) -> None:
    result = runner.invoke(app, [*given, "--dry-run"])
    assert result.exit_code == 0
    assert "12 answers of the base model, of up to 4 tokens each" in result.output
    assert "read prompts alone (--reads prompt)" in result.output
    assert not (tmp_path / "out" / "rounds").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--judge", "rule:nonsense"], "nonsense"),
        (["--budget", "2M tokens"], "iterselect counts examples: give --budget as a number or a percent"),
        (["--budget", "61"], "the budget is 61 examples and the pool has 60"),
        (["--alpha", "2"], "--alpha should be less than or equal to 1, not '2'"),
        (["--max-judge-calls", "5"], "--max-judge-calls is for a judge, and rule:rouge-l is a rule: leave it out"),
        (["--judge", "rule:judge:m"], "judge:m is a judge and no rule"),
        (["--classifier", "/nowhere"], "/nowhere"),
        (["--max-length", "100", "--max-new-tokens", "100"], "leave no room for a prompt in 100"),
        (["--verdict", "coin"], "--verdict"),
        (["--reads", "answers"], "--reads"),
        (
            ["--judge", "rule:exact-match:last-number"],
            "(none of the 60 examples that the model can answer can be judged)",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence_before_any_work(
    given: list[str], tmp_path: Path, flags: list[str], says: str
) -> None:
    result = runner.invoke(app, [*given, *flags])
    assert result.exit_code == 2
    assert says in " ".join(result.output.split())
    assert not (tmp_path / "out" / "rounds").exists()


def test_what_a_rule_cannot_judge_is_passed_over(given: list[str], tmp_path: Path) -> None:
    pool = world(20)
    for record in pool[:15]:
        record["answer"] = 7
    write_jsonl(tmp_path / "pool.jsonl", pool)
    result = runner.invoke(app, [*given, "--judge", "rule:exact-match:last-number", "--budget", "12"])
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "5 examples that cannot be judged are passed over; the first: no reference answer" in said
    assert "12 chosen" in said


def test_a_weak_sandbox_is_allowed_by_its_own_flag(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {"bwrap": "no bwrap", "namespaces": "no namespaces", "weak": None}
    monkeypatch.setattr("handpick.sandbox.find.why_not", reasons.__getitem__)
    flags = [*given, "--judge", "rule:unit-tests", "--allow-code-execution", "--dry-run"]
    refused = runner.invoke(app, flags)
    assert refused.exit_code == 2
    assert "--allow-weak-sandbox" in refused.output
    allowed = runner.invoke(app, [*flags, "--allow-weak-sandbox"])
    assert allowed.exit_code == 0, allowed.output
    asked = runner.invoke(app, [*given[:-4], "--seed", "3", "--judge", "m", "--allow-weak-sandbox"])
    assert "--allow-weak-sandbox is for a rule, and m is a judge: leave it out" in " ".join(asked.output.split())


def test_the_help_teaches() -> None:
    result = runner.invoke(app, ["iterselect", "--help-all"], env={"COLUMNS": "120"})
    assert result.exit_code == 0
    for word in ("rule:rouge-l", "local:", "--max-judge-calls", "--dry-run", "--alpha", "--reads"):
        assert word in result.output
