"""What ``handpick iterselect`` leaves is a selection to the commands that read one."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import handpick
from handpick.cli import app
from handpick.errors import SettingsError
from handpick.finetuning.train import model_of, open_records
from tests.reporting.iterated import explained_of, iterated_folder, pool_of


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("iter") / "run"
    return iterated_folder(out, pool_of(40), explained_of(12), settings={"model": str(tiny_model)})


def test_report(folder: Path) -> None:
    shown = run("report", folder)
    assert shown.exit_code == 0, shown.stderr
    assert shown.stdout.splitlines() == [str(folder / "report.html")]
    assert "chosen by iterselect" in (folder / "report.html").read_text()


def test_diff(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "drawn"
    drawn = handpick.select(str(folder.parent / "pool.jsonl"), method="random", budget=20, out=str(out))
    common = len({each["id"] for each in explained_of(12)} & set(drawn.ids))
    shown = run("diff", folder, out)
    assert shown.exit_code == 0, shown.stderr
    said = " ".join(shown.stdout.split())
    assert f"{common} examples in both, of 12 and 20: Jaccard {common / (32 - common):.3f}" in said
    assert "different pools" not in said
    assert re.search(r"\br0\b", said)  # a hard example, by which some were picked


def test_train_takes_its_model_and_its_records(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert model_of(folder, None) == str(tiny_model.resolve())
    with open_records(folder, str(tiny_model), 128, tmp_path) as data:
        assert [each.id for each in data.examples] == [each["id"] for each in explained_of(12)]
        assert len(data.sequences) == 12
        assert data.n_left_out == 0


def test_train_without_a_model_that_can_be_named(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "nameless"
    copy.mkdir()
    summary = json.loads((folder / "selection.json").read_text())
    del summary["settings"]["model"], summary["digest"]
    (copy / "selection.json").write_text(json.dumps(summary))
    (copy / "selected.jsonl").write_bytes((folder / "selected.jsonl").read_bytes())
    with pytest.raises(SettingsError, match="name one with --model"):
        model_of(copy, None)
