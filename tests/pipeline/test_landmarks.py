"""Landmarks from files to a selection: against numpy's dense solution, whatever is stopped, shared out or refined."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import handpick
from handpick.cli import app
from handpick.costs.cost import StageKind
from handpick.errors import DataError, FingerprintMismatch, SettingsError, StoreError
from handpick.pipeline import run_select, run_similarity
from handpick.planning import plan_select
from handpick.reporting.nearest import nearest_similarities
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.scorers import landmarks as module
from handpick.scorers import scoring_problem as problem
from handpick.scorers.gradient_encoder import GradientEncoder
from handpick.scorers.hidden_states import HiddenStates
from handpick.settings import parse_settings
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL, Finished
from tests.scorers.test_ridge import dense_kernel, dense_ridge

Given = dict[str, Any]
L = 15


@pytest.fixture(scope="module")
def spread(given: Given) -> Given:
    """Settings of a run with landmarks, but for ``out``; the warmup and the exact rows are those of ``given``."""
    return given | {"method": "landmarks", "landmarks": L}


@pytest.fixture(scope="module")
def done(spread: Given, finished: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A run of it, begun without a warmup of its own: nobody may change it."""
    folder = tmp_path_factory.mktemp("runs") / "landmarks"
    shutil.copytree(finished.folder / "warmup", folder / "warmup")
    return Finished(folder, handpick.select(**spread, out=str(folder)))


def started(finished: Finished, folder: Path) -> str:
    """A folder with the warmup alone."""
    shutil.copytree(finished.folder / "warmup", folder / "warmup")
    return str(folder)


