"""Every method from files to a selection, and every representation with every algorithm."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import handpick
from handpick.algorithms import ALGORITHMS
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import DataError, FingerprintMismatch, SettingsError
from handpick.methods import METHODS
from handpick.model import load_tokenizer
from handpick.pipeline import run_represent, run_select, run_similarity
from handpick.representations import SCORERS
from handpick.scorers import scoring_problem as problem
from handpick.scorers import whitening
from handpick.scorers.embedding import Embedding
from handpick.scorers.gist_subspace import Subspace, query_subspace
from handpick.scorers.gradient_encoder import GradientEncoder
from handpick.scorers.hidden_states import HiddenStates
from handpick.scorers.row_scorer import open_encoder
from handpick.settings import parse_settings
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL, Finished
from tests.scorers.test_embedding import tiny_encoder  # noqa: F401

pytest.importorskip("sentence_transformers")

Given = dict[str, Any]

# settings of single methods that are made for larger pools, or would be found out at length
OF_METHODS: Given = {"landmarks": 15, "tacs_rate": 1e-3, "tacs_depth": 2}

OWN_ANSWERS = [name for name, method in METHODS.items() if method.objective == "next-token"]


@pytest.fixture(scope="module")
def labelled_file(data: Path, query_records: list[dict[str, Any]]) -> Path:
    """The four queries, of two subtasks."""
    labelled = [r | {"subtask": name} for r, name in zip(query_records[:4], "abaa", strict=True)]
    return write_jsonl(data / "labelled-four.jsonl", labelled)


@pytest.fixture(scope="module")
def trained(
    given: Given, finished: Finished, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Given:
    """Settings of runs that share a folder with the features of LESS."""
    out = finished.copy_to(tmp_path_factory.mktemp("runs") / "trained")
    return given | {"out": str(out), "encoder": str(request.getfixturevalue("tiny_encoder")), **OF_METHODS}


@pytest.fixture(scope="module")
def plain(
    untrained: Given, finished_untrained: Finished, labelled_file: Path, request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Given:  # fmt: skip
    """Settings of runs that share a folder with plain gradients, for queries of two subtasks."""
    out = finished_untrained.copy_to(tmp_path_factory.mktemp("runs") / "plain")
    encoder = str(request.getfixturevalue("tiny_encoder"))
    return untrained | {"query": labelled_file, "out": str(out), "encoder": encoder, **OF_METHODS}


def store_of(folder: str | Path, pattern: str) -> handpick.FeatureStore:
    (path,) = Path(folder, "features").glob(pattern)
    return handpick.FeatureStore.open(path)


def query_store_like(folder: str | Path, pool: handpick.FeatureStore) -> handpick.FeatureStore:
    """The query's store of the same space."""
    stores = map(handpick.FeatureStore.open, Path(folder, "features").glob("query-*"))
    (same,) = [store for store in stores if store.manifest.space == pool.manifest.space]
    return same


def unit(rows: NDArray[Any]) -> NDArray[np.float64]:
    wide = np.asarray(rows, dtype=np.float64)
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)


# --- every method, every pair ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", OWN_ANSWERS)
def test_every_method_runs_is_deterministic_and_nested(
    method: str, trained: Given, plain: Given, tmp_path: Path
) -> None:
    base = trained if METHODS[method].optimizer == "adam" else plain
    settings = base | {"method": method}
    selection = handpick.select(**settings)
    assert len(selection.ids) == len(set(selection.ids)) == 10
    assert np.isfinite(selection.scores).all()
    assert handpick.select(**settings | {"budget": 4}).ids == selection.ids[:4]
    assert handpick.select(**settings | {"budget": 25}).ids[:10] == selection.ids

    fresh = tmp_path / "fresh"  # all of it computed again, but for the warmup
    if Path(base["out"], "warmup").exists():
        shutil.copytree(Path(base["out"], "warmup"), fresh / "warmup")
    again = handpick.select(**settings | {"out": str(fresh)})
    assert (again.ids, again.scores, again.picked_for) == (selection.ids, selection.scores, selection.picked_for)
    assert (fresh / "selected.jsonl").read_bytes() == b"".join(again.record(i) + b"\n" for i in range(10))


