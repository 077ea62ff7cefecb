"""The similarities of the report are those of ``handpick similarity``."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.pipeline import run_similarity
from handpick.reporting.nearest import NearestSimilarities, nearest_similarities
from handpick.reporting.run_folder import open_run
from handpick.settings import Settings

MODEL_METHODS = ["gradient-rr", "whitened-rr", "gist", "tacs", "rds+", "whitened-rds-rr", "longest"]


def settings(method: str, files: dict[str, Path], model: Path, out: Path) -> dict[str, Any]:
    own: dict[str, Any] = {"method": method, "budget": "10", "out": str(out), "pool": [str(files["pool"])]}
    if method not in ("longest", "random"):
        own["query"] = [str(files["query"])]
    if method in MODEL_METHODS:
        own |= {"model": str(model), "max_length": 128}
    if method in ("gradient-rr", "whitened-rr"):
        own |= {"projection_dim": 128, "optimizer": "sgd"}
    if method == "tacs":
        own |= {"tacs_rate": 1e-3, "tacs_depth": 2, "max_length": 512}
    if method in ("gradient-rr", "whitened-rr", "gist"):
        own |= {"warmup": "none"}
    return own


@pytest.mark.parametrize(
    ("method", "score_only"),
    [*((method, False) for method in (*MODEL_METHODS, "bm25", "dsir")), ("gradient-rr", True)],
)
def test_as_the_command_writes_them(
    method: str, score_only: bool, files: dict[str, Path], tiny_model: Path, tmp_path: Path
) -> None:
    own = settings(method, files, tiny_model, tmp_path / "run")
    selection = handpick.select(**own | {"score_only": score_only})
    found = nearest_similarities(open_run(tmp_path / "run"))
    assert isinstance(found, NearestSimilarities), found

    run_similarity(Settings(**own | {"out": str(tmp_path / "similarity")}))
    similarity_QN = np.load(tmp_path / "similarity" / "similarity.npy")
    names = json.loads((tmp_path / "similarity" / "similarity.json").read_text())["examples"]
    if method == "gist":  # its own rows are subtasks' means
        similarity_QN = to_single_queries(tmp_path / "run")
    largest_N = similarity_QN.max(axis=0)
    np.testing.assert_allclose(np.sort(found.pool), np.sort(largest_N), rtol=1e-5, atol=1e-6)
    column_of = {name: column for column, name in enumerate(names)}
    expected = largest_N[[column_of[each] for each in selection.ids]]
    np.testing.assert_allclose(found.chosen, expected, rtol=1e-5, atol=1e-6)
    assert len(found.drawn) == 10
    assert found.candidates == len(names)


def to_single_queries(folder: Path) -> Any:
    from handpick.similarity import similarity
    from handpick.store import FeatureStore

    (pool,) = (path for path in (folder / "features").glob("gist-*"))
    (query,) = (path for path in (folder / "features").glob("query-gist-*"))
    return similarity(FeatureStore.open(pool), FeatureStore.open(query))


def test_a_random_draw_has_none(files: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    handpick.select(**settings("random", files, tiny_model, tmp_path / "run"))
    assert nearest_similarities(open_run(tmp_path / "run")) == "the method random looks at no similarity"


def test_features_that_are_gone_are_said(files: dict[str, Path], tiny_model: Path, tmp_path: Path) -> None:
    handpick.select(**settings("rds+", files, tiny_model, tmp_path / "run"))
    for shard in (tmp_path / "run" / "features" / "pool-rds+").rglob("*.safetensors"):
        shard.unlink()
    assert nearest_similarities(open_run(tmp_path / "run")) == "the pool's features are not in the folder any more"


def test_of_a_large_pool_a_sample(
    files: dict[str, Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handpick.reporting.nearest.SAMPLE", 30)
    monkeypatch.setattr("handpick.reporting.run_folder.SAMPLE", 30)
    handpick.select(**settings("rds+", files, tiny_model, tmp_path / "run"))
    run = open_run(tmp_path / "run")
    found = nearest_similarities(run)
    assert isinstance(found, NearestSimilarities)
    assert (len(found.pool), found.candidates, len(found.chosen)) == (30, 120, 10)
    assert run.pool is not None
    assert len(run.pool.responses) == 30
    assert len(set(run.pool.sample.tolist())) == 30
