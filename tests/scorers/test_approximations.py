"""Fewer tokens and fewer layers, through whole runs: what is in a fingerprint, which side it is on, what is refused."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handpick
from handpick.errors import FingerprintMismatch, SettingsError
from handpick.layer_numbers import layers_among
from handpick.pipeline import run_select
from handpick.pipeline.prepare import prepare_plan
from handpick.planning import plan_select
from handpick.representations import SCORERS
from handpick.scorers.gradient_stores import GradientStores
from handpick.settings import Settings, parse_settings
from handpick.store import FeatureStore
from tests.conftest import write_jsonl

Given = dict[str, Any]
WARMUP = {"at_least": 12, "epochs": 1, "batch": 4, "learning_rate": 1e-2, "lora": {"rank": 2, "alpha": 4}}


@pytest.fixture(scope="module")
def given(
    tiny_model: Path,
    pool_records: list[dict[str, Any]],
    query_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Given:
    folder = tmp_path_factory.mktemp("approximations")
    return {
        "pool": str(write_jsonl(folder / "pool.jsonl", pool_records[:20])),
        "query": str(write_jsonl(folder / "query.jsonl", query_records[:3])),
        "model": str(tiny_model), "budget": 5, "max_length": 256, "dtype": "float32", "warmup": WARMUP,
        "projection": "none", "shard_rows": 8,
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(given: Given, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with nothing left out."""
    out = tmp_path_factory.mktemp("whole")
    handpick.select(**given, out=str(out))
    return out


def stores(out: Path) -> tuple[FeatureStore, FeatureStore]:
    """The pool's and the queries'."""
    return FeatureStore.open(out / "features" / "pool"), FeatureStore.open(next((out / "features").glob("query-*")))


def checkpoints(out: Path) -> list[str]:
    return sorted(str(path) for path in (out / "warmup").glob("checkpoint-*"))


def test_at_their_defaults_they_are_in_no_fingerprint(whole: Path) -> None:
    for store in stores(whole):
        manifest = store.manifest
        assert not {"layers", "response_tokens"} & (manifest.space.keys() | manifest.build.keys())


def test_late_layers_through_a_run(given: Given, whole: Path, tmp_path: Path) -> None:
    """Through Adam, at the same warmup; half of the tiny model's two layers, and of the coordinates."""
    own = given | {"warmup": "auto", "checkpoints": checkpoints(whole), "layers": "late", "out": str(tmp_path)}
    handpick.select(**own)
    for store, of_all in zip(stores(tmp_path), stores(whole), strict=True):
        assert store.manifest.space["layers"] == "late"
        rows_NP, rows_ND = (np.asarray(each.array(0, normalized=False)) for each in (store, of_all))
        assert rows_NP.shape[1] * 2 == rows_ND.shape[1]
        assert np.allclose(rows_NP, rows_ND[:, rows_NP.shape[1] :], rtol=1e-5, atol=1e-7)  # layer 1 comes behind 0
    with pytest.raises(FingerprintMismatch, match="layers"):
        handpick.select(**own | {"layers": "1"})
    assert handpick.select(query=given["query"], store=str(tmp_path / "features" / "pool"), budget=5).ids


def test_the_queries_answers_stay_whole(given: Given, whole: Path, tmp_path: Path) -> None:
    own = given | {"warmup": "auto", "checkpoints": checkpoints(whole), "response_tokens": 4, "out": str(tmp_path)}
    handpick.select(**own)
    (pool, query), (pool_of_all, query_of_all) = stores(tmp_path), stores(whole)
    assert pool.manifest.build["response_tokens"] == 4
    assert query.manifest.fingerprint() == query_of_all.manifest.fingerprint()
    assert np.array_equal(query.array(0), query_of_all.array(0))
    assert pool.manifest.space == pool_of_all.manifest.space
    assert not np.allclose(pool.array(0), pool_of_all.array(0))
    with pytest.raises(FingerprintMismatch, match="response_tokens"):
        handpick.select(**own | {"response_tokens": 5})


