"""Every method's bill beside the training: from the methods' own plans, probed once where the work is the same."""

import json
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from typer.testing import CliRunner

import handpick
from handpick.cli import app
from handpick.costs.cost import Amount, Plan, StageCost, StageKind
from handpick.costs.flops import shape_of
from handpick.errors import SettingsError
from handpick.methods import METHODS, OWN_COMMANDS, Method
from handpick.model import load_base, parameter_count
from handpick.planning import MethodComparison, TrainingBill, bill_of, bill_training, compare_methods, plan_select
from handpick.planning.training_bill import parse_parameters
from handpick.representations import SCORERS, Passes
from handpick.scorers import gradient_costs, row_costs
from handpick.settings import Settings, parse_settings
from handpick.settings.passes import passes_by_method, passes_of
from handpick.training.settings import SMALL_FINETUNE
from tests.conftest import write_jsonl
from tests.scorers.test_table import RECENCY_LINE

QUICK = 0.1
WARMUP = {"at_least": 24, "epochs": 2, "batch": 8, "learning_rate": 1e-3, "lora": {"rank": 2, "alpha": 4}}


@pytest.fixture(scope="module")
def given(
    tiny_model: Path,
    pool_records: list[dict[str, Any]],
    query_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("compared")
    return {
        "pool": str(write_jsonl(folder / "pool.jsonl", pool_records[:40])),
        "query": str(write_jsonl(folder / "query.jsonl", query_records[:4])),
        "model": str(tiny_model), "budget": 10, "warmup": WARMUP, "projection_dim": 64, "max_length": 256,
        "dtype": "float32", "out": str(folder / "out"), "encoder": str(folder / "no encoder"), "landmarks": 8,
    }  # fmt: skip


def these_methods(only: dict[str, Method]) -> Any:
    """Let the table have no others; it has them in their order again after that."""
    return mock.patch.dict(METHODS, only, clear=True)


@pytest.fixture(scope="module")
def compared(given: dict[str, Any]) -> tuple[MethodComparison, Counter[str]]:
    """The comparison, and how often models were probed."""
    calls: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (gradient_costs, "probe_engine"),
            (gradient_costs, "plan_warmup"),
            (row_costs, "time_batches"),
        ):
            own = getattr(module, name)
            patch.setattr(module, name, lambda *a, own=own, name=name: (calls.update([name]), own(*a))[1])
        found = compare_methods(parse_settings(given), QUICK, "7B", 3.0)
    return found, calls


def test_every_method_has_a_line_or_a_reason(compared: tuple[MethodComparison, Counter[str]]) -> None:
    found, _ = compared
    lines = [bill.method for bill in found.bills]
    assert len(set(lines)) == len(lines)
    assert {*lines, *found.refused} == {*METHODS, *OWN_COMMANDS}
    assert {"embed", "tsds", "tsds-uniform", "rose", "nice", *OWN_COMMANDS} == set(found.refused)
    assert all("\n" not in reason and reason for reason in found.refused.values())
    assert [bill.seconds.value for bill in found.bills] == sorted(bill.seconds.value for bill in found.bills)
    assert found.chosen == 10


def test_the_same_work_is_probed_once(compared: tuple[MethodComparison, Counter[str]]) -> None:
    """The warmup; rows through Adam, without it, and on a basis; what reads, once more as landmarks' features."""
    assert compared[1] == {"plan_warmup": 1, "probe_engine": 3, "time_batches": 5}


def test_a_bill_is_the_methods_own_plan(compared: tuple[MethodComparison, Counter[str]], given: dict[str, Any]) -> None:
    bills = {bill.method: bill for bill in compared[0].bills}
    for method in ("less-rr", "gist", "rds+", "bm25", "whitened-rds-rr", "landmarks"):
        total = plan_select(parse_settings(given | {"method": method}), QUICK).total
        assert (bills[method].flops, bills[method].disk) == (total.flops, total.disk)
    assert bills["less"].seconds.value == pytest.approx(bills["less-rr"].seconds.value, rel=0.2)


def test_ratio_money_and_passes(compared: tuple[MethodComparison, Counter[str]], given: dict[str, Any]) -> None:
    found, _ = compared
    training = found.training
    assert isinstance(training, TrainingBill)
    for bill in found.bills:
        assert bill.ratio == bill.seconds.value / training.seconds.value
        assert bill.money == bill.seconds.value / 3600 * 3.0
    bills = {bill.method: bill for bill in found.bills}
    assert {bills[name].passes for name in ("random", "bm25", "dsir", "longest")} == {0}
    assert 3 < (bills["less-rr"].passes or 0) < 12  # two checkpoints, a warmup and queries


