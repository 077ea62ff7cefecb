"""``similarity``, ``distance`` and ``overlap`` as the library runs them, against numpy on the stores they read."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.distance import Distances, Products
from handpick.errors import DataError, SettingsError, StoreError
from handpick.executors import Executor
from handpick.overlap import run_overlap
from handpick.pipeline import distances as module
from handpick.pipeline import run_distance, run_similarity
from handpick.random_streams import generator
from handpick.settings import parse_settings
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL, Finished

Given = dict[str, Any]


@pytest.fixture(scope="module")
def settings(untrained: Given, finished_untrained: Finished, tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Runs that share a folder."""
    return untrained | {"out": str(finished_untrained.copy_to(tmp_path_factory.mktemp("runs") / "shared"))}


def stores(folder: str | Path) -> tuple[handpick.FeatureStore, handpick.FeatureStore]:
    """Query's and pool's."""
    (query,) = Path(folder, "features").glob("query-*")
    return handpick.FeatureStore.open(query), handpick.FeatureStore.open(Path(folder, "features", "pool"))


# --- similarity ------------------------------------------------------------------------------------------------------


def test_the_matrix_is_that_of_the_stores(given: Given, finished: Finished, tmp_path: Path, no_model: None) -> None:
    """Over two checkpoints; and from a store, in another folder."""
    query, pool = stores(finished.folder)
    want_QN = sum(w * np.asarray(query.array(t)) @ np.asarray(pool.array(t)).T for t, w in enumerate(pool.weights))
    for place, given_ in enumerate((
        given | {"out": str(finished.copy_to(tmp_path / "copy"))},
        {"query": given["query"], "store": str(pool.path), "out": str(tmp_path / "elsewhere")},
    )):  # fmt: skip
        if place == 1:  # the query's features are there already, so that no model is needed
            (folder,) = finished.folder.glob("features/query-*")
            (tmp_path / "elsewhere" / "features").mkdir(parents=True)
            (tmp_path / "elsewhere" / "features" / folder.name).symlink_to(folder)
        found = run_similarity(parse_settings(given_))
        assert found == Path(given_["out"])
        np.testing.assert_allclose(np.load(found / "similarity.npy"), want_QN, atol=1e-6)
        names = json.loads((found / "similarity.json").read_text())
        assert names == {"queries": query.ids, "examples": pool.ids}


def test_ids_are_those_of_what_is_left(
    settings: Given, pool_file: Path, query_records: list[dict[str, Any]], tmp_path: Path, out: str
) -> None:
    """A record without an answer has no column, and a query without one no row."""
    (tmp_path / "pool.jsonl").write_text(json.dumps({"id": "mute", "prompt": "Hm?"}) + "\n" + pool_file.read_text())
    query = write_jsonl(tmp_path / "query.jsonl", [{"id": "q", "prompt": "Hm?"}, *query_records[:2]])
    found = run_similarity(parse_settings(settings | {"pool": tmp_path / "pool.jsonl", "query": query, "out": out}))
    names = json.loads((found / "similarity.json").read_text())
    assert names["queries"] == [record["id"] for record in query_records[:2]]
    assert len(names["examples"]) == N_POOL
    assert "mute" not in names["examples"]
    assert np.load(found / "similarity.npy").shape == (2, N_POOL)


def test_a_score_is_a_matrix_of_one_row(settings: Given, tmp_path: Path) -> None:
    """Also where only the store has been made, in another folder."""
    by_length = handpick.select(**settings | {"method": "longest", "budget": "100%"})
    store = Path(settings["out"], "features", "pool-length")
    found = run_similarity(parse_settings({"store": str(store), "out": str(tmp_path / "new")}))
    names = json.loads((found / "similarity.json").read_text())
    scores = dict(zip(names["examples"], np.load(found / "similarity.npy")[0].tolist(), strict=True))
    assert names["queries"] == []
    assert by_length.scores == [scores[example_id] for example_id in by_length.ids]


def test_what_looks_at_nothing_has_no_similarity(settings: Given, out: str) -> None:
    with pytest.raises(SettingsError, match="the method random has no similarity"):
        run_similarity(parse_settings(settings | {"method": "random", "out": out}))
    assert not Path(out).exists()


# --- distance --------------------------------------------------------------------------------------------------------


def test_distances_are_those_of_the_features(finished: Finished, tmp_path: Path, no_model: None) -> None:
    """The chord of the rows of all checkpoints side by side, times the roots of their weights."""
    folder = finished.copy_to(tmp_path / "run")
    query, pool = stores(folder)
    side_by_side = [
        np.concatenate([np.sqrt(w) * np.asarray(s.array(t), np.float64) for t, w in enumerate(pool.weights)], axis=1)
        for s in (query, pool)
    ]
    x_QE, x_NE = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in side_by_side)

    def chords(a: Any, b: Any) -> Any:
        return np.linalg.norm(a[:, None] - b[None], axis=2)

    some = pool.ids[5:9]
    found = run_distance(folder, {"some": some}, seed=3)
    drawn = generator(3, "held against a subset").permutation(N_POOL)[:10]
    subsets = {str(folder): finished.selection.ids, "some": some, "random 10": [pool.ids[i] for i in drawn]}
    assert list(found) == list(subsets)
    for name, ids in subsets.items():
        x_BE = x_NE[[pool.ids.index(example_id) for example_id in ids]]
        cross = chords(x_QE, x_BE)
        assert found[name].query_to_subset == pytest.approx(cross.min(axis=1).mean(), abs=1e-3)
        assert found[name].subset_to_query == pytest.approx(cross.min(axis=0).mean(), abs=1e-3)
        assert found[name].mmd == pytest.approx(np.linalg.norm(x_QE.mean(axis=0) - x_BE.mean(axis=0)), abs=1e-3)
        energy = 2 * cross.mean() - chords(x_QE, x_QE).mean() - chords(x_BE, x_BE).mean()
        assert found[name].energy == pytest.approx(energy, abs=1e-3)
        assert found[name].wasserstein_by == "exact"
    assert found[str(folder)].query_to_subset < found["random 10"].query_to_subset


