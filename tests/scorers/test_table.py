"""The table of representations: what it says of each holds, and a new one is one file and one line."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.cli.app import REPRESENT, SELECT
from handpick.costs.cost import StageKind
from handpick.methods import METHODS
from handpick.pipeline import run_represent
from handpick.planning import plan_select
from handpick.reporting.nearest import nearest_similarities
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.representations import SCORERS, ScorerSpec
from handpick.scorers.row_scorer import RowEncoder
from handpick.scorers.scorer import Scorer, load_kind
from handpick.settings import Settings, parse_settings
from handpick.studies.run import run_study
from handpick.studies.settings import StudySettings
from tests.conftest import write_jsonl
from tests.scorers.own_rows import LETTERS

Given = dict[str, Any]

LETTERS_LINE = ScorerSpec(
    "tests.scorers.own_rows:Letters", "counts of letters", "ours", "features", frozenset({"query"}),
    frozenset({"storage"}), rows=frozenset({"storage"}),
)  # fmt: skip
RECENCY_LINE = ScorerSpec(
    "tests.scorers.own_scores:Recency", "place in the pool", "ours", "scores", keeps_rows=False
)  # fmt: skip


@pytest.fixture
def own_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "letters", LETTERS_LINE)
    monkeypatch.setitem(SCORERS, "recency", RECENCY_LINE)


@pytest.fixture
def files(pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path: Path) -> Given:
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records[:30])
    query = write_jsonl(tmp_path / "query.jsonl", query_records[:4])
    return {"pool": str(pool), "query": str(query), "budget": 6, "out": str(tmp_path / "out"), "shard_rows": 8}


@pytest.mark.parametrize("name", SCORERS)
def test_every_line_names_a_class_and_settings_that_there_are(name: str) -> None:
    spec = SCORERS[name]
    kind = load_kind(Settings(representation=f"{name}:X" if spec.argument else name, algorithm=_algorithm(spec)).scorer)
    assert issubclass(kind, RowEncoder | Scorer)
    assert spec.rows <= spec.reads <= set(Settings.model_fields)
    assert set(spec.fixed) <= set(Settings.model_fields)
    assert {refusal.setting for refusal in spec.refuses} <= set(Settings.model_fields)
    assert spec.needs <= {"model", "tokenizer", "query", "warmup"}
    assert spec.stores is None or SCORERS[spec.stores].rows == spec.rows
    assert spec.keeps_rows or not spec.rows


def _algorithm(spec: ScorerSpec) -> str:
    return "random" if spec.output == "nothing" else "doubly-greedy"


def test_every_setting_that_a_representation_reads_is_a_flag() -> None:
    read = frozenset[str]().union(*(spec.reads for spec in SCORERS.values()))
    assert read <= set(SELECT)
    rows = [s.rows for s in SCORERS.values() if s.output == "features" and not s.bound_to_queries]
    assert frozenset[str]().union(*rows) <= set(REPRESENT)


def test_every_preset_is_of_a_line_of_the_table() -> None:
    assert {method.representation for method in METHODS.values()} <= set(SCORERS)


@pytest.mark.parametrize("representation", ["letters", "recency"])
def test_one_file_and_one_line_is_all_that_a_new_one_takes(
    representation: str, own_lines: None, files: Given, tmp_path: Path
) -> None:
    """It goes through a selection, its plan, a report and a cell of a study."""
    settings = parse_settings(files | {"representation": representation, "algorithm": "doubly-greedy"})
    plan = plan_select(settings, 0.1)
    assert [line.kind for line in plan.stages][-1] == StageKind.CHOICE
    assert not Path(files["out"], "selection.json").exists()

    selection = handpick.select(**files, representation=representation, algorithm="doubly-greedy")
    assert len(set(selection.ids)) == 6
    if representation == "recency":
        assert selection.scores == [29, 28, 27, 26, 25, 24]
        assert [line for _, line in selection.origins] == [30, 29, 28, 27, 26, 25]
    else:
        store = handpick.FeatureStore.open(Path(files["out"], "features", "pool-letters"))
        assert store.dim == len(LETTERS)
        rows_ND = np.asarray(store.array(0))
        query_QD = np.asarray(handpick.FeatureStore.open(next(Path(files["out"], "features").glob("query-*"))).array(0))
        want_N = (query_QD @ rows_ND.T).max(axis=0)
        assert selection.scores == pytest.approx(np.sort(want_N)[::-1][:6], abs=1e-6)
        assert any(line.kind == StageKind.POOL for line in plan.stages)
        assert len(run_represent(settings.model_copy(update={"out": str(tmp_path / "alone")}))) == 30

    page = write_selection_report(Path(files["out"]))
    assert selection.ids[0] in page.read_text(encoding="utf-8")
    found = nearest_similarities(open_run(Path(files["out"])))
    assert isinstance(found, str) == (representation == "recency")


@pytest.mark.parametrize("representation", ["letters", "recency"])
def test_a_new_one_is_a_cell_of_a_study(
    representation: str, own_lines: None, files: Given, tiny_model: Path, tmp_path: Path
) -> None:
    study = StudySettings(
        pool=files["pool"], models=str(tiny_model), targets={"sums": {"query": files["query"], "test": files["query"]}},
        methods={"own": {"representation": representation, "algorithm": "doubly-greedy"}}, baselines=["zero-shot"],
        budgets=[4], seeds=[0], recipe="small", train={"epochs": 1, "batch": 4}, max_length=384,
        out=str(tmp_path / "study"),
    )  # fmt: skip
    results = run_study(study)
    (cell,) = [each for each in results.cells if each.method == "own"]
    assert cell.reason is None
    assert cell.chosen == 4
