"""The audition from the command line, and from a file of settings."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import handpick
from handpick.auditions import run as module
from handpick.auditions.decision import Decision
from handpick.cli import app


def flags(values: dict[str, Any]) -> list[str]:
    return [part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", str(value))]


QUICK = {"methods": "bm25", "draws": 2, "repeats": 1, "probe": 1}


def test_a_dry_run_says_the_rounds_and_trains_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["audition", "--dry-run", *flags(values | QUICK)])
    assert found.exit_code == 0, found.output
    assert "round 1: 1 candidates and 2 random draws, 16 examples each; 4 trainings of" in found.output
    assert not list((tmp_path / "run" / "audition").glob("steps/training-*"))
    assert not (tmp_path / "run" / "audition" / "plan.json").exists()
    planned = CliRunner().invoke(app, ["plan", "select", "--json", "--method", "auto", *flags(values | QUICK)])
    assert json.loads(planned.stdout[planned.stdout.index("{") :])["rounds"][0]["examples"] == 16


def test_what_an_audition_finds_select_takes(values: dict[str, Any], tmp_path: Path) -> None:
    given = {name: each for name, each in (values | QUICK).items() if name != "probe"}
    found = CliRunner().invoke(app, ["audition", *flags(given)])
    assert found.exit_code == 0, found.output
    record = json.loads((tmp_path / "run" / "audition" / "audition.json").read_text())
    assert record["finished"]
    assert " ".join(record["why"].split()) in " ".join(found.output.split())
    chosen = CliRunner().invoke(app, ["select", "--method", "auto", *flags(given)])
    assert chosen.exit_code == 0, chosen.output
    assert " ".join(record["why"].split()) in " ".join(chosen.output.split())
    assert (tmp_path / "run" / "selected.jsonl").read_text().count("\n") == 20


@pytest.mark.slow
def test_a_file_of_settings_holds_an_audition(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "decide", lambda *_: Decision("words", "words it is"))
    own = {"methods": {"words": {"method": "bm25"}}, "draws": 2, "repeats": 1, "train": {"epochs": 1, "batch": 8}}
    config = tmp_path / "auto.yaml"
    config.write_text(yaml.safe_dump(values | {"method": "auto", "audition": own}))
    found = CliRunner().invoke(app, ["run", str(config)])
    assert found.exit_code == 0, found.output
    assert "words it is" in found.output
    in_python = handpick.select(**values | {"out": str(tmp_path / "again")}, method="auto", audition=own)
    assert len(in_python) == 20
    # what was written brings the choice back without an audition
    again = CliRunner().invoke(app, ["run", str(tmp_path / "run" / "settings.yaml")])
    assert again.exit_code == 0, again.output
    assert "bm25" in again.output


@pytest.mark.parametrize(
    ("command", "given", "sentence"),
    [
        ("select", ["--methods", "bm25"], "--methods is for --method auto: leave it out"),
        ("select", ["--time-limit", "2h", "--method", "bm25"], "--time-limit is for --method auto: leave it out"),
        ("select", ["--method", "auto", "--if-none", "perhaps"], "--if-none should be 'random', 'union' or 'stop'"),
        ("audition", ["--methods", "bm25,no"], "there is no method 'no'"),
        ("audition", ["--share", "2"], "--share should be less than or equal to 1"),
        ("represent", ["--method", "auto"], "auto is found by an audition"),
    ],
)
def test_what_cannot_be_is_one_sentence(command: str, given: list[str], sentence: str, values: dict[str, Any]) -> None:
    ours = values if command != "represent" else {name: values[name] for name in ("pool", "model")}
    found = CliRunner().invoke(app, [command, *flags(ours), *given])
    assert found.exit_code == 2
    assert sentence in " ".join(found.output.split())
    assert "Traceback" not in found.output