def test_a_subset_is_read_some_rows_at_a_time_and_never_squared_in_memory(
    finished: Finished, tmp_path: Path, no_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished.copy_to(tmp_path / "run")
    subsets = {"all": stores(folder)[1].ids}
    whole = run_distance(folder, subsets)
    read, squares = [], []
    own_ready, own_distances = module.prepare_run, module.distances

    def ready(*args: Any) -> Any:
        made = own_ready(*args)
        stages = made.run_stages

        def run_stages(executor: Executor) -> Any:
            problem = stages(executor)
            candidates = problem.features.candidates

            def reading(columns_C: Any) -> Any:
                read.append(len(columns_C))
                return candidates(columns_C)

            return replace(problem, features=replace(problem.features, candidates=reading))

        return SimpleNamespace(inputs=made.inputs, run_stages=run_stages)

    def watched(cross: Any, queries: Any, subset: Any) -> Distances:
        squares.append(type(subset))
        return own_distances(cross, queries, subset)

    monkeypatch.setattr(module, "prepare_run", ready)
    monkeypatch.setattr(module, "distances", watched)
    monkeypatch.setattr(module, "_READ", 16 * 2 * 1024)
    for name, each in run_distance(folder, subsets).items():
        assert asdict(each) == pytest.approx(asdict(whole[name]))
    assert read == [10, 16, 16, 8, 10]
    assert set(squares) == {Products}


def test_features_that_do_not_fit_are_refused_with_their_size(
    finished: Finished, no_model: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 4 * 2048 * 10 - 1)
    with pytest.raises(SettingsError, match=r"the features of the 10 examples of \S+ take 0 GB .* a smaller subset"):
        run_distance(finished.folder, {})


def test_ids_without_features_are_named(finished: Finished, no_model: None) -> None:
    with pytest.raises(
        DataError,
        match="2 ids of mine were left out or set aside in this run, or are not in its pool, the first 'nobody'",
    ):
        run_distance(finished.folder, {"mine": ["nobody", finished.selection.ids[0], "else"]})


def test_a_folder_without_a_selection(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no selection in"):
        run_distance(tmp_path, {})


@pytest.mark.parametrize("change", [{"method": "bm25"}, {"method": "longest"}, {"score_only": True}])
def test_distances_need_features(change: Given, settings: Given, out: str) -> None:
    handpick.select(**settings | change | {"out": out})
    with pytest.raises(SettingsError, match=r"has no features to measure distances by: .* --subset THIS"):
        run_distance(Path(out), {})


# --- overlap ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A pool of three, of which the second repeats a test item under a long answer."""
    asked = "How many apples does Nora have left if she gives nine of her thirty-one apples to Sam?"
    lines = [
        '{"id": "a", "prompt": "Name a tree that grows by the sea in the south.", "response":  "A pine."}',
        json.dumps({"id": "b", "prompt": f"Please tell me: {asked}", "response": "She has " + "twenty-two " * 50}),
        '{"id":"c","prompt":"Name a river that flows north through the desert to the sea.","response":"The Nile."}',
    ]
    (tmp_path / "leaky.jsonl").write_text("\n".join(lines) + "\n")
    write_jsonl(tmp_path / "test.jsonl", [
        {"id": "t0", "prompt": "What is the smallest prime number above one hundred and ten?", "example": {"n": 1}},
        {"id": "t1", "prompt": asked, "example": 0},
    ])  # fmt: skip
    return tmp_path / "leaky.jsonl"


def test_overlap_writes_what_repeats_and_the_rest_as_it_came(leaky: Path, tmp_path: Path) -> None:
    found = run_overlap([str(leaky)], [str(tmp_path / "test.jsonl")], tmp_path / "out", 0.75)
    assert found.rows == [(1, 1.0)]
    assert [json.loads(line) for line in (tmp_path / "out" / "overlap.jsonl").read_text().splitlines()] == [
        {"id": "b", "repeats": "t1", "share": 1.0}
    ]
    lines = leaky.read_bytes().splitlines(keepends=True)
    assert (tmp_path / "out" / "clean.jsonl").read_bytes() == lines[0] + lines[2]


def test_a_clean_pool_is_written_whole(leaky: Path, tmp_path: Path) -> None:
    clean = tmp_path / "clean.jsonl"
    clean.write_bytes(b"".join(leaky.read_bytes().splitlines(keepends=True)[::2]))
    found = run_overlap([str(clean)], [str(tmp_path / "test.jsonl")], tmp_path / "out", 0.75)
    assert found.rows == []
    assert (tmp_path / "out" / "overlap.jsonl").read_bytes() == b""
    assert (tmp_path / "out" / "clean.jsonl").read_bytes() == clean.read_bytes()


def test_a_threshold_out_of_range_is_refused(leaky: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"threshold is 1\.5; an overlap is a share above 0 and at most 1"):
        run_overlap([str(leaky)], [str(tmp_path / "test.jsonl")], tmp_path / "out", 1.5)