def one(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def read_parts(folder: Path) -> tuple[handpick.FeatureStore, list[handpick.FeatureStore], NDArray[np.float64]]:
    """The cheap features, the exact rows of landmarks and of what was refined, the exact similarities to queries."""
    made = one(folder / "features", "landmarks-*")
    stores = [handpick.FeatureStore.open(path.parent) for path in sorted(made.rglob("manifest.json"))]
    query = handpick.FeatureStore.open(one(folder / "features", "query-*"))
    exact = [
        sum(w * np.asarray(query.array(t), np.float64) @ np.asarray(s.array(t)).T for t, w in enumerate(s.weights))
        for s in stores
    ]
    return handpick.FeatureStore.open(folder / "features" / "pool-rds+"), stores, np.concatenate(exact, axis=1)


def similarity_of(settings: Given) -> tuple[NDArray[np.float32], list[str]]:
    folder = run_similarity(parse_settings(settings))
    return np.load(folder / "similarity.npy"), json.loads((folder / "similarity.json").read_text())["examples"]


# --- what is chosen by -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"seed": 3}, {"landmark_draw": "kmeans"}, {"landmarks": "20%"}])
def test_the_similarity_is_the_dense_solution_and_exact_of_landmarks(
    change: Given, spread: Given, tmp_path: Path
) -> None:
    settings = spread | {"warmup": "none", "optimizer": "sgd"} | change | {"out": str(tmp_path / "out")}
    found_QN, ids = similarity_of(settings)
    features, (exact,), exact_QL = read_parts(tmp_path / "out")
    assert len(exact) == (8 if "landmarks" in change else L)
    at = {example_id: row for row, example_id in enumerate(features.ids)}
    unit_ND = np.asarray(features.array(0), np.float64)
    landmarks = [at[example_id] for example_id in exact.ids]
    want_QN = dense_ridge(unit_ND[landmarks], exact_QL.T, unit_ND[[at[each] for each in ids]]).T
    want_QN[:, [ids.index(each) for each in exact.ids]] = exact_QL
    np.testing.assert_allclose(found_QN, want_QN, atol=2e-6)
    assert ids == features.ids


def test_the_checkpoints_are_those_of_the_method_that_takes_all(
    spread: Given, finished: Finished, done: Finished, tmp_path: Path
) -> None:
    """A warmup of its own draws from the whole pool."""
    selection = handpick.select(**spread, out=str(tmp_path))
    weights = sorted((finished.folder / "warmup").rglob("*.safetensors"))
    assert len(weights) == 4
    for path in weights:
        assert (tmp_path / path.relative_to(finished.folder)).read_bytes() == path.read_bytes()
    assert selection.ids == done.selection.ids


def test_an_exact_row_is_the_row_of_the_method_that_takes_all(
    spread: Given, finished: Finished, tmp_path: Path
) -> None:
    """To the last bit, where every example is a batch by itself."""
    settings = spread | {"batch_tokens": 1}
    handpick.select(**settings, out=started(finished, tmp_path / "few"))
    handpick.select(**settings | {"method": "less-rr"}, out=started(finished, tmp_path / "all"))
    whole = handpick.FeatureStore.open(tmp_path / "all" / "features" / "pool")
    _, (exact,), _ = read_parts(tmp_path / "few")
    assert (exact.checkpoints, exact.weights, exact.dim) == (whole.checkpoints, whole.weights, whole.dim)
    rows = [whole.ids.index(each) for each in exact.ids]
    for t in range(len(whole.checkpoints)):
        want_LD = np.asarray(whole.array(t, normalized=False))[rows]
        np.testing.assert_array_equal(np.asarray(exact.array(t, normalized=False)), want_LD)


def test_what_was_held_out_is_kept_and_shown(done: Finished) -> None:
    """Against a ridge without each landmark, at the width of all."""
    features, (exact,), exact_QL = read_parts(done.folder)
    landmarks_LD = np.asarray(features.array(0), np.float64)[[features.ids.index(each) for each in exact.ids]]
    distances_LL = np.linalg.norm(landmarks_LD[:, None] - landmarks_LD[None], axis=2)
    sigma = float(np.median(distances_LL[np.triu_indices(L, 1)]))
    left_out_QL = np.empty_like(exact_QL)
    for i in range(L):
        others = np.delete(np.arange(L), i)
        kernel = dense_kernel(landmarks_LD[others], landmarks_LD[others], sigma) + 0.01 * np.eye(L - 1)
        to_others = dense_kernel(landmarks_LD[[i]], landmarks_LD[others], sigma)
        left_out_QL[:, i] = (to_others @ np.linalg.solve(kernel, exact_QL[:, others].T))[0]
    (remark,) = json.loads((done.folder / "remarks.json").read_text())["remarks"]
    r2_Q = 1 - ((exact_QL - left_out_QL) ** 2).sum(1) / ((exact_QL - exact_QL.mean(1, keepdims=True)) ** 2).sum(1)
    found = remark["detail"]["queries"]
    assert [each["r2"] for each in found.values()] == pytest.approx(r2_Q.tolist(), rel=1e-3)
    assert remark["detail"]["r2"] == pytest.approx(float(np.median(r2_Q)), rel=1e-3)
    assert f"{L} of {N_POOL} similarities are exact, and held-out landmarks are foretold with R² " in remark["said"]
    assert remark["warns"] is (remark["detail"]["rank_correlation"] < 0.5)
    assert ("give more --landmarks" in remark["said"]) is remark["warns"]


def test_the_command_ends_with_what_was_held_out(spread: Given, finished: Finished, tmp_path: Path) -> None:
    config, folder = tmp_path / "run.yaml", Path(started(finished, tmp_path / "out"))
    config.write_text(parse_settings(spread | {"out": str(folder)}).to_yaml())
    shown = CliRunner().invoke(app, ["run", str(config)])
    assert shown.exit_code == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if "held-out landmarks are foretold" in line]
    (remark,) = json.loads((folder / "remarks.json").read_text())["remarks"]
    assert line.removeprefix("warning: ") == remark["said"]
    assert line.startswith("warning: ") is remark["warns"]
    handpick.select(**spread | {"method": "rds+", "out": str(folder)})
    assert not (folder / "remarks.json").exists()  # of the earlier selection


# --- refined ---------------------------------------------------------------------------------------------------------


