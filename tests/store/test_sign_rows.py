"""Cosines that are told from signs: what they estimate, how far off they may be, and that everything reads them so.

Shapes: N rows, D features, Q queries.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from handpick import bundled
from handpick.algorithms import Picks
from handpick.algorithms.knn_kde import densities
from handpick.algorithms.protocol import inner_products
from handpick.constraints import Walk
from handpick.data.examples import Conversation, Message
from handpick.data.render import Renderer
from handpick.errors import SettingsError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import projection
from handpick.model import load_base, load_tokenizer
from handpick.objectives.next_token import mean_loss
from handpick.pipeline.distances import distances_of
from handpick.scorers.feature_scorer import feature_space
from handpick.scorers.gradient_encoder import encode_rows
from handpick.similarity import StoredSimilarity, candidate_features, query_rows, similarity
from handpick.store import FeatureStore
from handpick.store.codec import Storage
from handpick.store.manifest import Checkpoint, Manifest, ManifestFile
from handpick.store.sign_rows import SignKernel, query_slope
from handpick.training.settings import LoraSettings
from handpick.training.warmup import new_adapter
from tests.conftest import records

Floats = NDArray[np.float32]
DIM = 8192
NEAR = 0.8


def store_of(folder: Path, rows_TND: Floats, storage: Storage, weights: tuple[float, ...] = (1.0,)) -> FeatureStore:
    n = rows_TND.shape[1]
    checkpoints = [Checkpoint(name=str(t), weight=weight) for t, weight in enumerate(weights)]
    manifest = Manifest(
        space={"model": "m"}, build={}, dim=rows_TND.shape[2], storage=storage, checkpoints=checkpoints,
        files=[ManifestFile(name="a", sha256="a", rows=n)], shard_rows=max(1, n // 2),
    )  # fmt: skip
    store = FeatureStore.create(folder / storage, manifest)
    for t, rows_ND in enumerate(rows_TND):
        for shard in store.shards():
            here = slice(shard.start, shard.stop)
            store.write_shard(t, shard, [str(row) for row in range(n)][here], rows_ND[here])
    return FeatureStore.open(folder / storage)


def pairs_of_cosine(rho: float, n: int, seed: int) -> Floats:
    """2n rows, the first and the second n of which have this cosine in pairs, but for chance."""
    one_ND, other_ND = np.random.default_rng(seed).standard_normal((2, n, DIM))
    return np.concatenate([one_ND, rho * one_ND + np.sqrt(1 - rho**2) * other_ND]).astype(np.float32)


def unit(rows_ND: Floats) -> Floats:
    return rows_ND / np.linalg.norm(rows_ND, axis=1, keepdims=True)


def in_order(count: int) -> Picks:
    return Picks(np.arange(count), np.zeros(count, np.float32), np.full(count, -1))


@pytest.fixture(scope="module")
def real_rows() -> Floats:
    """Projected gradients, (64, D), of 32 records of the shipped pool, each followed by itself with words more."""
    name = str(bundled.model_path())
    model = new_adapter(load_base(name, torch.float32), LoraSettings(rank=8), 0, in_float32=True)
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in model.named_parameters():
        if ".lora_B." in parameter_name:
            parameter.data.copy_(1e-3 * torch.randn(parameter.shape, generator=generator))
    renderer, sequences = Renderer(load_tokenizer(name)), []
    for record in records(bundled.pool_paths()[0], 32):
        question, answer = (message["content"] for message in record["messages"])
        for said in (answer[:150], f"{answer[:150]} So."):
            turns = Conversation((Message("user", question[:150]), Message("assistant", said)))
            sequences.append(renderer(turns, 128))
    engine = GradientEngine(model)
    sparse = projection("sparse", engine.n_coordinates, DIM, 0, 4)
    return encode_rows(engine, [mean_loss(sequence) for sequence in sequences], 0, sparse, 2048)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.3, 0.9, 0.95])
def test_estimates_are_within_their_standard_errors(tmp_path: Path, rho: float) -> None:
    n = 60
    rows_ND = pairs_of_cosine(rho, n, seed=1)
    store, query = store_of(tmp_path, rows_ND[None, n:], "1bit"), store_of(tmp_path, rows_ND[None, :n], "float32")
    exact_N = (unit(rows_ND[:n]) * unit(rows_ND[n:])).sum(axis=1)
    told_N = np.diag(similarity(store, query))
    error = np.sqrt((np.pi / 2 - rho**2) / DIM)  # of a row against the others' ρ; the pair's own ρ takes off some of it
    assert abs((told_N - exact_N).mean()) < 4 * error / np.sqrt(n)
    assert np.sqrt(((told_N - exact_N) ** 2).mean()) < 1.3 * error
    both = store_of(tmp_path / "both", rows_ND[None], "1bit")
    features_NE = candidate_features(both, np.arange(2 * n))
    told_N = np.diag(SignKernel(1)(features_NE[:n], features_NE[n:]))
    theta = np.arccos(rho)
    error = np.sqrt(1 - rho**2) * np.sqrt(theta * (np.pi - theta) / DIM)
    assert abs((told_N - exact_N).mean()) < 4 * error / np.sqrt(n)
    assert np.sqrt(((told_N - exact_N) ** 2).mean()) < 1.3 * error


def test_the_kernel_grows_with_the_rows_and_keeps_copies_and_zeros() -> None:
    rng = np.random.default_rng(0)
    signs_NE = np.sign(rng.standard_normal((4, 96))).astype(np.float32)
    signs_NE[3, 32:64] = 0  # nothing at the second of three checkpoints
    signs_NE *= np.repeat(np.sqrt([0.5, 0.3, 0.2]) / np.sqrt(32), 32).astype(np.float32)
    kernel = SignKernel(3)
    found_NN = kernel(signs_NE, signs_NE)
    np.testing.assert_allclose(np.diag(found_NN), (signs_NE**2).sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(kernel(2 * signs_NE, 3 * signs_NE), 6 * found_NN, rtol=1e-5)
    assert not kernel(np.zeros_like(signs_NE), signs_NE).any()
    for a, b in ((0, 1), (2, 3)):  # by its definition
        want = 0.0
        for t, weight in enumerate((0.5, 0.3, 0.2)):
            a_D, b_D = (signs_NE[row, 32 * t : 32 * t + 32] for row in (a, b))
            if a_D.any() and b_D.any():
                want += weight * np.sin(np.pi / 2 * (np.sign(a_D) == np.sign(b_D)).mean() * 2 - np.pi / 2)
        assert found_NN[a, b] == pytest.approx(want, abs=1e-6)


def test_the_order_of_one_querys_candidates_is_that_of_the_signs(tmp_path: Path) -> None:
    rows_ND = np.random.default_rng(2).standard_normal((50, 256)).astype(np.float32)
    store, query = store_of(tmp_path, rows_ND[None, 5:], "1bit"), store_of(tmp_path, rows_ND[None, :5], "float32")
    plain_QN = unit(rows_ND[:5]) @ np.asarray(store.array(0)).T
    streamed = StoredSimilarity(store, query_rows(store, query))
    told_QN = similarity(store, query)
    np.testing.assert_allclose(told_QN, np.sqrt(np.pi / 2) * plain_QN, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(streamed.columns(np.arange(45)), told_QN, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_other_stores_are_read_as_they_were(tmp_path: Path, storage: Storage) -> None:
    rows_TND = np.random.default_rng(3).standard_normal((2, 40, 64)).astype(np.float32)
    store = store_of(tmp_path, rows_TND, storage, (0.7, 0.3))
    queries_TQD = [unit(rows_ND[:3]) for rows_ND in rows_TND]
    (_, first_QB), *_ = StoredSimilarity(store, queries_TQD).blocks()
    products = [next(store.products(t, np.float32(w) * queries_TQD[t]))[1] for t, w in enumerate((0.7, 0.3))]
    np.testing.assert_array_equal(first_QB, products[0] + products[1])
    space = feature_space(store, lambda: queries_TQD[0])
    features_NE = space.candidates(np.arange(40))
    np.testing.assert_array_equal(space.kernel(features_NE, features_NE), features_NE @ features_NE.T)
    assert (space.slope, query_slope(storage)) == (1.0, 1.0)


def test_queries_that_are_kept_as_signs_are_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, np.ones((1, 2, 8), np.float32), "1bit")
    with pytest.raises(SettingsError, match=r"kept as signs \(1bit\): represent the queries again, in float32$"):
        query_rows(store, store)


def test_near_duplicates_and_similarities_of_real_rows_are_those_of_float32(tmp_path: Path, real_rows: Floats) -> None:
    stores = {name: store_of(tmp_path, real_rows[None], name) for name in ("float32", "1bit")}  # type: ignore[arg-type]
    spaces = {name: feature_space(store, lambda: unit(real_rows[:8])) for name, store in stores.items()}
    features = {name: space.candidates(np.arange(len(real_rows))) for name, space in spaces.items()}
    cosines = {name: space.kernel(features[name], features[name]) for name, space in spaces.items()}
    off_NN = cosines["1bit"] - cosines["float32"]
    assert abs(off_NN.mean()) < 0.01
    assert np.abs(off_NN).max() < 0.15
    plain_NN = features["1bit"] @ features["1bit"].T  # what was taken for the cosine before
    counts = {name: int((np.triu(found_NN, 1) > NEAR).sum()) for name, found_NN in (*cosines.items(), ("0", plain_NN))}
    assert counts["float32"] >= 10, counts
    assert abs(counts["1bit"] - counts["float32"]) <= 0.2 * counts["float32"]
    assert counts["0"] < 0.5 * counts["float32"]
    passed = {}
    for name, space in spaces.items():
        walk = Walk(in_order, len(real_rows), 24, candidates=space.candidates, kernel=space.kernel, max_cosine=NEAR)
        assert len(list(walk)) == 24
        passed[name] = len(walk.passed.near_duplicates)
    assert passed["float32"] > 0
    assert abs(passed["1bit"] - passed["float32"]) <= max(2, 0.2 * passed["float32"])
    queries_QE, told = spaces["1bit"].queries(), spaces["1bit"].slope * spaces["1bit"].queries() @ features["1bit"].T
    exact = queries_QE @ features["float32"].T
    assert (told * exact).sum() / (exact**2).sum() == pytest.approx(1, abs=0.05)


def test_densities_and_distances_are_on_the_scale_of_float32(tmp_path: Path, real_rows: Floats) -> None:
    columns = np.arange(len(real_rows))
    queries_QD = unit(real_rows[:8])
    stores = {name: store_of(tmp_path, real_rows[None], name) for name in ("float32", "1bit")}  # type: ignore[arg-type]
    spaces = {name: feature_space(store, lambda: queries_QD) for name, store in stores.items()}
    density = {name: densities(s.candidates, columns, 0.75, 20, s.kernel) for name, s in spaces.items()}
    before = densities(spaces["1bit"].candidates, columns, 0.75, 20)
    assert np.abs(density["1bit"] - density["float32"]).mean() < 0.3 * np.abs(before - density["float32"]).mean()
    found = {name: distances_of(space, {"s": columns[8:40]})["s"] for name, space in spaces.items()}
    plain = distances_of(replace(spaces["1bit"], kernel=inner_products, slope=1.0), {"s": columns[8:40]})["s"]
    for name in ("query_to_subset", "subset_to_query", "wasserstein", "energy"):
        want, told, was = (getattr(each, name) for each in (found["float32"], found["1bit"], plain))
        assert abs(told - want) < 0.5 * abs(was - want), name


def test_densities_are_those_of_the_kernels_similarities(tmp_path: Path) -> None:
    rows_ND = np.random.default_rng(5).standard_normal((2500, 64)).astype(np.float32)
    rows_ND[1250:] = rows_ND[:1250] + 0.4 * rows_ND[1250:]
    space = feature_space(store_of(tmp_path, rows_ND[None], "1bit"), lambda: rows_ND)
    features_NE = space.candidates(np.arange(2500))
    similarity_NN = space.kernel(features_NE, features_NE)
    np.fill_diagonal(similarity_NN, 1)
    kernel_NN = np.maximum(1 - 2 * np.maximum(1 - similarity_NN, 0) / 1.2**2, 0)
    want_N = np.sort(kernel_NN, axis=1)[:, -30:].sum(axis=1)
    found_N = densities(space.candidates, np.arange(2500), 1.2, 30, space.kernel)
    assert found_N == pytest.approx(want_N, rel=1e-5)
