"""``handpick study`` on the shipped model: the real small thing."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import handpick.cli.study  # noqa: F401
from handpick import bundled
from handpick.cli import app
from tests.conftest import records, write_jsonl


@pytest.fixture
def config(tmp_path: Path, pool_records: list[dict[str, Any]]) -> Path:
    """A study of two targets with a budget of eight, on the shipped model."""
    write_jsonl(tmp_path / "pool.jsonl", pool_records[:40])
    targets = {}
    for target in ("gsm8k", "mbpp"):
        found = records(bundled.target_path(target), 8)
        write_jsonl(tmp_path / f"{target}-dev.jsonl", found[:4])
        write_jsonl(tmp_path / f"{target}-test.jsonl", found[4:])
        targets[target] = {
            "query": str(tmp_path / f"{target}-dev.jsonl"),
            "test": str(tmp_path / f"{target}-test.jsonl"),
        }
    path = tmp_path / "study.yaml"
    study = {
        "name": "small", "out": str(tmp_path / "out"), "pool": str(tmp_path / "pool.jsonl"),
        "models": {"shipped": str(bundled.model_path())}, "targets": targets, "methods": ["bm25"], "budgets": [8],
        "seeds": 1, "draws": 1, "baselines": ["zero-shot", "random", "longest"], "max_length": 256,
        "train": {"epochs": 2, "batch": 4},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.mark.slow
def test_a_study_of_the_shipped_model_from_the_command_line(config: Path) -> None:
    before = CliRunner().invoke(app, ["study", str(config), "--dry-run"])
    assert before.exit_code == 0, before.output
    assert "training: 0 of 4 done" in before.output
    assert "what is measured of a training that is named once chosen is not listed yet" in before.output
    ran = CliRunner().invoke(app, ["study", str(config)])
    assert ran.exit_code == 0, ran.output
    assert "8 of 8 cells done, 0 failed" in ran.output
    cells = json.loads((config.parent / "out" / "results.json").read_text())["cells"]
    assert {cell["method"] for cell in cells} == {"zero-shot", "bm25", "random", "longest"}
    for target in ("gsm8k", "mbpp"):
        loss = {cell["method"]: cell["metrics"]["loss"] for cell in cells if cell["target"] == target}
        assert len(set(loss.values())) == 4
    after = CliRunner().invoke(app, ["study", str(config), "--dry-run"])
    assert "to do" not in after.output


def test_failed_cells_are_counted_and_the_exit_says_so(config: Path) -> None:
    study = yaml.safe_load(config.read_text())
    study |= {"budgets": [400], "baselines": ["random"], "methods": []}
    config.write_text(yaml.safe_dump(study))
    why = "the budget is 400, and 40 of the pool can be trained on"
    listed = CliRunner().invoke(app, ["study", str(config), "--dry-run"])
    assert f"will fail: random, gsm8k, 400, seed 0 and 1 more: {why}" in listed.output
    ran = CliRunner().invoke(app, ["study", str(config)])
    assert ran.exit_code == 1
    assert "0 of 2 cells done, 2 failed" in ran.output


def test_code_that_must_not_run_is_said_before_anything_is_trained(config: Path) -> None:
    study = yaml.safe_load(config.read_text())
    study["tests"] = {"metrics": ["loss", "unit-tests"]}
    config.write_text(yaml.safe_dump(study))
    listed = CliRunner().invoke(app, ["study", str(config), "--dry-run"])
    assert listed.exit_code == 0, listed.output
    assert "training:" not in listed.output
    assert re.search(r"will fail: zero-shot, gsm8k, seed 0 and 7 more: .*allow_code_execution", listed.output)


def test_a_mistake_is_one_line(config: Path) -> None:
    config.write_text(config.read_text() + "budget: 3\n")
    ran = CliRunner().invoke(app, ["study", str(config)])
    assert ran.exit_code == 2
    assert "no setting 'budget'" in ran.output