def test_what_is_refined_is_exact_and_was_uncertain_and_high(
    spread: Given, done: Finished, given: Given, finished: Finished, tmp_path: Path
) -> None:
    folder = done.copy_to(tmp_path / "refined")
    settings = spread | {"refine": "10%", "out": str(folder)}
    before_QN, ids = similarity_of(spread | {"out": str(done.copy_to(tmp_path / "plain"))})
    after_QN, after_ids = similarity_of(settings)
    features, (landmarks, refined), exact_QE = read_parts(folder)
    assert after_ids == ids
    assert len(refined) == N_POOL // 10
    assert not set(refined.ids) & set(landmarks.ids)
    changed = [ids.index(each) for each in refined.ids]
    np.testing.assert_allclose(after_QN[:, changed], exact_QE[:, L:], atol=2e-6)
    others = np.setdiff1d(np.arange(N_POOL), changed)
    np.testing.assert_array_equal(after_QN[:, others], before_QN[:, others])

    at = {example_id: row for row, example_id in enumerate(features.ids)}
    unit_ND = np.asarray(features.array(0), np.float64)
    landmarks_LD = unit_ND[[at[each] for each in landmarks.ids]]
    distances_LL = np.linalg.norm(landmarks_LD[:, None] - landmarks_LD[None], axis=2)
    sigma = float(np.median(distances_LL[np.triu_indices(L, 1)]))
    precision_LL = np.linalg.inv(dense_kernel(landmarks_LD, landmarks_LD, sigma) + 0.01 * np.eye(L))
    alpha_LQ = precision_LL @ exact_QE[:, :L].T
    to_all_NL = dense_kernel(unit_ND, landmarks_LD, sigma)
    deviation_N = np.sqrt(1.01 - np.einsum("ni,ij,nj->n", to_all_NL, precision_LL, to_all_NL))
    scale_Q = np.sqrt(np.mean(alpha_LQ**2 / np.diag(precision_LL)[:, None], axis=0))
    upper_QN = (to_all_NL @ alpha_LQ).T + np.outer(scale_Q, deviation_N)
    upper_QN[:, [at[each] for each in landmarks.ids]] = -np.inf
    by_depth = np.argsort(-upper_QN, axis=1).T.ravel().tolist()
    assert {features.ids[row] for row in list(dict.fromkeys(by_depth))[: N_POOL // 10]} == set(refined.ids)

    plan = plan_select(parse_settings(settings | {"out": str(tmp_path / "planned")}), 0.1)
    kinds = [line.kind for line in plan.stages]
    assert kinds[-2] == StageKind.REFINED


def test_all_refined_is_what_takes_all(spread: Given, done: Finished, finished: Finished, tmp_path: Path) -> None:
    folder = done.copy_to(tmp_path / "all")
    selection = handpick.select(**spread | {"refine": "100%", "out": str(folder)})
    assert selection.ids == finished.selection.ids
    assert selection.picked_for == finished.selection.picked_for
    assert selection.scores == pytest.approx(finished.selection.scores, abs=1e-4)


# --- resumed, shared out, large --------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped_in", ["exact", pytest.param("refined", marks=pytest.mark.slow)])
def test_a_killed_run_goes_on(
    stopped_in: str, spread: Given, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = spread | {"refine": 12, "shard_rows": 8}
    whole = handpick.select(**settings, out=started(finished, tmp_path / "whole"))
    out, own, written = started(finished, tmp_path / "out"), handpick.FeatureStore.write_shard, []

    def write_and_stop(store: handpick.FeatureStore, *args: Any) -> None:
        own(store, *args)
        if any(part.startswith(stopped_in) for part in store.path.parts):
            written.append(args[1])
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(handpick.FeatureStore, "write_shard", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            handpick.select(**settings, out=out)
    assert len(written) == 1
    assert not Path(out, "selection.json").exists()
    encoded: list[int] = []
    encode = GradientEncoder.encode
    monkeypatch.setattr(GradientEncoder, "encode", lambda self, *args: encoded.append(1) or encode(self, *args))
    again = handpick.select(**settings, out=out)
    assert (again.ids, again.scores, again.picked_for) == (whole.ids, whole.scores, whole.picked_for)
    for path in sorted((tmp_path / "whole" / "features").rglob("*.safetensors")):
        assert (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes()
    assert len(encoded) == {"exact": 3 + 4, "refined": 3}[stopped_in]  # two shards each at two checkpoints, but for one


def test_another_budget_computes_no_row(
    spread: Given, done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = done.copy_to(tmp_path / "again")
    for encoder in (GradientEncoder, HiddenStates):
        monkeypatch.setattr(encoder, "encode", lambda *_: pytest.fail("a row was made again"))
    more = handpick.select(**spread | {"budget": 20, "out": str(folder)})
    assert more.ids[:10] == done.selection.ids


def test_a_large_similarity_gives_the_very_same_choice(
    spread: Given, done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(problem, "_IN_MEMORY", 0)
    folder = done.copy_to(tmp_path / "large")
    large = handpick.select(**spread | {"out": str(folder)})
    assert (large.ids, large.scores) == (done.selection.ids, done.selection.scores)
    assert (folder / "similarity.npy").exists()


# --- records that cannot be used -------------------------------------------------------------------------------------


def test_what_leaves_no_response_is_set_aside_as_by_less(
    spread: Given, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Hidden states could be had of a record whose prompt alone fills max_length; a gradient cannot."""
    long = {
        "id": "long",
        "messages": [{"role": "user", "content": "why " * 500}, {"role": "assistant", "content": "so"}],
    }
    pool = write_jsonl(tmp_path / "pool.jsonl", [*pool_records[:20], long, *pool_records[20:30]])
    plain = spread | {"pool": pool, "max_length": 256, "warmup": "none", "optimizer": "sgd", "budget": "100%"}
    want = handpick.select(**plain | {"method": "gradient-rr", "out": str(tmp_path / "less")})
    for _ in range(2):  # and again, from what the first has left
        selection = handpick.select(**plain | {"out": str(tmp_path / "out")})
        assert sorted(selection.ids) == sorted(want.ids)
        quarantines = [(tmp_path / name / "quarantine.jsonl").read_text() for name in ("less", "out")]
        assert quarantines[0] == quarantines[1]
        assert '"long"' in quarantines[0]
    with pytest.raises(DataError, match="more bad records than the limit of 0"):
        handpick.select(**plain | {"out": str(tmp_path / "limit"), "max_quarantined": 0})


@pytest.mark.parametrize("refine", ["0", "100%"])
def test_a_row_that_is_not_finite_is_set_aside(
    refine: str, spread: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a landmark always, of another where its exact row is made."""
    encode = GradientEncoder.encode

    def spoil(self: GradientEncoder, *args: Any) -> Any:
        rows_BD = encode(self, *args)
        if len(rows_BD) > 4:  # not the queries'
            rows_BD[2] = np.nan
        return rows_BD

    monkeypatch.setattr(GradientEncoder, "encode", spoil)
    settings = spread | {"warmup": "none", "optimizer": "sgd", "budget": "100%", "refine": refine, "shard_rows": 64}
    selection = handpick.select(**settings, out=str(tmp_path / "out"))
    lines = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()]
    assert len(lines) == (1 if refine == "0" else 2)
    assert all(line["reason"].startswith("gradient row not finite") for line in lines)
    assert len(selection) == N_POOL - len(lines)
    assert not {line["id"] for line in lines} & set(selection.ids)
    reopened = nearest_similarities(open_run(tmp_path / "out"))
    assert not isinstance(reopened, str)
    assert reopened.candidates == len(selection)


# --- refused, planned, reported --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"landmarks": 40}, SettingsError, r"40 landmarks are all of a pool of 40.*--method less-rr is the same"),
        ({"landmarks": 4096}, SettingsError, r"4,096 landmarks are all of a pool of 40"),
        ({"landmarks": 1}, SettingsError, r"one landmark alone has no distance to another"),
        ({"landmarks": "2M tokens"}, SettingsError, r"landmarks is a number of examples, such as 4096, or a share"),
        ({"refine": "half"}, SettingsError, r"refine is a number of examples.*not 'half'"),
        ({"landmark_features": "whitened-rds+"}, SettingsError, r"only the pool's side is spread over: give rds\+"),
        ({"landmark_features": "gist"}, SettingsError, r"cheaper than gradients: choose one of rds\+, embed, embed-"),
        ({"landmark_features": "vectors:./nothing.npy"}, DataError, r"there is no file nothing\.npy"),
        ({"max_cosine": 0.9}, SettingsError, r"landmarks has no features to find near-duplicates by"),
        ({"score_only": True}, SettingsError, r"score_only is for gradients, not for landmarks"),
        ({"warmup": "none"}, SettingsError, r"without a warmup there is no Adam state"),
    ],
)  # fmt: skip
def test_refused_before_any_work(change: Given, error: type[Exception], said: str, spread: Given, out: str) -> None:
    for act in (run_select, lambda settings: plan_select(settings, 0.1)):
        with pytest.raises(error, match=said):
            act(parse_settings(spread | {"out": out} | change))
    assert not Path(out, "warmup").exists()


def test_a_kernel_that_does_not_fit_is_refused(spread: Given, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_bytes", lambda: 1_000)
    with pytest.raises(
        SettingsError, match=r"the kernel of 15 landmarks takes 0\.0 GB and 0\.0 GB are free: give fewer"
    ):
        handpick.select(**spread, out=out)


def test_cheap_features_of_another_kind_are_refused_before_the_warmup(spread: Given, given: Given, out: str) -> None:
    handpick.select(**given | {"method": "rds+", "out": out})
    for change in (
        {"max_length": 100},
        {"storage": "int8"},
        {"shard_rows": 8},
        {"pool": spread["query"], "landmarks": 2},
    ):
        with pytest.raises(FingerprintMismatch, match=r"pool-rds\+ does not match"):
            handpick.select(**spread | {"out": out} | change)
    assert not Path(out, "warmup").exists()


@pytest.mark.parametrize("name", ["candidates.npy", "rows.npy"])
def test_what_is_damaged_is_named(name: str, spread: Given, done: Finished, tmp_path: Path) -> None:
    folder = done.copy_to(tmp_path / "damaged")
    (path,) = folder.rglob(name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match=rf"{name} is damaged \(.*\); delete .* and run the same again"):
        handpick.select(**spread | {"out": str(folder)})
    assert f"{name} is damaged" in str(nearest_similarities(open_run(folder)))
    shutil.rmtree(path.parent)
    assert handpick.select(**spread | {"out": str(folder)}).ids == done.selection.ids


def test_a_pool_that_has_grown_has_landmarks_of_its_own(
    spread: Given, done: Finished, more_file: Path, tmp_path: Path
) -> None:
    folder = done.copy_to(tmp_path / "grown")
    handpick.select(**spread | {"pool": [spread["pool"], more_file], "out": str(folder)})
    assert len(list((folder / "features").glob("landmarks-*"))) == 2
    assert len(handpick.FeatureStore.open(folder / "features" / "pool-rds+")) == N_POOL + 20
    assert handpick.select(**spread | {"out": str(done.copy_to(tmp_path / "as it was"))}).ids == done.selection.ids


def test_no_gradients_store_is_started_from(spread: Given, finished: Finished, out: str) -> None:
    with pytest.raises(SettingsError, match="holds gradient features, and landmarks was asked for"):
        handpick.select(
            query=spread["query"], method="landmarks", store=str(finished.folder / "features" / "pool"), out=out
        )


def test_landmarks_over_vectors_made_elsewhere(
    spread: Given, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    vectors = np.random.default_rng(0).normal(size=(N_POOL, 6)).astype(np.float32)
    np.save(tmp_path / "made.npy", vectors)
    (tmp_path / "made.ids").write_text("\n".join(record["id"] for record in pool_records[:N_POOL]))
    settings = spread | {"landmark_features": f"vectors:{tmp_path / 'made.npy'}", "warmup": "none", "optimizer": "sgd"}
    assert len(handpick.select(**settings, out=str(tmp_path / "out"))) == 10
    store = handpick.FeatureStore.open(tmp_path / "out" / "features" / "pool-vectors")
    assert (store.dim, len(store)) == (6, N_POOL)


def test_a_plan_has_every_stage_and_says_what_is_left(spread: Given, done: Finished, tmp_path: Path) -> None:
    settings = parse_settings(spread | {"out": str(tmp_path / "planned")})
    lines = plan_select(settings, 0.1).stages
    assert [line.name for line in lines] == [
        "read and parse", "warmup", "query features", "pool features", "landmark features, checkpoint 1",
        "landmark features, checkpoint 2", "spread", "similarity and choice",
    ]  # fmt: skip
    for line in lines[1:]:
        assert line.seconds is not None, line
        assert line.seconds.value > 0, line
        assert line.inputs or line.kind == StageKind.CHOICE
    of_landmarks = [line for line in lines if line.kind == StageKind.LANDMARKS]
    assert [line.examples for line in of_landmarks] == [L, L]
    whole = plan_select(parse_settings(spread | {"method": "less-rr", "out": str(tmp_path / "whole")}), 0.1).stages
    of_pool = [line for line in whole if line.kind == StageKind.POOL]
    assert of_landmarks[0].flops == pytest.approx(of_pool[0].flops * L / N_POOL)  # type: ignore[operator]
    assert not (tmp_path / "planned" / "features" / "pool-rds+").exists()

    left = plan_select(parse_settings(spread | {"out": str(done.copy_to(tmp_path / "done"))}), 0.1).stages
    assert [line.there for line in left] == [True, True, True, True, True, False, False]


def test_the_report_has_what_was_held_out_and_the_similarities(done: Finished, tmp_path: Path) -> None:
    folder = done.copy_to(tmp_path / "reported")
    (remark,) = json.loads((folder / "remarks.json").read_text())["remarks"]
    page = write_selection_report(folder).read_text(encoding="utf-8")
    assert "held-out landmarks are foretold" in page
    assert remark["said"].split(",")[0] in page
    found = nearest_similarities(open_run(folder))
    assert not isinstance(found, str)
    assert found.what == "similarity to the nearest query, exact or spread from landmarks"
    assert found.candidates == N_POOL
    scores = dict(zip(done.selection.ids, done.selection.scores, strict=True))
    assert (found.chosen >= np.array(list(scores.values())) - 1e-5).all()
    shutil.rmtree(one(folder / "features", "landmarks-*"))
    assert nearest_similarities(open_run(folder)) == module._LANDMARKS_GONE