@pytest.mark.parametrize("representation", [name for name, spec in SCORERS.items() if spec.argument is None])
def test_every_representation_goes_with_every_algorithm_or_is_refused_before_any_work(
    representation: Any, plain: Given, tmp_path: Path
) -> None:
    """What runs chooses what the algorithm chooses from the matrix that `handpick similarity` writes."""
    gives = SCORERS[representation].output
    settings = plain | {"representation": representation}
    matrix_QN, names, subtasks = np.zeros((1, 0)), {}, []
    if gives != "nothing":
        folder = run_similarity(parse_settings(settings))
        matrix_QN, names = np.load(folder / "similarity.npy"), json.loads((folder / "similarity.json").read_text())
        subtasks = {"features": list("abaa"), "similarity": list("abaa"), "scores": [""]}[gives]
        subtasks = {"gist": ["a", "b"], "tacs": ["all queries"]}.get(representation, subtasks)
    for algorithm in ALGORITHMS:
        refused = (gives == "nothing" and algorithm != "random") or (gives != "features" and algorithm == "knn-kde")
        if refused:
            with pytest.raises(SettingsError, match=r"that the algorithm|has no features to do it by"):
                handpick.select(**settings | {"algorithm": algorithm, "out": str(tmp_path / "refused")})
            assert not (tmp_path / "refused").exists()
            continue
        selection = handpick.select(**settings | {"algorithm": algorithm})
        assert len(selection.ids) == len(set(selection.ids)) == 10, algorithm
        if gives == "nothing":
            continue
        candidates = None
        if gives == "features":
            name = {"gradient": "pool", "whitened": "pool", "gist": "gist-*"}.get(representation)
            rows_of = f"pool-{SCORERS[representation].stores or representation}"
            features_ND = np.asarray(store_of(plain["out"], name or rows_of).array(0))
            candidates = features_ND.__getitem__
        columns = handpick.rank(matrix_QN, 10, algorithm, subtasks=subtasks, candidates=candidates)
        assert selection.ids == [names["examples"][column] for column in columns], algorithm
        if algorithm == "random":
            assert selection.picked_for == [None] * 10


def test_no_kernel_needs_no_features(plain: Given) -> None:
    """The one algorithm that compares candidates does not where its kernel has no width."""
    settings = plain | {"algorithm": "knn-kde", "kde_width": 0, "knn_alpha": 0.5}
    for method in ("bm25", "dsir", "perplexity"):
        assert len(handpick.select(**settings | {"method": method})) == 10


