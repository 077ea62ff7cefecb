"""The map: its plane is that of a singular value decomposition, and its points are the run's own."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.reporting import feature_map
from handpick.reporting.feature_map import FeatureMap, read_feature_map
from handpick.reporting.plane import principal_plane
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.store import FeatureStore
from tests.reporting.conftest import Page


@pytest.mark.parametrize("sizes", [(40, 7), (7, 40)])
def test_the_plane_is_that_of_the_singular_vectors(sizes: tuple[int, int]) -> None:
    n, dim = sizes
    random = np.random.default_rng(0)
    parts_TSD = [random.standard_normal((n, dim)).astype(np.float32) * scale for scale in (1, 3)]
    others_TPD = [random.standard_normal((5, dim)).astype(np.float32) for _ in range(2)]
    plane = principal_plane(lambda t: [parts_TSD[t], others_TPD[t]], 2)
    assert plane is not None
    whole, others = (np.concatenate(each, axis=1).astype(np.float64) for each in (parts_TSD, others_TPD))
    left, values, right = np.linalg.svd(whole - whole.mean(axis=0), full_matrices=False)
    expected = left[:, :2] * values[:2]
    signs = np.sign(expected[np.abs(expected).argmax(axis=0), [0, 1]])
    np.testing.assert_allclose(plane.places[0], expected * signs, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        plane.places[1], (others - whole.mean(axis=0)) @ right[:2].T * signs, rtol=1e-8, atol=1e-8
    )
    np.testing.assert_allclose(plane.shares, values[:2] ** 2 / np.square(values).sum(), rtol=1e-8)


def test_rows_that_are_alike_span_none_and_a_line_has_no_second_direction() -> None:
    assert principal_plane(lambda t: [np.ones((9, 4), np.float32)], 1) is None
    line = np.outer(np.arange(9), [1, 2, 0, 0]).astype(np.float32)
    plane = principal_plane(lambda t: [line], 1)
    assert plane is not None
    assert plane.shares == pytest.approx((1, 0), abs=1e-9)
    assert not plane.places[0][:, 1].any()


@pytest.fixture(scope="module")
def by_states(files: dict[str, Path], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten chosen by hidden states; read only but for the report."""
    out = tmp_path_factory.mktemp("runs") / "states"
    given = {"pool": str(files["pool"]), "query": str(files["query"]), "model": str(tiny_model)}
    handpick.select(**given, method="rds+", budget=10, max_length=128, out=str(out))
    return out


def points(found: FeatureMap) -> dict[str, Any]:
    return {layer["name"]: layer["points"] for layer in found.data()["layers"]}


def test_its_points_are_the_runs(by_states: Path) -> None:
    run = open_run(by_states)
    found = read_feature_map(run)
    assert isinstance(found, FeatureMap), found
    by_kind = points(found)
    assert [each[2] for each in by_kind["pick"]] == run.selection.ids
    assert [each[2] for each in by_kind["query"]] == run.query_ids
    assert len(by_kind["pool"]) == 110
    assert not {each[2] for each in by_kind["pool"]} & set(run.selection.ids)
    for x, y, example_id, text, query in by_kind["pick"]:
        assert 0 <= x <= found.width
        assert 0 <= y <= found.height
        pick = next(each for each in run.picks if each.id == example_id)
        assert " ".join(pick.messages[0].content.split())[:20] == text[:20]
        assert by_kind["query"][query][2] == pick.picked_for
    store = FeatureStore.open(next((by_states / "features").glob("pool-*")))
    values = np.linalg.svd(store.array() - np.mean(store.array(), axis=0), compute_uv=False)
    assert found.shares == pytest.approx(tuple(values[:2] ** 2 / np.square(values).sum()), rel=1e-4)


def test_of_a_large_pool_a_part_is_drawn(by_states: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("_POOL", 30), ("_PICKS", 4), ("_QUERIES", 3)):
        monkeypatch.setattr(feature_map, name, most)
    found = read_feature_map(open_run(by_states))
    assert isinstance(found, FeatureMap)
    by_kind = points(found)
    assert (len(by_kind["pick"]), len(by_kind["query"])) == (4, 3)
    assert 20 <= len(by_kind["pool"]) <= 30
    assert (found.picks.total, found.pool.total) == (10, 110)
    assert points(read_feature_map(open_run(by_states))) == by_kind  # type: ignore[arg-type]


def test_the_page_has_the_map_and_says_what_it_is(by_states: Path, page: Callable[[Path], Page]) -> None:
    found = page(write_selection_report(by_states))
    (said,) = found.all("p", id="map-how")
    assert re.search(r"\d features of rds\+", said)
    assert "rough picture" in said
    assert len([each for _, each, _ in found.elements if (each.get("class") or "") in ("map-pool", "map-picks")]) == 2


def test_without_features_there_is_a_sentence(by_words: Path, page: Callable[[Path], Page]) -> None:
    found = page(write_selection_report(by_words))
    assert "There is no map: bm25 makes no features that could be drawn." in found.all("p", class_="note")
    assert not found.all("svg", aria_hidden="true")


def test_features_that_are_gone_are_said(by_states: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(by_states, copy)
    for shard in (copy / "features").glob("pool-*/**/*.safetensors"):
        shard.unlink()
    assert read_feature_map(open_run(copy)) == "the pool's features are not in the folder any more"


def test_after_a_prefilter_the_map_is_of_what_it_left(files: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    given = {"pool": str(files["pool"]), "query": str(files["query"]), "model": str(tiny_model), "max_length": 128}
    out = tmp_path / "run"
    handpick.select(**given, method="rds+", budget=5, prefilter="bm25", prefilter_share="25%", out=str(out))
    found = read_feature_map(open_run(out))
    assert isinstance(found, FeatureMap), found
    assert "bm25 left" in found.note
    assert len(points(found)["pick"]) == 5
    assert len(points(found)["pool"]) == found.pool.total == 25