@pytest.mark.parametrize("more", [{"method": "gist"}, {"method": "whitened-rr"}, {"score_only": True}])
def test_every_way_of_gradients_takes_both(more: Given, given: Given, whole: Path, tmp_path: Path) -> None:
    own = given | {"warmup": "auto", "checkpoints": checkpoints(whole), "projection": "sparse", "projection_dim": 64}
    own |= {"layers": "late", "response_tokens": 4, "out": str(tmp_path)} | more
    plan = plan_select(parse_settings(own), 0.1)
    assert plan.total.flops
    assert len(handpick.select(**own).ids) == 5
    assert "whole" not in {path.name for path in tmp_path.iterdir()}


def test_the_description_of_rows_takes_them_to_another_process(given: Given, tmp_path: Path) -> None:
    settings = parse_settings(given | {"layers": "1", "response_tokens": 3, "warmup": "none", "method": "gradient-rr"})
    inputs = prepare_plan(settings.model_copy(update={"out": str(tmp_path / "out")}), tmp_path).inputs
    here = GradientStores(inputs).spec("pool")
    there = pickle.loads(pickle.dumps(here)).load()
    examples = inputs.pool.pool.examples(0, 4)
    items = here.load().prepare(examples).items
    assert [each.n_labels for each in items] == [3] * 4
    assert there.prepare(examples).items == items
    assert np.array_equal(there.encode(0, items, print), here.load().encode(0, items, print))


def test_a_plan_says_what_they_save(given: Given, tmp_path: Path) -> None:
    def flops(**more: Any) -> float:
        settings = parse_settings(given | {"warmup": "none", "method": "gradient-rr", "out": str(tmp_path)} | more)
        (pool,) = [stage for stage in plan_select(settings, 0.1).stages if stage.name == "pool features"]
        assert pool.flops is not None
        return pool.flops

    whole = flops()
    assert flops(layers="1") < 0.85 * whole
    assert flops(response_tokens=2) < 0.85 * whole


def test_a_warmup_is_not_trained_for_layers_without_an_adapter(given: Given, tmp_path: Path) -> None:
    lora = WARMUP["lora"] | {"targets": ["layers.1.self_attn.q_proj"]}
    settings = given | {"warmup": WARMUP | {"lora": lora}, "layers": "0", "out": str(tmp_path)}
    with pytest.raises(SettingsError, match=r"--layers 0 leaves no weight .* stands on the layers 1$"):
        run_select(parse_settings(settings))
    assert not (tmp_path / "warmup").exists()


@pytest.mark.parametrize(
    ("said", "kept"),
    [("late", "late"), ("all", "all"), ("3,1,2,7", "1-3,7"), ([0, 5, 11], "0,5,11"), (4, "4"), ("2-2", "2")],
)
def test_the_same_layers_are_written_in_one_way(said: Any, kept: str) -> None:
    assert Settings(layers=said).layers == kept


@pytest.mark.parametrize("said", ["", "early", "1,late", "5-3", "-1", "1.5", [], None, True])
def test_what_names_no_layers_is_refused(said: Any) -> None:
    with pytest.raises(SettingsError, match="layers should"):
        parse_settings({"layers": said})


def test_late_is_the_last_third() -> None:
    assert [layers_among("late", n) for n in (1, 2, 3, 4, 12)] == [[0], [1], [2], [2, 3], [8, 9, 10, 11]]
    assert layers_among("all", 3) == [0, 1, 2]
    assert layers_among("0,2-4", 5) == [0, 2, 3, 4]


@pytest.mark.parametrize("name", ["gradient", "whitened", "gist"])
def test_they_decide_the_rows_of_gradients_alone(name: str) -> None:
    assert {"layers", "response_tokens"} <= SCORERS[name].rows
    assert all(
        not {"layers", "response_tokens"} & spec.reads for spec in SCORERS.values() if "warmup" not in spec.needs
    )
