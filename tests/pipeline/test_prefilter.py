"""A cheap representation before an expensive one: against the whole similarity with what was cut masked.

Shapes: Q queries, N candidates.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import handpick
from handpick.algorithms import Picks, pick
from handpick.cli import app
from handpick.costs.cost import StageKind
from handpick.costs.probe import Probing
from handpick.errors import DataError, SettingsError, StoreError
from handpick.layout import CutLayout, RunLayout
from handpick.pipeline import run_similarity
from handpick.pipeline.missed import Missed, read_missed
from handpick.planning import plan_select
from handpick.planning.select import plan_beside
from handpick.reporting.checks import checks
from handpick.reporting.nearest import NearestSimilarities, nearest_similarities
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.scorers.cut import Cut, read_cut
from handpick.settings import parse_settings
from handpick.similarity import similarity
from handpick.store import FeatureStore
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL, Finished
from tests.scorers.test_cut import cut_whole

Given = dict[str, Any]
LEFT, CHECKED = 14, 8


@pytest.fixture(scope="module")
def cheap(untrained: Given) -> Given:
    """Hidden states before plain gradients at a fresh adapter."""
    return untrained | {"prefilter": "rds+", "prefilter_share": "35%", "prefilter_check": CHECKED}


@pytest.fixture(scope="module")
def cascade(cheap: Given, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("runs") / "cascade"
    return Finished(folder, handpick.select(**cheap, out=str(folder)))


def cut_in(folder: Path, stages: str) -> Cut:
    """The cut of a run that the last prefilter made, by its representation."""
    for own in RunLayout(folder).prefilter.iterdir():
        cut = read_cut(CutLayout(own))
        if cut is not None and cut.made_from["representation"] == stages:
            return cut
    pytest.fail(f"no cut by {stages}")


def whole_similarity(folder: Path, pool: str = "pool") -> NDArray[np.float32]:
    """Of the stores that a run has of the whole pool, (Q, N)."""
    store = FeatureStore.open(folder / "features" / pool)
    queries = map(FeatureStore.open, sorted((folder / "features").glob("query-*")))
    similarity_QN = similarity(store, next(each for each in queries if each.manifest.space == store.manifest.space))
    assert similarity_QN.shape[1] == N_POOL
    return similarity_QN


def choose(similarity_QN: NDArray[np.float32], rows: NDArray[np.int64], budget: int = 10) -> Picks:
    """What round-robin chooses of some columns, by their numbers in the whole."""
    picks = pick(similarity_QN[:, rows], budget)
    return Picks(rows[picks.columns], picks.scores, picks.queries)


def lines(selection: handpick.Selection) -> list[int]:
    return [line - 1 for _, line in selection.origins]


# --- the choice ------------------------------------------------------------------------------------------------------


def test_the_choice_is_the_methods_own_among_what_is_left(cascade: Finished, finished_untrained: Finished) -> None:
    left, depths = cut_whole(whole_similarity(cascade.folder, "pool-rds+"), LEFT)
    cut = cut_in(cascade.folder, "rds+")
    assert (cut.left.tolist(), list(cut.depths.values())) == (left, depths)
    assert len(cut.checked) == CHECKED
    assert not set(cut.checked.tolist()) & set(left)

    masked = choose(whole_similarity(finished_untrained.folder), cut.left)
    assert lines(cascade.selection) == masked.columns.tolist()
    assert cascade.selection.scores == pytest.approx(masked.scores.tolist(), abs=1e-6)
    assert cascade.selection.ids != finished_untrained.selection.ids


def test_only_what_is_left_and_what_is_checked_is_scored(cascade: Finished) -> None:
    cut = cut_in(cascade.folder, "rds+")
    (store,) = RunLayout(cascade.folder).prefilter.glob("*/features/pool")
    assert len(FeatureStore.open(store)) == LEFT + CHECKED
    assert not (cascade.folder / "features" / "pool").exists()
    assert cascade.selection.fingerprints["prefilter"]["made_from"] == json.loads(json.dumps(cut.made_from))


def test_what_was_missed_is_told_from_those_that_were_checked(cascade: Finished, finished_untrained: Finished) -> None:
    cut = cut_in(cascade.folder, "rds+")
    again = choose(whole_similarity(finished_untrained.folder), cut.rows)
    would_be = len(set(again.columns.tolist()) & set(cut.checked.tolist()))
    figures = json.loads((cascade.folder / "prefilter.json").read_text())
    recall = figures.pop("recall")
    assert Missed(**figures) == Missed(["rds+"], LEFT, N_POOL - LEFT, dict(cut.depths), 10, CHECKED, would_be)
    assert recall["value"] == pytest.approx(10 / (10 + would_be / CHECKED * (N_POOL - LEFT)))
    assert recall["low"] < recall["value"] < recall["high"] or would_be == 0


def test_a_share_of_all_chooses_as_without_a_prefilter(given: Given, finished: Finished, out: str) -> None:
    """At the checkpoints of the same warmup, of the whole pool, to the last bit."""
    selection = handpick.select(**given, prefilter="bm25", prefilter_share="100%", out=out)
    assert (selection.ids, selection.scores) == (finished.selection.ids, finished.selection.scores)
    assert selection.picked_for == finished.selection.picked_for
    adapters = sorted(finished.folder.glob("warmup/*/adapter_model.safetensors"))
    assert len(adapters) == 2
    for path in adapters:
        assert (Path(out) / path.relative_to(finished.folder)).read_bytes() == path.read_bytes()
    (shards,) = Path(out, "prefilter").glob("*/features/pool/shards")
    for path in shards.rglob("*.safetensors"):
        there = finished.folder / "features" / "pool" / "shards" / path.relative_to(shards)
        assert path.read_bytes() == there.read_bytes()
    assert json.loads(Path(out, "prefilter.json").read_text())["recall"]["low"] == 1


def test_one_after_the_other(cheap: Given, cascade: Finished, finished_untrained: Finished, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(cascade.folder / "features", out / "features")  # the whole pool's hidden states, for the oracle
    own = cheap | {"prefilter": ["bm25", "rds+"], "prefilter_share": ["60%", "35%"]}
    selection = handpick.select(**own, out=str(out))
    first, second = cut_in(out, "bm25"), cut_in(out, "rds+")
    assert len(first.left) == 24
    assert not len(first.checked)
    among, _ = cut_whole(whole_similarity(out, "pool-rds+")[:, first.left], LEFT)
    assert second.left.tolist() == first.left[among].tolist()
    assert second.left.tolist() != cut_in(cascade.folder, "rds+").left.tolist()
    assert not set(second.checked.tolist()) & set(second.left.tolist())
    assert set(second.checked.tolist()) - set(first.left.tolist())  # of those that either cut
    assert lines(selection) == choose(whole_similarity(finished_untrained.folder), second.left).columns.tolist()
    figures = json.loads((out / "prefilter.json").read_text())
    assert (figures["left"], figures["cut"]) == (LEFT, N_POOL - LEFT)


@pytest.mark.parametrize(
    ("first", "more"),
    [
        ("dsir", {}), ("length", {"score_only": True}), ("gist", {"storage": "int8", "prefilter_check": 5}),
        ("whitened-rds+", {"method": "bm25"}), ("perplexity", {"method": "random", "query": None}),
    ],
)  # fmt: skip
def test_any_before_any(first: str, more: Given, untrained: Given, out: str) -> None:
    own = {name: value for name, value in (untrained | more).items() if value is not None}
    selection = handpick.select(**own, prefilter=first, prefilter_share=0.5, out=out)
    assert len(selection) == 10
    left = set(cut_in(Path(out), first).left.tolist())
    assert len(left) == N_POOL // 2
    assert set(lines(selection)) <= left
    near = nearest_similarities(open_run(Path(out)))
    assert isinstance(near, str) if more.get("method") == "random" else len(near.pool) == len(left)


@pytest.mark.parametrize("more", [{"split": "equal"}, {"split": "shared", "balanced": True}])
def test_several_targets(more: Given, by_words: Given, query_records: list[dict[str, Any]], tmp_path: Path) -> None:
    for name, some in {"few": query_records[:1], "many": query_records[1:]}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", some)
    targets = {name: [str(tmp_path / f"{name}.jsonl")] for name in ("few", "many")}
    own = {name: value for name, value in by_words.items() if name != "query"} | {"target": targets, "budget": 8}
    selection = handpick.select(**own | more, out=str(tmp_path / "out"))
    cut, few = cut_in(tmp_path / "out", "bm25"), query_records[0]["id"]
    assert len(cut.depths) == 8
    assert set(lines(selection)) <= set(cut.left.tolist())
    assert selection.picked_for.count(few) == 4  # of 8 queries one, with half of the budget


def test_what_a_prefilter_says_of_itself_is_said(given: Given, out: str) -> None:
    """Landmarks tell how well they spread."""
    own = given | {"method": "whitened-rr", "prefilter": "landmarks", "landmarks": 20, "prefilter_share": "50%"}
    handpick.select(**own, out=out)
    (remark,) = json.loads(RunLayout(Path(out)).remarks.read_bytes())["remarks"]
    assert remark["name"].startswith("landmarks: ")
    assert len(list(Path(out).glob("warmup/checkpoint-*"))) == 2  # one warmup for both
    assert not list(Path(out).glob("prefilter/*/warmup"))


# --- going on --------------------------------------------------------------------------------------------------------


def test_a_run_that_was_stopped_goes_on_from_the_last_shard(
    cheap: Given, cascade: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = str(tmp_path / "out"), FeatureStore.write_shard
    written: list[str] = []

    def write_and_stop(store: FeatureStore, *args: Any) -> None:
        write(store, *args)
        written.append(store.path.name)
        if written.count("pool") == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(FeatureStore, "write_shard", write_and_stop)
    with pytest.raises(KeyboardInterrupt):
        handpick.select(**cheap, out=out)
    assert written.count("pool-rds+") == 3
    again: list[str] = []

    def write_and_note(store: FeatureStore, *args: Any) -> None:
        write(store, *args)
        again.append(store.path.name)

    monkeypatch.setattr(FeatureStore, "write_shard", write_and_note)
    monkeypatch.setattr("handpick.scorers.cascade.best_columns", None)  # the cut is there
    assert handpick.select(**cheap, out=out).ids == cascade.selection.ids
    assert again == ["pool"]  # the second shard of 22 rows
    assert Path(out, "prefilter.json").read_bytes() == (cascade.folder / "prefilter.json").read_bytes()


def test_what_decides_the_cut_makes_another(cheap: Given, cascade: Finished, tmp_path: Path) -> None:
    out = cascade.copy_to(tmp_path / "out")
    handpick.select(**cheap | {"prefilter_share": "60%"}, out=str(out))
    assert len(list(RunLayout(out).prefilter.iterdir())) == 2
    assert json.loads((out / "prefilter.json").read_text())["left"] == 24
    plain = {name: value for name, value in cheap.items() if not name.startswith("prefilter")}
    handpick.select(**plain | {"method": "bm25", "warmup": "auto"}, out=str(out))
    assert not (out / "prefilter.json").exists()


def test_a_damaged_cut_is_named(cheap: Given, cascade: Finished, tmp_path: Path) -> None:
    out = cascade.copy_to(tmp_path / "out")
    (record,) = out.glob("prefilter/*/cut.json")
    record.write_text("{")
    with pytest.raises(StoreError, match=r"cut.json cannot be read .*; remove .*, and run again"):
        handpick.select(**cheap, out=str(out))


# --- what a choice must keep to --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_words(untrained: Given) -> Given:
    """Words before hidden states: quick."""
    return untrained | {
        "method": "rds+", "warmup": "auto", "prefilter": "bm25", "prefilter_share": "25%", "budget": 5,
        "prefilter_check": 0,
    }  # fmt: skip


def test_what_is_always_chosen_is_left(by_words: Given, tmp_path: Path) -> None:
    without = handpick.select(**by_words | {"budget": 10}, out=str(tmp_path / "without"))
    cut = cut_in(tmp_path / "without", "bm25")
    far = [row for row in range(N_POOL) if row not in cut.left][:2]
    pool = [json.loads(line) for line in Path(by_words["pool"]).read_text().splitlines()]
    names = [pool[row]["id"] for row in far]
    (tmp_path / "always.txt").write_text("\n".join(names))
    always = handpick.select(**by_words, always=str(tmp_path / "always.txt"), out=str(tmp_path / "with"))
    assert always.ids[:2] == names
    assert set(cut_in(tmp_path / "with", "bm25").left.tolist()) == set(cut.left.tolist()) | set(far)
    assert without.ids[:3] == always.ids[2:]


def test_what_repeats_a_test_item_goes_before_the_cut(by_words: Given, tmp_path: Path) -> None:
    plain = handpick.select(**by_words, out=str(tmp_path / "plain"))
    best = json.loads(plain.record(0))
    write_jsonl(tmp_path / "test.jsonl", [best])
    selection = handpick.select(**by_words, exclude_overlap=str(tmp_path / "test.jsonl"), out=str(tmp_path / "clean"))
    left = cut_in(tmp_path / "clean", "bm25").left.tolist()
    assert lines(plain)[0] not in left
    assert len(left) == 10
    assert plain.ids[0] not in selection.ids


def test_a_budget_in_percent_is_of_the_whole_pool(by_words: Given, out: str) -> None:
    assert len(handpick.select(**by_words | {"budget": "20%"}, out=out)) == 8


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 11}, "the budget is 11 examples and the prefilter leaves 10 of the pool's 40: give 10 at most, or"),
        ({"budget": "30%"}, "the budget is 12 examples and the prefilter leaves 10 of the pool's 40"),
        ({"always": "ALWAYS"}, "ids of .* are not in the pool or cannot be used"),
        (
            {"method": "landmarks", "landmarks": 15, "warmup": "small"},
            "of what the prefilter leaves nothing can be made: 15 landmarks are all of a pool of 10",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    change: Given, said: str, by_words: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "always").write_text("nobody")
    change = {name: str(tmp_path / "always") if value == "ALWAYS" else value for name, value in change.items()}
    monkeypatch.setattr("handpick.pipeline.prepare.PreparedRun.run_stages", lambda *_: pytest.fail("it began"))
    with pytest.raises((SettingsError, DataError), match=said):
        handpick.select(**by_words | change, out=str(tmp_path / "out"))


def test_shares_that_what_is_left_cannot_meet_are_refused_before_it_is_scored(
    by_words: Given, tmp_path: Path, pool_records: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    handpick.select(**by_words, out=str(tmp_path / "first"))
    far = set(range(N_POOL)) - set(cut_in(tmp_path / "first", "bm25").left.tolist())
    sourced = [r | {"source": "far" if i in far else "near"} for i, r in enumerate(pool_records[:N_POOL])]
    pool = write_jsonl(tmp_path / "sourced.jsonl", sourced)
    monkeypatch.setattr(FeatureStore, "create", lambda *_: pytest.fail("rows were made"))
    with pytest.raises(SettingsError, match=r"of what the prefilter bm25 leaves nothing can be chosen: .*'far'"):
        handpick.select(**by_words | {"pool": pool, "min_share": {"far": 0.4}}, out=str(tmp_path / "second"))


def test_a_record_that_two_stages_cannot_use_is_set_aside_once(by_words: Given, tmp_path: Path) -> None:
    silent = {"id": "silent", "messages": [{"role": "user", "content": "Janet has three ducks. How many?"}]}
    queries = [json.loads(line) for line in Path(by_words["query"]).read_text().splitlines()]
    query = write_jsonl(tmp_path / "query.jsonl", [*queries, {"id": 1}])
    more = Path(by_words["pool"]).read_text() + json.dumps(silent) + "\n"
    (tmp_path / "pool.jsonl").write_text(more)
    handpick.select(**by_words | {"pool": tmp_path / "pool.jsonl", "query": query}, out=str(tmp_path / "out"))
    for name in ("quarantine.jsonl", "quarantine-query.jsonl"):
        assert len((tmp_path / "out" / name).read_text().splitlines()) == 1


def test_it_is_of_a_selection_alone(by_words: Given, out: str) -> None:
    with pytest.raises(SettingsError, match="a prefilter is for a selection: `represent`"):
        handpick.represent_pool(
            pool=by_words["pool"], model=by_words["model"], method="rds+", prefilter="bm25", out=out
        )
    with pytest.raises(SettingsError, match="a prefilter is for a selection: `similarity`"):
        run_similarity(parse_settings(by_words | {"out": out}))


# --- what is said ----------------------------------------------------------------------------------------------------


def missed(would_be: int, checked: int, cut: int = 900, chosen: int = 100) -> Missed:
    return Missed(["bm25"], 100, cut, {"": 100}, chosen, checked, would_be)


def test_the_recall_and_its_interval() -> None:
    recall = missed(3, 30).recall
    assert recall is not None
    assert recall.value == pytest.approx(100 / (100 + 90))
    # Clopper and Pearson: 3 of 30 is 2.1% to 26.5%
    assert recall.low == pytest.approx(100 / (100 + 900 * 0.2653), abs=1e-3)
    assert recall.high == pytest.approx(100 / (100 + 900 * 0.0211), abs=1e-3)
    assert missed(0, 0).recall is None
    everything = missed(9, 900).recall
    assert everything is not None
    assert everything.low == everything.value == everything.high == pytest.approx(100 / 109)


@pytest.mark.parametrize(("cut", "chosen"), [(900, 100), (90_000, 1000), (300, 5), (10, 50)])
def test_how_many_would_be_enough(cut: int, chosen: int) -> None:
    """The least that tells a recall of 80% if none of them would be chosen."""
    enough = missed(0, 1, cut, chosen).enough
    told = missed(0, enough, cut, chosen)
    assert told.is_told
    assert told.recall is not None
    assert told.recall.low >= 0.8 - 1e-9
    if enough > 1:
        fewer = missed(0, enough - 1, cut, chosen)
        assert not fewer.is_told
        assert fewer.recall is not None
        assert fewer.recall.low < 0.8 or enough == cut
        assert f"So few cannot tell 80%: that takes --prefilter-check {enough} at least" in fewer.describe()


def test_the_command_says_what_was_missed(by_words: Given, tmp_path: Path) -> None:
    flags = ["--prefilter", "bm25", "--prefilter-share", "25%", "--prefilter-check", "30", "--method", "rds+"]
    named = [f"--{name}={by_words[name]}" for name in ("pool", "query", "model", "budget")]
    run = CliRunner().invoke(app, ["select", *named, *flags, "--out", str(tmp_path / "out")])
    assert run.exit_code == 0, run.output
    said = read_missed(RunLayout(tmp_path / "out").prefilter_check)
    assert said is not None
    assert said.describe() in " ".join(run.stdout.split())
    assert said.describe().startswith("prefilter bm25: 10 of 40 candidates were left; of 30 of the others")
    distances = json.loads(RunLayout(tmp_path / "out").distances.read_bytes())
    assert list(distances) == ["selection", "random 5 of what was left"]
    yaml = tmp_path / "out" / "settings.yaml"
    assert CliRunner().invoke(app, ["run", str(yaml)]).exit_code == 0  # and what was written is read again


def test_the_report(cascade: Finished, tmp_path: Path) -> None:
    out = cascade.copy_to(tmp_path / "out")
    page = write_selection_report(out).read_text(encoding="utf-8")
    run = open_run(out)
    assert run.missed is not None
    for query, depth in run.missed.depths.items():
        assert f'<td class="first" dir="auto">{query}</td><td class="n" data-value="{depth}">{depth}</td>' in page
    (check,) = [each for each in checks(run) if each.name == "Left out by the prefilter"]
    assert check.state in ("warn", "open")
    assert f"of {CHECKED} of the others, drawn at random" in check.said
    near = nearest_similarities(run)
    assert isinstance(near, NearestSimilarities)
    assert near.what == "similarity to the nearest query, of what rds+ left"
    assert near.candidates == len(near.pool) == LEFT
    shutil.rmtree(out / "prefilter")
    assert nearest_similarities(open_run(out)) == "what the prefilter left is not in the folder any more"


@pytest.mark.parametrize(
    ("would_be", "checked", "state"),
    [(0, 900, "fine"), (0, 50, "open"), (40, 50, "warn"), (20, 900, "fine"), (0, 0, "open")],
)
def test_the_check_warns_by_the_low_end(would_be: int, checked: int, state: str, cascade: Finished) -> None:
    run = replace(open_run(cascade.folder), missed=missed(would_be, checked))
    assert [each.state for each in checks(run) if each.name == "Left out by the prefilter"] == [state]


def test_the_same_work_is_priced_once_beside_other_methods(given: Given, tmp_path: Path) -> None:
    """The second of two methods that differ in their algorithm asks no stage for its work again."""
    probing = Probing(0.2, tmp_path / "probe")
    probing.scratch.mkdir()
    own = given | {"prefilter": "rds+", "prefilter_share": "30%", "out": str(tmp_path / "out")}
    first, second = (
        plan_beside(parse_settings(own | {"method": method}), probing, tmp_path / method)
        for method in ("less", "less-rr")
    )
    assert [line.inputs for line in first.stages] == [line.inputs for line in second.stages]
    assert first.stages[1:-1] == second.stages[1:-1]


def test_the_plan_prices_both_stages(given: Given, tmp_path: Path) -> None:
    own = given | {"prefilter": ["bm25", "rds+"], "prefilter_share": ["60%", "30%"], "out": str(tmp_path / "out")}
    plan = plan_select(parse_settings(own), 0.5)
    assert [(line.name, line.kind) for line in plan.stages] == [
        ("read and parse", StageKind.READ),
        ("bm25: index and scores", StageKind.INDEX),
        ("prefilter", StageKind.CUT),
        ("rds+: query features", StageKind.QUERY),
        ("rds+: pool features", StageKind.LEFT),
        ("prefilter", StageKind.CUT),
        ("warmup", StageKind.WARMUP),
        ("gradient: query features", StageKind.QUERY),
        ("gradient: pool features, checkpoint 1", StageKind.LEFT),
        ("gradient: pool features, checkpoint 2", StageKind.LEFT),
        ("similarity and choice", StageKind.CHOICE),
    ]
    assert [line.examples for line in plan.stages][1:] == [40, 24, 4, 24, 12, 24, 4, 40, 40, 10]  # 12 and 28 checked
    whole = plan_select(parse_settings(given | {"out": str(tmp_path / "out")}), 0.5)
    assert plan.stages[6].tokens == whole.stages[1].tokens  # of the warmup
    assert plan.stages[2].flops is None  # words
    assert plan.stages[5].flops == 2 * 24 * 4 * 32  # hidden states of what the words leave
    assert not (tmp_path / "out" / "prefilter").exists()
    assert not (tmp_path / "out" / "warmup").exists()
