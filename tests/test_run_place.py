"""Whatever a run writes may be in a bucket, and whoever takes a run takes it from there, on another machine too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import handpick
from handpick import bundled
from handpick.cli.app import app
from handpick.errors import SettingsError, StoreError
from handpick.run_place import fetch_place, folder_of, hold_place, name_of
from tests.buckets import Bucket, objects_below
from tests.conftest import records, write_jsonl

AT = "bucket://bucket/runs"
Machine = Callable[[str], None]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Go to a machine, which has nothing of what the others have."""
    Bucket.empty()

    def go_to(name: str) -> None:
        (tmp_path / name).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / name / "cache"))

    go_to("one")
    return go_to


def choose(tmp_path: Path, pool: list[dict[str, Any]], out: str, **settings: Any) -> handpick.Selection:
    files = {
        "pool": write_jsonl(tmp_path / "pool.jsonl", pool),
        "query": write_jsonl(tmp_path / "dev.jsonl", records(bundled.target_path("gsm8k"), 4)),
    }
    return handpick.select(str(files["pool"]), str(files["query"]), method="bm25", budget=4, out=out, **settings)


def test_a_choice_is_trained_on_and_measured_on_other_machines(
    machine: Machine, tmp_path: Path, pool_records: list[dict[str, Any]], tiny_model: Path
) -> None:
    choose(tmp_path, pool_records[:20], f"{AT}/x")
    choose(tmp_path, pool_records[:20], str(tmp_path / "x"))
    recipe = ["--recipe", "small", "--epochs", "1", "--batch", "2", "--max-length", "64"]
    machine("folders")
    here = run("train", "--selection", str(tmp_path / "x"), "--model", str(tiny_model), *recipe)
    assert here.exit_code == 0, here.output

    machine("two")
    found = run("train", "--selection", f"{AT}/x", "--model", str(tiny_model), *recipe)
    assert found.exit_code == 0, found.output
    assert f"{AT}/x/model: the model" in found.output
    assert f"handpick evaluate --model {AT}/x/model" in found.output
    trained = objects_below(f"{AT}/x/model")
    own = {path.name: path.read_bytes() for path in (tmp_path / "x" / "model").iterdir() if path.is_file()}
    assert {name for name in own if trained.get(name) != own[name]} == {
        "train.yaml",
        "quarantine.jsonl",
    }  # these name the selection
    assert f"selection: {AT}/x\n" in trained["train.yaml"].decode()

    machine("three")
    test = write_jsonl(tmp_path / "test.jsonl", records(bundled.target_path("gsm8k"), 8)[4:])
    found = run(
        *("evaluate", "--model", f"{AT}/x/model", "--target", str(test), "--metric", "loss", "--max-length", "256"),
        *("--out", f"{AT}/measured"),
    )
    assert found.exit_code == 0, found.output
    there = json.loads(objects_below(f"{AT}/measured")["evaluation.json"])
    machine("folders")
    here = run(
        *("evaluate", "--model", str(tmp_path / "x" / "model"), "--target", str(test), "--metric", "loss"),
        *("--max-length", "256", "--out", "measured"),
    )
    assert here.exit_code == 0, here.output
    assert there["tasks"] == json.loads(Path("measured/evaluation.json").read_text())["tasks"]
    assert f"{AT}/measured/evaluation.json" in found.output


def test_a_report_is_made_of_a_run_in_a_bucket_and_put_there(
    machine: Machine, tmp_path: Path, pool_records: list[dict[str, Any]]
) -> None:
    choose(tmp_path, pool_records[:20], f"{AT}/x")
    machine("two")
    found = run("report", f"{AT}/x")
    assert found.exit_code == 0, found.output
    assert found.output.strip().endswith(f"{AT}/x/report.html")
    assert b"<html" in objects_below(f"{AT}/x")["report.html"]
    assert handpick.report(f"{AT}/x").read_bytes() == objects_below(f"{AT}/x")["report.html"]


def test_where_no_run_is_that_is_said(tiny_model: Path) -> None:
    for command in (
        ("train", "--selection", f"{AT}/none", "--model", str(tiny_model)),
        ("evaluate", "--model", f"{AT}/none", "--target", str(bundled.target_path("gsm8k")), "--metric", "loss"),
        ("report", f"{AT}/none"),
    ):
        found = run(*command)
        assert found.exit_code == 2
        assert f"there is no run at {AT}/none: give the address" in found.output
    assert objects_below(AT) == {}


def test_what_is_only_read_claims_nothing(machine: Machine, tmp_path: Path, pool_records: list[dict[str, Any]]) -> None:
    choose(tmp_path, pool_records[:20], f"{AT}/x")
    before = objects_below(f"{AT}/x")
    machine("two")
    for _ in range(2):
        folder = fetch_place(f"{AT}/x")
    assert objects_below(f"{AT}/x") == before
    assert {"selected.jsonl", "selection.json"} <= {path.name for path in folder.iterdir()}
    with hold_place(f"{AT}/x"), pytest.raises(StoreError, match="another run is writing in"):
        fetch_place(f"{AT}/x")


def test_records_in_memory_have_no_place_in_a_bucket(tiny_model: Path, pool_records: list[dict[str, Any]]) -> None:
    with pytest.raises(SettingsError, match=r"written beside the model, and bucket://bucket/m is in a bucket"):
        handpick.train(pool_records[:2], model=str(tiny_model), out="bucket://bucket/m")


def test_processes_that_train_together_do_not_meet_in_a_bucket(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="meet in a folder, and a bucket is none"):
        handpick.train(f"{AT}/x", model=str(tiny_model))


def test_a_key_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="carries a user") as told:
        folder_of("s3://name:secret@bucket/x")
    assert "secret" not in str(told.value)


def test_names(tmp_path: Path) -> None:
    folder = folder_of(f"{AT}/x/")
    assert folder.is_relative_to(tmp_path / "one" / "cache")
    assert name_of(f"{AT}/x/", folder) == f"{AT}/x"
    assert name_of(f"{AT}/x", folder / "a" / "b.json") == f"{AT}/x/a/b.json"
    assert name_of("runs/x", Path("runs/x/a")) == "runs/x/a"
