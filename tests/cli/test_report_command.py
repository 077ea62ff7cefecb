"""``handpick report``: what it writes, and what it says where it cannot."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import handpick
import handpick.cli.report
from handpick.cli import app
from handpick.studies.cells import Cell, Results
from tests.conftest import write_jsonl


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def chosen(pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    pool, query = write_jsonl(folder / "p.jsonl", pool_records), write_jsonl(folder / "q.jsonl", query_records)
    handpick.select(str(pool), str(query), budget=6, method="bm25", out=str(folder / "run"))
    return folder / "run"


def test_help_teaches() -> None:
    shown = run("--help")
    assert shown.exit_code == 0
    assert "handpick report runs/gsm8k" in shown.stdout


def test_a_selection(chosen: Path) -> None:
    shown = run(chosen)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines() == [str(chosen / "report.html")]
    assert "6 of 120 examples" in (chosen / "report.html").read_text()


def test_a_selection_against_a_test_set(chosen: Path, tmp_path: Path) -> None:
    first = json.loads((chosen / "selected.jsonl").read_text().splitlines()[0])
    leak = write_jsonl(tmp_path / "leak.jsonl", [first | {"id": "leaked"}])
    assert run(chosen, "--test", leak).exit_code == 0
    assert "repeat a test item" in (chosen / "report.html").read_text()


def test_a_study(tmp_path: Path) -> None:
    cells = [Cell(model="m", method="bm25", target="t", budget=8, seed=s, metrics={"loss": 1.0 + s}) for s in range(3)]
    Results(name="small", cells=cells).save(tmp_path / "results.json")
    shown = run(tmp_path)
    assert shown.exit_code == 0, shown.stderr
    assert "small" in (tmp_path / "report.html").read_text()
    with (tmp_path / "report" / "summary-1.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["method"], float(row["mean"]), int(row["n"])) == ("bm25", 2.0, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{empty}"], "holds neither a selection (selection.json) nor a study (results.json)"),
        (["{chosen}", "--out", "x"], "--out is for --published"),
        (["{empty}", "--published", "tis"], "--published needs --out"),
        (["{empty}", "--published", "tisn", "--out", "{empty}"], "did you mean 'tis'"),
        (["{empty}", "--published", "tis", "--out", "{empty}", "--test", "x"], "--test is for the report of a sel"),
        (["{study}", "--test", "x"], "this is a study"),
        (["{chosen}", "--test", "nowhere.jsonl"], "there is no file nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], said: str, chosen: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Results(name="none", cells=[]).save(tmp_path / "study" / "results.json")
    folders = {"empty": tmp_path / "empty", "chosen": chosen, "study": tmp_path / "study"}
    shown = run(*(argument.format(**folders) for argument in arguments))
    assert shown.exit_code == 2
    assert said in shown.stderr.replace("\n", " ")
    assert "Traceback" not in shown.stderr