# --- a similarity that does not fit in memory ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "is_written"),
    [
        ({}, False),
        ({"algorithm": "mean-max"}, False),
        ({"algorithm": "doubly-greedy"}, False),
        ({"algorithm": "knn-uniform"}, False),
        ({"algorithm": "knn-kde"}, False),
        ({"algorithm": "uot"}, True),
        ({"algorithm": "facility-location"}, True),
        ({"representation": "gist", "algorithm": "round-robin"}, False),
        ({"representation": "whitened"}, False),
        ({"representation": "rds+"}, False),
        ({"representation": "bm25"}, True),  # computed a query at a time, and read many at a time
    ],
)
def test_a_large_similarity_gives_the_very_same_choice(
    change: Given, is_written: bool, plain: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(plain["out"], tmp_path / "large")
    (out / "similarity.npy").unlink(missing_ok=True)
    small = handpick.select(**plain | change)
    monkeypatch.setattr(problem, "_IN_MEMORY", 0)
    large = handpick.select(**plain | change | {"out": str(out)})
    assert (large.ids, large.scores, large.picked_for) == (small.ids, small.scores, small.picked_for)
    assert (out / "similarity.npy").exists() is is_written


# --- GIST ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def raw(plain: Given, tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Whole gradients of queries and pool, from a run without a projection."""
    out = str(tmp_path_factory.mktemp("runs") / "raw")
    handpick.select(**plain | {"projection": "none", "out": out})
    pool, query = store_of(out, "pool"), store_of(out, "query-*")
    return tuple(np.asarray(s.array(0, normalized=False), np.float64) for s in (query, pool))  # type: ignore[return-value]


def subspace(grad_QD: NDArray[np.float64], dim: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """U_k S_k and Gᵀ U_k S_k⁻¹, each direction with its largest coordinate among the queries positive."""
    U_QQ, S_Q, _ = np.linalg.svd(grad_QD, full_matrices=False)
    U_QK, S_K = U_QQ[:, :dim], S_Q[:dim]
    U_QK = U_QK * np.sign(U_QK[np.abs(U_QK).argmax(axis=0), np.arange(U_QK.shape[1])])
    return U_QK * S_K, grad_QD.T @ U_QK / S_K


@pytest.mark.parametrize(("gist_dim", "kept"), [(150, 4), (2, 2), (1, 1)])
def test_gist_is_the_papers_formula(
    gist_dim: int, kept: int, plain: Given, raw: tuple[NDArray[np.float64], NDArray[np.float64]], out: str
) -> None:
    selection = handpick.select(**plain | {"method": "gist", "gist_dim": gist_dim, "budget": "100%", "out": out})
    grad_QD, pool_ND = raw
    want_QK, basis_DK = subspace(grad_QD, gist_dim)
    query, pool = store_of(out, "query-gist-*"), store_of(out, "gist-*")
    assert query.dim == pool.dim == kept
    found_QK = np.asarray(query.array(0, normalized=False))
    found_NK = np.asarray(pool.array(0, normalized=False))
    np.testing.assert_allclose(found_QK, want_QK, atol=1e-4 * np.abs(want_QK).max())
    np.testing.assert_allclose(found_NK, pool_ND @ basis_DK, atol=1e-4 * np.abs(pool_ND @ basis_DK).max())

    # raw query rows averaged per subtask, normalised; pool rows normalised; cosine; the larger of the two subtasks
    means_SK = unit(np.stack([want_QK[[0, 2, 3]].mean(axis=0), want_QK[1]]))
    cosine_SN = means_SK @ unit(pool_ND @ basis_DK).T
    row_of = {example_id: row for row, example_id in enumerate(pool.ids)}
    chosen = [row_of[example_id] for example_id in selection.ids]
    np.testing.assert_allclose(selection.scores, cosine_SN.max(axis=0)[chosen], atol=1e-4)
    assert selection.scores == sorted(selection.scores, reverse=True)

    # each pick is for a query of the subtask that it is nearest to, and there for the nearest
    single_QN = unit(want_QK) @ unit(pool_ND @ basis_DK).T
    for row, picked_for in zip(chosen, selection.picked_for, strict=True):
        own = [[0, 2, 3], [1]][int(cosine_SN[:, row].argmax())]
        query_row = query.ids.index(str(picked_for))
        assert query_row in own
        assert single_QN[query_row, row] == pytest.approx(single_QN[own, row].max(), abs=1e-4)


def test_gist_with_one_query(plain: Given, query_records: list[dict[str, Any]], tmp_path: Path, out: str) -> None:
    """One direction: every example lies along it or against it."""
    query = write_jsonl(tmp_path / "one.jsonl", query_records[:1])
    selection = handpick.select(**plain | {"method": "gist", "query": query, "budget": "100%", "out": out})
    assert np.abs(selection.scores) == pytest.approx(1, abs=1e-6)
    assert set(selection.picked_for) == {query_records[0]["id"]}


def test_gist_is_made_at_the_last_checkpoint_alone(trained: Given) -> None:
    handpick.select(**trained | {"method": "gist"})
    gist, less = store_of(trained["out"], "gist-*"), store_of(trained["out"], "pool")
    assert gist.checkpoints == less.checkpoints[-1:]
    assert gist.weights == [1.0]
    assert gist.manifest.build["optimizer"] == "sgd"


def test_a_killed_gist_run_goes_on(plain: Given, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = plain | {"method": "gist"}
    whole = handpick.select(**settings)
    own, written = handpick.FeatureStore.write_shard, []

    def twice(store: handpick.FeatureStore, *args: Any) -> None:
        written.append(store.path.name)
        if len(written) == 3:  # the query's one shard, and one of the pool's three
            raise KeyboardInterrupt
        own(store, *args)

    with monkeypatch.context() as patched:
        patched.setattr(handpick.FeatureStore, "write_shard", twice)
        with pytest.raises(KeyboardInterrupt):
            handpick.select(**settings | {"out": out})
    (path,) = Path(out, "features").glob("gist-*")
    kept = {shard: shard.stat().st_mtime_ns for shard in path.rglob("*.safetensors")}
    assert len(kept) == 1
    again = handpick.select(**settings | {"out": out})
    assert (again.ids, again.scores) == (whole.ids, whole.scores)
    assert {shard: shard.stat().st_mtime_ns for shard in kept} == kept


def turned(*args: Any) -> Subspace:
    """A subspace as another machine may find it: singular vectors have no sign."""
    query_QK, basis_DK = query_subspace(*args)
    return Subspace(-query_QK, -basis_DK)


def test_what_goes_on_with_gist_keeps_the_basis(
    plain: Given, more_file: Path, out: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A run that was killed before its queries' features were there, and a pool that has grown."""
    settings = plain | {"method": "gist", "out": out}
    grown = settings | {"pool": [plain["pool"], more_file], "budget": "100%"}
    want = [handpick.select(**given | {"out": f"{out}-want"}) for given in (settings, grown)]

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(handpick.FeatureStore, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            handpick.select(**settings)
    monkeypatch.setattr("handpick.scorers.gist.query_subspace", turned)
    found = [handpick.select(**given) for given in (settings, grown)]
    assert [each.ids for each in found] == [each.ids for each in want]
    assert [each.scores for each in found] == [each.scores for each in want]
    for name in ("gist-*", "query-gist-*"):
        (there,), (wanted,) = Path(out, "features").glob(name), Path(f"{out}-want", "features").glob(name)
        shards = sorted(path.relative_to(there) for path in there.rglob("*.safetensors"))
        assert [(there / path).read_bytes() for path in shards] == [(wanted / path).read_bytes() for path in shards]
    request.getfixturevalue("no_model")
    assert handpick.select(**grown).ids == want[1].ids  # all of it is there


def test_gist_rows_of_two_bases_do_not_stand_in_one_store(
    plain: Given, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = plain | {"method": "gist", "out": out}
    handpick.select(**settings)
    with pytest.raises(FingerprintMismatch, match=r"the queries' subspace in .* build\.max_length is 2048 there"):
        handpick.select(**settings, max_length=100)
    (kept,) = Path(out, "features").glob("subspace-*")
    shutil.rmtree(kept)
    monkeypatch.setattr("handpick.scorers.gist.query_subspace", turned)
    with pytest.raises(FingerprintMismatch, match=r"query-gist-\S+ does not match: space\.projection\.basis is "):
        handpick.select(**settings)


def test_a_query_without_a_gradient_is_left_out_of_gist(
    plain: Given, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    query_records: list[dict[str, Any]], tmp_path: Path,
) -> None:  # fmt: skip
    """As if it had never been there."""
    records = [query_records[i] | {"subtask": name} for i, name in ((0, "a"), (2, "a"), (3, "a"))]
    without = write_jsonl(tmp_path / "without.jsonl", records)
    want = handpick.select(**plain | {"method": "gist", "query": without, "out": out + "-without"})
    own = GradientEncoder.encode

    def silent(encoder: GradientEncoder, *args: Any) -> Any:
        features_BK = own(encoder, *args)
        if len(features_BK) == 4:  # the queries'
            features_BK[1] = 0
        return features_BK

    monkeypatch.setattr(GradientEncoder, "encode", silent)
    selection = handpick.select(**plain | {"method": "gist", "out": out})
    assert f"1 of 4 queries have no gradient at any checkpoint and are left out: {query_records[1]['id']}" in (
        capsys.readouterr().err.replace("\n", "")
    )
    assert (selection.ids, selection.picked_for) == (want.ids, want.picked_for)
    assert selection.scores == pytest.approx(want.scores, abs=1e-5)


def test_gist_stores_of_two_query_sets_stand_beside_each_other(
    plain: Given, query_records: list[dict[str, Any]], tmp_path: Path, out: str
) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", query_records[4:7])
    settings = plain | {"method": "gist", "out": out}
    first = handpick.select(**settings)
    assert handpick.select(**settings | {"query": other}).ids != first.ids
    assert handpick.select(**settings).ids == first.ids
    assert len(list(Path(out, "features").glob("gist-*"))) == 2


def test_what_picks_for_no_query_says_so_in_gist(plain: Given, tmp_path: Path) -> None:
    settings = plain | {"method": "gist"}
    last = handpick.select(**settings | {"budget": "100%"}).ids[-1]
    (tmp_path / "always.txt").write_text(last + "\n")
    selection = handpick.select(**settings | {"always": str(tmp_path / "always.txt")})
    assert (selection.ids[0], selection.picked_for[0]) == (last, None)
    assert None not in selection.picked_for[1:]


# --- whitened gradients ----------------------------------------------------------------------------------------------


def test_whitened_is_the_inverse_of_the_pools_covariance_at_every_checkpoint(trained: Given) -> None:
    settings = trained | {"method": "whitened-rr", "whitening_damping": 0.5, "budget": "100%"}
    selection = handpick.select(**settings)
    pool = store_of(trained["out"], "pool")
    query = query_store_like(trained["out"], pool)
    similarity_QN: NDArray[np.float64] = np.zeros((4, N_POOL))
    for t, weight in enumerate(pool.weights):
        x_ND = np.asarray(pool.array(t), np.float64)
        moment_DD = x_ND.T @ x_ND / N_POOL
        damped_DD = moment_DD + 0.5 * np.trace(moment_DD) / pool.dim * np.eye(pool.dim)
        solved_QD = (np.linalg.inv(damped_DD) @ np.asarray(query.array(t), np.float64).T).T
        similarity_QN += weight * unit(solved_QD) @ x_ND.T
    rows = {example_id: row for row, example_id in enumerate(pool.ids)}
    for example_id, score, picked_for in zip(selection.ids, selection.scores, selection.picked_for, strict=True):
        want = similarity_QN[query.ids.index(str(picked_for)), rows[example_id]]
        assert score == pytest.approx(want, abs=1e-4)
    assert handpick.select(**trained | {"budget": "100%"}).ids != selection.ids


def test_much_damping_is_the_plain_order(plain: Given) -> None:
    """What is added to every eigenvalue outweighs them, so that the covariance is as good as the identity."""
    whitened = handpick.select(**plain | {"representation": "whitened", "whitening_damping": 1e6})
    gradient = handpick.select(**plain)
    assert whitened.ids == gradient.ids
    assert whitened.scores == pytest.approx(gradient.scores, abs=1e-4)


def test_whitened_chooses_on_the_store_that_less_has_left(trained: Given, out: str, no_model: None) -> None:
    """No gradient of the pool is computed, nor any covariance that an earlier run has kept beside its shards."""
    store = Path(trained["out"], "features", "pool")
    first = handpick.select(**trained | {"method": "whitened-rr"})
    kept = sorted(store.glob("second-moment-*.npy"))
    assert len(kept) == 2  # a checkpoint each
    shutil.copytree(Path(trained["out"], "features"), Path(out, "features"), ignore=shutil.ignore_patterns("pool*"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(whitening, "second_moment", lambda *_: pytest.fail("the covariance was computed again"))
        again = handpick.select(
            query=trained["query"], store=str(store), method="whitened-rr", budget=10, out=out
        )  # fmt: skip
    assert (again.ids, again.scores) == (first.ids, first.scores)


@pytest.mark.parametrize(("whitened", "rows"), [("whitened-rds+", "rds+"), ("whitened-embed", "embed")])
def test_whitened_rows_are_the_inverse_of_the_pools_second_moment(
    whitened: str, rows: str, plain: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the store that the plain rows have left: nothing is read again."""
    settings = plain | {"representation": whitened, "algorithm": "round-robin", "whitening_damping": 0.5}
    unlike = handpick.select(**plain | {"method": rows, "budget": "100%"}).ids
    encoder = {"rds+": HiddenStates, "embed": Embedding}[rows]
    monkeypatch.setattr(encoder, "encode", lambda *_: pytest.fail("the rows were made again"))
    selection = handpick.select(**settings | {"budget": "100%"})
    pool = store_of(plain["out"], f"pool-{rows}")
    query = query_store_like(plain["out"], pool)
    x_ND = np.asarray(pool.array(0), np.float64)
    moment_DD = x_ND.T @ x_ND / len(x_ND)
    damped_DD = moment_DD + 0.5 * np.trace(moment_DD) / pool.dim * np.eye(pool.dim)
    similarity_QN = unit((np.linalg.inv(damped_DD) @ unit(query.array(0)).T).T) @ x_ND.T
    at = {example_id: row for row, example_id in enumerate(pool.ids)}
    want = [
        similarity_QN[query.ids.index(str(query_id)), at[example_id]]
        for example_id, query_id in zip(selection.ids, selection.picked_for, strict=True)
    ]
    assert selection.scores == pytest.approx(want, abs=1e-4)
    assert selection.ids != unlike


def test_a_pool_that_has_grown_has_another_covariance(trained: Given, more_file: Path, tmp_path: Path) -> None:
    out = shutil.copytree(trained["out"], tmp_path / "grown")
    settings = trained | {"method": "whitened-rr", "out": str(out)}
    handpick.select(**settings)
    before = {path.name for path in (out / "features" / "pool").glob("second-moment-*")}
    handpick.select(**settings | {"pool": [trained["pool"], more_file]})
    after = {path.name for path in (out / "features" / "pool").glob("second-moment-*")}
    assert before < after
    assert len(after) == 4
    sizes = handpick.FeatureStore.open(out / "features" / "pool")
    assert len(sizes) == 60


# --- stores of other representations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rds+", "embed"])
def test_select_starts_from_a_store_of_rows(name: str, plain: Given, tmp_path: Path) -> None:
    """With and without its name; another's is refused."""
    want = handpick.select(**plain | {"method": name})
    alone = {k: v for k, v in plain.items() if k not in ("query", "budget", "method", "warmup", "projection_dim")}
    store = handpick.represent_pool(**alone | {"method": name, "out": str(tmp_path / "made")})
    assert store.path == tmp_path / "made" / "features" / f"pool-{name}"
    assert (len(store), store.checkpoints) == (N_POOL, ["base"])
    from_store = {"query": plain["query"], "store": str(store.path), "budget": 10}
    for place, given in enumerate(({}, {"method": name}, {"representation": name})):
        chosen = handpick.select(**from_store | given, out=str(tmp_path / f"chosen{place}"))
        assert (chosen.ids, chosen.scores) == (want.ids, want.scores)
    for other in ("less-rr", "gist", "bm25", "random", "embed" if name == "rds+" else "rds+"):
        with pytest.raises(SettingsError, match=f"holds {name.replace('+', '[+]')} features, and"):
            handpick.select(**from_store, method=other, out=str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_gradient_store_is_refused_to_other_representations(finished: Finished, plain: Given, out: str) -> None:
    store = str(finished.folder / "features" / "pool")
    with pytest.raises(SettingsError, match=r"holds gradient features, and rds\+ was asked for"):
        handpick.select(query=plain["query"], store=store, method="rds+", budget=10, out=out)


def test_an_encoder_in_a_folder_is_found_from_anywhere(
    plain: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(plain["encoder"], tmp_path / "here" / "encoder")
    monkeypatch.chdir(tmp_path / "here")
    store = handpick.represent_pool(pool=plain["pool"], method="embed", encoder="encoder", out=str(tmp_path / "made"))
    monkeypatch.chdir(tmp_path)
    chosen = handpick.select(query=plain["query"], store=str(store.path), budget=10, out=str(tmp_path / "chosen"))
    assert chosen.ids == handpick.select(**plain | {"method": "embed"}).ids


@pytest.mark.parametrize("method", ["rds+", "perplexity", "ifd"])
def test_another_budget_loads_no_model(method: str, plain: Given, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = plain | {"method": method}
    first = handpick.select(**settings)
    for module in ("scorers.hidden_states", "scorers.model_scores", "scorers.model_reader", "model"):
        monkeypatch.setattr(f"handpick.{module}.load_base", lambda *_: pytest.fail("a model was loaded"), raising=False)
    assert handpick.select(**settings | {"budget": 5}).ids == first.ids[:5]


def test_rows_of_other_settings_are_refused_by_name(plain: Given, tmp_path: Path) -> None:
    out = str(tmp_path / "rds")
    handpick.select(**plain | {"method": "rds+", "out": out})
    with pytest.raises(FingerprintMismatch, match="max_length is 2048 there and 64 here"):
        handpick.select(**plain | {"method": "rds+", "max_length": 64, "out": out})


@pytest.mark.parametrize("name", ["gist", "bm25", "dsir", "perplexity", "ifd", "longest", "random"])
def test_represent_is_for_features_that_need_no_query(name: str, plain: Given, out: str) -> None:
    with pytest.raises(SettingsError, match="no features"):
        run_represent(parse_settings({"pool": plain["pool"], "model": plain["model"], "method": name, "out": out}))
    assert not Path(out).exists()


@pytest.mark.parametrize(
    ("method", "storage", "at_least"),
    [
        ("gradient-rr", "float16", 10), ("gradient-rr", "int8", 9), ("gradient-rr", "1bit", 6),
        ("rds+", "float16", 10), ("rds+", "int8", 9), ("gist", "int8", 9),
    ],
)  # fmt: skip
def test_smaller_types_choose_nearly_the_same(method: str, storage: str, at_least: int, plain: Given, out: str) -> None:
    """Of ten picks of forty; at random 2.5 are the same. The query is never rounded."""
    want = handpick.select(**plain | {"method": method})
    chosen = handpick.select(**plain | {"method": method, "storage": storage, "out": out})
    assert len(set(chosen.ids) & set(want.ids)) >= at_least
    stores = [handpick.FeatureStore.open(path.parent) for path in Path(out, "features").glob("*/manifest.json")]
    assert sorted((s.path.name.startswith("query-"), s.manifest.storage) for s in stores) == [
        (False, storage), (True, "float32"),
    ]  # fmt: skip


# --- scores and words ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool(plain: Given, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    return Pool.open([str(plain["pool"])], cache=folder, quarantine=Quarantine(folder / "q.jsonl"))


@pytest.mark.parametrize("method", ["perplexity", "ifd", "longest"])
def test_scores_order_the_pool(method: str, plain: Given, pool: Pool, out: str) -> None:
    """Largest first; of IFD those of 1 and more, where the prompt is no help, behind all others."""
    # in bfloat16 a score depends on what it shares a batch with, by 2e-6; in float32 by 1e-8
    settings = parse_settings(plain | {"method": method, "budget": "100%", "dtype": "float32", "out": out})
    selection = run_select(settings).selection
    by_itself = open_encoder(settings, Renderer(load_tokenizer(plain["model"])))
    prepared = by_itself.prepare(pool.examples(0, len(pool)))
    score_of = dict(zip(prepared.ids, by_itself.encode(prepared.items)[:, 0].tolist(), strict=True))
    in_order = [score_of[example_id] for example_id in selection.ids]
    helped = [score for score in in_order if score < 1] if method == "ifd" else in_order
    not_helped = in_order[len(helped) :]
    assert helped == sorted(helped, reverse=True)
    assert all(score >= 1 for score in not_helped)
    assert not_helped == sorted(not_helped)
    assert selection.scores[: len(helped)] == pytest.approx(helped)
    assert selection.picked_for == [None] * N_POOL
    if method == "ifd":
        assert helped
        assert not_helped


def test_bm25_is_that_of_the_class(plain: Given, pool: Pool, query_records: list[dict[str, Any]]) -> None:
    from handpick.scorers.bm25 import Bm25

    selection = handpick.select(**plain | {"method": "bm25"})
    texts = ["\n".join(m.content for m in example.messages) for example in pool.examples(0, len(pool))]
    queries = ["\n".join(m["content"] for m in record["messages"]) for record in query_records[:4]]
    matches_QN = Bm25(texts).scores(queries)
    assert selection.ids == [pool.ids()[i] for i in handpick.rank(matches_QN, 10, "round-robin")]
    query_ids = [record["id"] for record in query_records[:4]]
    for example_id, score, query_id in zip(selection.ids, selection.scores, selection.picked_for, strict=True):
        assert score == matches_QN[query_ids.index(str(query_id)), pool.ids().index(example_id)]


@pytest.mark.parametrize(("smoothing", "seed"), [(1e-8, 0), (1e-4, 1)])
def test_dsir_is_that_of_the_class(
    smoothing: float, seed: int, plain: Given, pool: Pool, query_records: list[dict[str, Any]], out: str
) -> None:
    from handpick.scorers.dsir import Dsir

    selection = handpick.select(
        pool=plain["pool"], query=plain["query"], method="dsir", dsir_smoothing=smoothing, seed=seed, budget=10, out=out
    )
    texts = ["\n".join(m.content for m in example.messages) for example in pool.examples(0, len(pool))]
    queries = ["\n".join(m["content"] for m in record["messages"]) for record in query_records[:4]]
    weights_N = Dsir.fit(texts, queries, smoothing=smoothing).scores(texts)
    assert selection.ids == [pool.ids()[i] for i in handpick.rank(weights_N[None], 10, "importance", seed=seed)]
    assert selection.picked_for == [None] * 10


@pytest.mark.parametrize("method", ["bm25", "dsir", "random"])
def test_records_that_words_and_chance_never_saw_are_told_of(
    method: str, plain: Given, tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pool.jsonl").write_text("{\n" + Path(plain["pool"]).read_text())
    handpick.select(**plain | {"pool": tmp_path / "pool.jsonl", "method": method, "out": out})
    assert "1 record set aside (1 malformed JSON)" in capsys.readouterr().err.replace("\n", " ")


def test_an_origin_leads_to_the_very_record(
    plain: Given, pool_file: Path, more_file: Path, tmp_path: Path, out: str
) -> None:
    """Also past lines that were set aside."""
    lines = pool_file.read_text().splitlines()
    (tmp_path / "holes.jsonl").write_text("\n".join(["{", *lines[:7], "", "[]", *lines[7:]]) + "\n")
    settings = plain | {"pool": [tmp_path / "holes.jsonl", more_file], "method": "random", "budget": "100%"}
    handpick.select(**settings | {"out": out})
    summary = json.loads(Path(out, "selection.json").read_text())
    assert len(summary["origins"]) == 60
    for (file, line), example_id in zip(summary["origins"], summary["ids"], strict=True):
        assert json.loads(Path(file).read_text().splitlines()[line - 1])["id"] == example_id
    assert {file for file, _ in summary["origins"]} == {str(tmp_path / "holes.jsonl"), str(more_file)}
    assert handpick.Selection.open(out).origins == [tuple(each) for each in summary["origins"]]


def test_a_pool_of_prompts_alone_has_no_scores(plain: Given, tmp_path: Path, out: str) -> None:
    pool = write_jsonl(tmp_path / "prompts.jsonl", [{"id": "a", "prompt": "2+2?"}])
    for method in ("perplexity", "ifd", "longest"):
        with pytest.raises(DataError, match=r"no record of .* can be used"):
            handpick.select(**plain | {"pool": pool, "method": method, "budget": 1, "out": out})
