"""What the template does not write is said once by every command that renders, kept in its folder, and reported."""

import json
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.data.examples import Conversation
from handpick.data.render import Renderer
from handpick.data.unwritten import Unwritten, read_unwritten
from handpick.finetuning.train import run_export
from handpick.pipeline import run_represent
from handpick.reporting.checks import checks
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.settings import Settings
from tests.conftest import write_jsonl

SAID = "4 records of the pool carry system; this template does not write it (first: told-0)"


@pytest.fixture(autouse=True)
def _no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwritten(self: Renderer, conversation: Conversation) -> tuple[str, ...]:
        return ("system",) if conversation[0].role == "system" else ()

    monkeypatch.setattr(Renderer, "unwritten", unwritten, raising=False)


@pytest.fixture
def settings(
    tiny_model: Path, pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path: Path
) -> Settings:
    """Of a run by response loss, which renders and computes little."""
    told = [
        {"id": f"told-{n}", "messages": [{"role": "system", "content": "Be brief."}, *record["messages"]]}
        for n, record in enumerate(pool_records[:4])
    ]
    return Settings(
        pool=[str(write_jsonl(tmp_path / "pool.jsonl", [*pool_records[:12], *told]))],
        query=[str(write_jsonl(tmp_path / "query.jsonl", query_records[:2]))],
        model=str(tiny_model),
        method="gradient-rr",
        warmup="none",
        projection_dim=64,
        max_length=192,
        budget="16",
        out=str(tmp_path / "run"),
    )  # fmt: skip


def test_a_selection_says_it_keeps_it_and_reports_it(
    settings: Settings, capsys: pytest.CaptureFixture[str], tiny_model: Path, tmp_path: Path
) -> None:
    selection = handpick.select(settings=settings)
    said = capsys.readouterr().err
    assert said.count(SAID) == 1
    assert said.index(SAID) < said.index("pool")  # before any work
    run = open_run(Path(str(settings.out)))
    assert run.unwritten == {"pool": {"system": Unwritten(4, "told-0")}}
    (found,) = [check for check in checks(run) if check.name == "Not written by the template"]
    assert found.state == "warn"
    assert SAID in found.said
    assert SAID in write_selection_report(run.path).read_text()

    run_export(run.path, "axolotl", tmp_path / "export", str(tiny_model), max_length=192)
    assert "4 records of the selection carry system" in capsys.readouterr().err
    kept = read_unwritten(tmp_path / "export" / "unwritten.json")
    (first,) = [each for each in selection.ids if each.startswith("told")][:1]
    assert kept == {"selection": {"system": Unwritten(4, first)}}


def test_features_alone_and_a_plan_say_it(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    handpick.plan("select", settings=settings, probe_seconds=0.1)
    assert capsys.readouterr().err.count(SAID) == 1
    assert not (Path(str(settings.out)) / "unwritten.json").exists()  # a plan writes nothing
    run_represent(settings.model_copy(update={"query": []}))
    assert capsys.readouterr().err.count(SAID) == 1
    assert json.loads((Path(str(settings.out)) / "unwritten.json").read_text())["pool"]["system"]["records"] == 4


def test_a_run_that_renders_nothing_says_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    handpick.select(settings.pool[0], method="random", budget=4, out=settings.out)
    assert "does not write" not in capsys.readouterr().err
    assert not (Path(str(settings.out)) / "unwritten.json").exists()


def test_a_test_set_is_looked_at_too(
    tiny_model: Path, query_records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [{**r, "messages": [{"role": "system", "content": "s"}, *r["messages"]]} for r in query_records[:2]]
    test = write_jsonl(tmp_path / "test.jsonl", told)
    handpick.evaluate(str(tiny_model), str(test), metrics="loss", out=str(tmp_path / "evaluation"))
    assert "2 records of the task test carry system; this template does not write it" in capsys.readouterr().err
    assert set(read_unwritten(tmp_path / "evaluation" / "unwritten.json")) == {"task test"}