def test_a_comparison_begins_from_nothing_and_leaves_parsed_records(
    compared: tuple[MethodComparison, Counter[str]], given: dict[str, Any]
) -> None:
    left = [path.relative_to(given["out"]).as_posix() for path in Path(given["out"]).rglob("*") if path.is_file()]
    assert left
    assert all(name.startswith("features/parsed/") for name in left)


def test_a_new_method_is_in_the_comparison(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "recency", RECENCY_LINE)
    only = {
        "newest": Method("recency", "doubly-greedy", "the newest", "ours"),
        "less-rr": Method("gradient", "round-robin", "", ""),
    }
    with these_methods(only):
        found = compare_methods(parse_settings(given | {"model": None, "warmup": "auto"}), QUICK)
    assert [bill.method for bill in found.bills] == ["newest"]
    assert found.refused["less-rr"].startswith("no model given")
    assert isinstance(found.training, str)
    assert "--model" in found.training


def test_behind_a_prefilter_a_warmup_is_probed_once_too(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    own = gradient_costs.plan_warmup
    monkeypatch.setattr(gradient_costs, "plan_warmup", lambda *a: (calls.append("warmup"), own(*a))[1])
    settings = parse_settings(given | {"prefilter": "bm25", "prefilter_share": "50%"})
    with these_methods({name: METHODS[name] for name in ("less-rr", "gradient-rr", "bm25")}):
        found = compare_methods(settings, QUICK)
    assert {bill.method for bill in found.bills} == {"less-rr", "gradient-rr"}
    assert "twice" in found.refused["bm25"]
    assert calls == ["warmup"]


ONE_OF_EACH = {(method.representation, method.optimizer): name for name, method in reversed(METHODS.items())}


@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_the_tables_passes_are_the_plans_operations(
    name: str, given: dict[str, Any], compared: tuple[MethodComparison, Counter[str]], tmp_path: Path
) -> None:
    """Of the pool's rows: operations by operations of one pass. Attention, whose way back is two passes, is much of a
    tiny model."""
    said = passes_of(name)
    assert said is not None, "say in representations.SCORERS what its rows cost"
    if "model" not in SCORERS[METHODS[name].representation].needs:
        assert said.number == 0
        return
    settings = parse_settings(given | {"method": name, "out": str(tmp_path)})
    rows = [stage for stage in plan_select(settings, QUICK).stages if stage.kind == StageKind.POOL]
    assert isinstance(compared[0].training, TrainingBill)
    took = sum(stage.flops or 0 for stage in rows) / compared[0].training.forward
    passes = said.number * (2 if said.at_checkpoints else 1)
    assert 1 < took < passes if said.at_most else took == pytest.approx(passes, rel=0.35)
    assert len(rows) == (2 if said.at_checkpoints else 1)


def test_what_has_no_passes_is_not_left_out_of_the_help() -> None:
    line = passes_by_method()
    assert all(name in line for name in METHODS)
    assert str(Passes(2, at_checkpoints=True)) == "2 a checkpoint"
    assert str(Passes(1, besides="rows of a tenth")) == "1 and rows of a tenth"


@pytest.mark.parametrize(
    ("said", "parameters"), [("7B", 7e9), ("1.5b", 1.5e9), ("350 M", 3.5e8), ("123456", 123456), ("2T", 2e12)]
)
def test_parameters_from_a_number(said: str, parameters: float) -> None:
    assert parse_parameters(said) == parameters


def test_parameters_from_a_folder(tiny_model: Path) -> None:
    assert parse_parameters(str(tiny_model)) == parameter_count(str(tiny_model))
    with pytest.raises(SettingsError, match="no parameters"):
        parse_parameters("0B")


@pytest.mark.parametrize(
    ("times", "verdict"),
    [(1, "neither pays here"), (4.99, "neither"), (5, "perplexity pays here, gradients do not"), (10, "both pay here")],
)
def test_the_rule_with_the_users_numbers(times: float, verdict: str) -> None:
    bill = TrainingBill("m", round(times * 1000), 1000, 1, SMALL_FINETUNE, Amount.exactly(2.0), 1.0, 1.0)
    assert f"by that rule {verdict}" in bill.rule
    assert f"{times:.3g} ×" in bill.rule


def test_a_larger_model_to_train_is_scaled_and_not_loaded(given: dict[str, Any]) -> None:
    settings = parse_settings(given)
    n = parameter_count(str(given["model"]))
    own, larger = bill_training(settings, None, QUICK), bill_training(settings, str(20 * n), QUICK)
    assert isinstance(own, TrainingBill)
    assert isinstance(larger, TrainingBill)
    assert larger.flops == pytest.approx(20 * own.flops)
    assert larger.times_larger == 20
    assert larger.forward == own.forward
    base = load_base(str(given["model"]), torch.float32)
    assert own.forward > 2 * shape_of(base).linear  # of a token


def test_what_is_not_estimated_is_named() -> None:
    lines = [
        StageCost("answers", seconds=None, note="their time is not estimated"),
        StageCost("rest", seconds=Amount.exactly(2.0)),
    ]
    bill = bill_of(parse_settings({"method": "nice"}), Plan("select", lines, [], []), "no training", None)
    assert bill.left_out == ["answers: their time is not estimated"]
    assert bill.seconds.value == 2
    assert bill.ratio is bill.passes is bill.money is None


@pytest.mark.parametrize("part", [{"representation": "rds+"}, {"algorithm": "uot"}, {"store": "runs/x/features/pool"}])
def test_parts_of_a_method_are_refused(part: dict[str, Any], given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=f"--compare .* leave --{next(iter(part))} out"):
        compare_methods(Settings(**given | part), QUICK)


def flags(given: dict[str, Any], *more: object) -> list[str]:
    names = ("pool", "query", "model", "budget", "max_length", "projection_dim", "out", "encoder")
    pairs = [each for name in names for each in (f"--{name.replace('_', '-')}", given[name])]
    return ["plan", "select", *(str(each) for each in (*pairs, "--probe", 1, *more))]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_that_fits(columns: int, compared: tuple[MethodComparison, Counter[str]], given: dict[str, Any],
                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("handpick.planning.compare_methods", lambda *_: compared[0])
    shown = CliRunner().invoke(app, flags(given, "--compare"), env={"COLUMNS": str(columns)})
    assert shown.exit_code == 0, shown.output
    table = shown.stdout.split("training:")[0].splitlines()
    assert max(map(len, table)) <= 80
    assert "…" not in shown.stdout
    for word in (
        *METHODS,
        "÷ training",
        "train on 40",
        "train on 10",
        "by that rule both pay",
        "not with these settings",
    ):
        assert word in shown.stdout


def test_a_model_to_train_that_is_none_is_refused_before_any_work(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handpick.planning.plan_select", lambda *_: pytest.fail("work began"))
    shown = CliRunner().invoke(app, flags(given, "--method", "random", "--train-model", "./nothing-here"))
    assert shown.exit_code == 2
    assert "there is no model folder" in shown.stderr
    assert len(shown.stderr.strip().splitlines()) == 1


def test_one_method_stands_beside_its_training_too(given: dict[str, Any]) -> None:
    found = CliRunner().invoke(app, flags(given, "--method", "rds+", "--price-per-hour", 36, "--json"))
    assert found.exit_code == 0, found.output
    read = json.loads(found.stdout)
    assert read["money"] == pytest.approx(read["total"]["seconds"]["value"] / 100)
    assert read["ratio"] == pytest.approx(read["total"]["seconds"]["value"] / read["training"]["seconds"]["value"])
    assert "neither pays here" in read["rule"]
    shown = CliRunner().invoke(app, flags(given, "--method", "bm25"))
    assert "time to select ÷ time to train on all 40 usable: " in shown.stdout


def test_a_comparison_in_python_is_the_command_s(given: dict[str, Any]) -> None:
    with these_methods({name: METHODS[name] for name in ("bm25", "rds+")}):
        beside = {"method": "bm25", "train_model": "7B", "price_per_hour": 36}
        found = handpick.plan("compare", probe_seconds=QUICK, **given, **beside)
    assert {bill.method for bill in found.bills} == {"bm25", "rds+"}
    assert not isinstance(found.training, str)
    assert found.training.parameters == 7e9
    assert found.price_per_hour == 36
