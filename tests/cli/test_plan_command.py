"""``handpick plan`` as a person and as a script sees it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import handpick.cli.plan
from handpick.cli import app
from tests.conftest import write_jsonl


def plan(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["plan", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def flags(
    tiny_model: Path, pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[object]:  # fmt: skip
    folder = tmp_path_factory.mktemp("data")
    pool = write_jsonl(folder / "pool.jsonl", pool_records[:20])
    query = write_jsonl(folder / "query.jsonl", query_records[:2])
    return [
        "--pool", pool, "--query", query, "--model", tiny_model, "--budget", 5, "--method", "gradient-rr", "--warmup",
        "none", "--projection-dim", 256, "--probe", 1, "--out", folder / "out",
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["", "select", "represent", "evaluate", "study"])
def test_help(command: str) -> None:
    shown = plan(*command.split(), "--help")
    assert shown.exit_code == 0
    assert shown.stdout.strip().startswith("Usage: ")


def test_a_table_for_people(flags: list[object]) -> None:
    shown = plan("select", *flags)
    assert shown.exit_code == 0, shown.output
    for word in ("stage", "pool features", "query features", "total", "all 20 records were tokenised"):
        assert word in shown.stdout
    assert max(map(len, shown.stdout.split("\n\n")[0].splitlines()[:6])) <= 80
    assert "…" not in shown.stdout


def test_numbers_for_machines(flags: list[object]) -> None:
    found = json.loads(plan("select", *flags, "--json").stdout)
    beside = {"training", "ratio", "passes", "money", "rule"}
    assert {"command", "stages", "total", "notes", "cheaper"} | beside == found.keys()
    assert found["total"]["disk"] > 2 * 20 * 256


def test_the_bill_on_several_devices(flags: list[object]) -> None:
    given = (*flags, "--shard-rows", 4, "--devices", "1,2,64", "--examples-per-second", 1000)
    shown = plan("select", *given, "--price-per-hour", 2.5)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"devices +time +driver alone +device hours +money", shown.stdout)
    assert "1e+03 examples a second were given" in shown.stdout
    found = json.loads(plan("select", *given, "--json").stdout)
    assert [each["devices"] for each in found["devices"]] == [1, 2, 64]
    assert found["devices"][0]["seconds"] == found["total"]["seconds"]
    shards = {stage["name"]: stage["shards"] for stage in found["stages"]}
    assert shards == {"read and parse": 0, "query features": 1, "pool features": 5, "similarity and choice": 0}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--devices", "many"], "--devices many is no list of numbers"),
        (["--devices", "8", "--compare"], "--devices is of the plan of one method"),
        (["--examples-per-second", "5", "--method", "auto"], "--examples-per-second is of the plan of one method"),
    ],
)
def test_devices_of_what_has_no_single_plan(given: list[str], said: str) -> None:
    shown = plan("select", "--pool", "x.jsonl", "--query", "q.jsonl", *given)
    assert shown.exit_code == 2
    assert said in shown.stderr.replace("\n", " ")


def test_represent_has_no_choice(flags: list[object]) -> None:
    names = ("--pool", "--model", "--method", "--warmup", "--projection-dim", "--probe", "--out")
    kept = [each for name in names for each in flags[flags.index(name) : flags.index(name) + 2]]
    found = json.loads(plan("represent", *kept, "--json").stdout)
    assert [stage["name"] for stage in found["stages"]] == ["read and parse", "pool features"]


def test_evaluate_takes_its_own_flags(flags: list[object], tiny_model: Path, tmp_path: Path) -> None:
    file = flags[flags.index("--query") + 1]
    given = ("--model", tiny_model, "--target", f"mine={file}", "--metric", "loss", "--limit", 1, "--out", tmp_path)
    found = json.loads(plan("evaluate", *given, "--max-length", 256, "--probe", 1, "--json").stdout)
    assert [(stage["name"], stage["examples"]) for stage in found["stages"]][2:] == [("loss, mine", 1)]
    shown = plan("evaluate", "--model", tiny_model)
    assert shown.exit_code == 2
    assert "nothing to measure" in shown.stderr


def test_a_study_is_planned_from_its_file(flags: list[object], tiny_model: Path, tmp_path: Path) -> None:
    pool, query = (str(flags[flags.index(name) + 1]) for name in ("--pool", "--query"))
    study = {
        "out": str(tmp_path / "out"), "pool": pool, "models": str(tiny_model), "budgets": [4], "recipe": "small",
        "targets": {"mine": {"query": query, "test": query}}, "methods": [], "baselines": ["random"], "draws": 1,
        "max_length": 256,
    }  # fmt: skip
    path = tmp_path / "study.yaml"
    path.write_text(json.dumps(study))
    shown = plan("study", path, "--probe", 1)
    assert shown.exit_code == 0, shown.output
    assert "fine-tuning on 4" in shown.stdout
    assert "…" not in shown.stdout
    assert max(map(len, shown.stdout.split("total")[0].splitlines())) <= 80


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no query given"),
        (["--query", "q.jsonl"], "no model given"),
        (["--model", "./nothing-here", "--pool", "x", "--query", "q.jsonl"], "there is no model folder"),
        (["--budget", "many"], "the budget 'many' cannot be read"),
    ],
)
def test_one_line_for_what_is_wrong(given: list[str], said: str, tmp_path: Path) -> None:
    given = given if "--pool" in given else [*given, "--pool", "x.jsonl"]
    shown = plan("select", *given, "--out", tmp_path)
    assert shown.exit_code == 2
    assert said in shown.stderr.replace("\n", " ")
    assert len(shown.stderr.strip().splitlines()) == 1


def test_an_interrupted_probe_is_one_line(flags: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("handpick.scorers.engine_probe.time_batches", interrupt)
    shown = plan("select", *flags)
    assert shown.exit_code == 130
    assert len(shown.stderr.strip().splitlines()) == 1


def test_it_stands_under_its_name() -> None:
    assert handpick.cli.plan.plan_app in [group.typer_instance for group in app.registered_groups]
