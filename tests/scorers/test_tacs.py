"""TACS against a plain loop: torch's own AdamW, one example a step, losses one by one."""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM

import handpick
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError, HandpickError, ModelError, SettingsError
from handpick.layout import DataLayout
from handpick.model import load_tokenizer, padding_id
from handpick.pipeline import run_select
from handpick.pipeline.prepare import open_run
from handpick.planning import plan_select
from handpick.random_streams import generator
from handpick.reporting.nearest import NearestSimilarities, nearest_similarities
from handpick.reporting.run_folder import open_run as open_folder
from handpick.reporting.selection import write_selection_report
from handpick.scorers.tacs import Tacs, scores_of, tell_drop
from handpick.scorers.tacs_calibration import FOLDS, Calibration, Course, Grid, Trial, choose_course, split_folds
from handpick.scorers.tacs_path import PathModel
from handpick.scorers.tacs_targets import cluster_labels
from handpick.settings import parse_settings
from handpick.store import FeatureStore
from handpick.training.checkpoint import trainable_parameters
from tests.conftest import write_jsonl

Given = dict[str, Any]
RATE, DEPTH = 3e-2, 5  # far from where any path begins: the losses then differ by more than they are rounded


@pytest.fixture(scope="module")
def loud_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with larger weights, so that its attention has a say in what it writes."""
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("loud") / "model")
    weights = load_file(folder / "model.safetensors")
    louder = {name: weight * 3 if weight.ndim == 2 else weight for name, weight in weights.items()}
    save_file(louder, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def given(
    loud_model: Path,
    pool_records: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Given:
    folder = tmp_path_factory.mktemp("tacs")
    short = sorted(pool_records, key=lambda each: sum(len(m["content"]) for m in each["messages"]))[:30]
    queries = [record | {"subtask": "ab"[place % 2]} for place, record in enumerate(short[::5])]
    short = [record for place, record in enumerate(short) if place % 5]
    return {
        "pool": str(write_jsonl(folder / "pool.jsonl", short)),
        "query": str(write_jsonl(folder / "query.jsonl", queries)),
        "model": str(loud_model), "method": "tacs", "budget": 8, "dtype": "float32", "max_length": 160,
        "shard_rows": 9, "tacs_rate": RATE, "tacs_depth": DEPTH, "seed": 3,
    }  # fmt: skip


@pytest.fixture(scope="module")
def done(given: Given, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with the path and the pool's losses: another choice there computes nothing."""
    folder = str(tmp_path_factory.mktemp("done") / "run")
    handpick.select(**given, out=folder)
    return folder


def scorer_of(values: Given, tmp_path: Path) -> Tacs:
    scorer = open_run(parse_settings(values), None, DataLayout(tmp_path / "bad")).scorer
    assert isinstance(scorer, Tacs)
    return scorer


def sequences_of(path: str, given: Given) -> list[Rendered]:
    renderer = Renderer(load_tokenizer(given["model"]))
    messages = [json.loads(line)["messages"] for line in Path(path).read_text().splitlines()]
    from handpick.data.examples import Message

    return [renderer([Message(m["role"], m["content"]) for m in each], given["max_length"]) for each in messages]


# the plain loop


def plain_model(given: Given) -> nn.Module:
    base = AutoModelForCausalLM.from_pretrained(given["model"], dtype=torch.float32)
    torch.manual_seed(given["seed"])
    config = LoraConfig(
        task_type="CAUSAL_LM", r=1, lora_alpha=4, lora_dropout=0.1,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )  # fmt: skip
    return get_peft_model(base, config)


def loss_of(model: Callable[..., Any], sequence: Rendered) -> torch.Tensor:
    logits_TV = model(input_ids=torch.tensor([sequence.input_ids])).logits[0]
    return nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(sequence.labels[1:]), ignore_index=IGNORED)


def learn_plainly(
    model: nn.Module, sequences: Sequence[Rendered], rate: float, depth: int, seed: int, at: Callable[[int], None]
) -> None:
    """Each pass in an order of its own, with a dropout of its own."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    for number in range(1, depth + 1):
        model.train()
        stream = generator(seed, f"pass {number} of a target's path")
        torch.manual_seed(int(stream.integers(1 << 62)))
        for place in stream.permutation(len(sequences)):
            optimizer.zero_grad()
            loss_of(model, sequences[place]).backward()
            optimizer.step()
        model.eval()
        at(number)


def scores_by_loop(given: Given, queries: Sequence[Rendered], pool: Sequence[Rendered]) -> np.ndarray:
    model, losses = plain_model(given), {}

    @torch.no_grad()
    def look(number: int) -> None:
        if number in (1, DEPTH):
            losses[number] = np.array([loss_of(model, each).item() for each in pool], dtype=np.float64)

    learn_plainly(model, queries, RATE, DEPTH, given["seed"], look)
    return (losses[1] - losses[DEPTH]) / (losses[1] + 1e-8)


# scores


def test_scores_are_those_of_the_plain_loop(given: Given, done: str) -> None:
    selection = handpick.select(**given, out=done)
    want_N = scores_by_loop(given, sequences_of(given["query"], given), sequences_of(given["pool"], given))
    assert np.abs(want_N).max() > 0.02  # the path has moved the losses
    (folder,) = (path.parent for path in Path(done, "features").glob("tacs-*/manifest.json"))
    got_N = scores_of(FeatureStore.open(folder))[0]
    np.testing.assert_allclose(got_N, want_N, rtol=1e-5, atol=1e-5 * np.abs(want_N).max())
    ids = FeatureStore.open(folder).ids
    order = np.argsort(-got_N, kind="stable")[:8]
    assert selection.ids == [ids[column] for column in order]
    assert selection.scores == pytest.approx(got_N[order].tolist())
    assert selection.picked_for == [None] * 8


@pytest.mark.parametrize("changed", [{"batch_tokens": 1}, {"batch_tokens": 100_000, "shard_rows": 24}])
def test_a_score_is_the_same_in_any_company(changed: Given, given: Given, done: str, tmp_path: Path) -> None:
    one = handpick.select(**given | {"budget": 24, "out": done})
    other = handpick.select(**given | changed | {"budget": 24, "out": str(tmp_path)})
    of_other = dict(zip(other.ids, other.scores, strict=True))
    np.testing.assert_allclose([of_other[each] for each in one.ids], one.scores, rtol=1e-5, atol=1e-6)


def test_equal_scores_come_in_the_pools_order(given: Given, tmp_path: Path) -> None:
    lines = Path(given["pool"]).read_text().splitlines()
    twice = [json.loads(line) | {"id": f"{name}{place}"} for name in "ab" for place, line in enumerate(lines[:5])]
    pool = write_jsonl(tmp_path / "twice.jsonl", twice)
    # each read alone, so that equal sequences have equal losses to the last bit
    more = {"pool": str(pool), "out": str(tmp_path / "out"), "budget": 10, "batch_tokens": 1}
    selection = handpick.select(**given | more)
    assert all(one[1:] == other[1:] for one, other in zip(selection.ids[::2], selection.ids[1::2], strict=True))
    assert {each[0] for each in selection.ids[::2]} == {"a"}


# paths


def test_a_path_of_a_subtask_is_that_of_its_queries_alone(given: Given, tmp_path: Path) -> None:
    own = given | {"out": str(tmp_path / "both"), "tacs_paths": "subtask", "batch_tokens": 500}
    selection = handpick.select(**own)
    both = scorer_of(own, tmp_path)
    assert [target.name for target in both.targets] == ["a", "b"]
    assert selection.picked_for == [None] * 8
    both_PN = scores_of(both._store())
    queries = [json.loads(line) for line in Path(given["query"]).read_text().splitlines()]
    for place, subtask in enumerate("ab"):
        query = write_jsonl(tmp_path / f"{subtask}.jsonl", [each for each in queries if each["subtask"] == subtask])
        alone = own | {"query": str(query), "tacs_paths": "one", "out": str(tmp_path / subtask)}
        handpick.select(**alone)
        one = scorer_of(alone, tmp_path)
        assert [path.parent.name for path in one.endpoints] == [
            path.parent.name for path in both.endpoints[2 * place : 2 * place + 2]
        ]
        assert adapters(one.endpoints[0].parent) == adapters(both.endpoints[2 * place].parent)
        np.testing.assert_allclose(scores_of(one._store())[0], both_PN[place], rtol=1e-6)  # as a store rounds
    order = np.argsort(-both_PN, axis=1, kind="stable")
    ids = both._store().ids
    assert selection.ids[0] == ids[order[0, 0]]  # the paths take turns
    assert selection.ids[1] == next(ids[column] for column in order[1] if ids[column] != selection.ids[0])


def test_the_query_of_a_path_of_one_is_named(given: Given, tmp_path: Path) -> None:
    queries = [json.loads(line) for line in Path(given["query"]).read_text().splitlines()]
    query = write_jsonl(tmp_path / "q.jsonl", [each | {"subtask": f"{min(i, 3)}"} for i, each in enumerate(queries)])
    own = given | {"query": str(query), "tacs_paths": "subtask", "tacs_depth": 2, "out": str(tmp_path / "out")}
    selection = handpick.select(**own)
    ids = scorer_of(own, tmp_path).queries.ids
    assert selection.picked_for == [ids[0], ids[1], ids[2], None] * 2


def test_clusters_are_of_queries_whose_gradients_are_alike(given: Given, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    centres_3D = rng.normal(size=(3, 20))
    of_Q = [0, 1, 0, 2, 1, 1, 2]
    gradients_QD = (centres_3D[of_Q] + 0.01 * rng.normal(size=(7, 20))) * rng.lognormal(size=(7, 1))
    labels = cluster_labels(gradients_QD.astype(np.float32), 3)
    assert labels == [f"cluster {cluster + 1}" for cluster in of_Q]
    gradients_QD[2] = np.nan
    with pytest.raises(DataError, match="query 3 is not finite"):
        cluster_labels(gradients_QD.astype(np.float32), 3)
    own = given | {"tacs_paths": "clusters:2", "tacs_depth": 2, "out": str(tmp_path / "out")}
    handpick.select(**own)
    scorer = scorer_of(own, tmp_path)
    assert len(scorer.targets) == 2
    assert sorted(each for target in scorer.targets for each in target.ids) == sorted(scorer.queries.ids)
    assert scorer._model is None  # what was found out is kept


# calibration


def test_the_calibration_is_the_plain_loops(given: Given, tmp_path: Path) -> None:
    grid = Grid((1e-3, 1e-2), (1, 2))
    queries, reference = sequences_of(given["query"], given), sequences_of(given["pool"], given)[:7]
    settings, ids = parse_settings(given), [f"q{place}" for place in range(len(queries))]
    model = PathModel(settings, padding_id(load_tokenizer(given["model"])))
    calibration = Calibration(ids, queries, reference, grid, settings.seed, tmp_path / "calibration", {})
    told: list[float] = []
    assert calibration.n_left == calibration.n_learnt
    calibration.run(lambda: model, told.append)
    chosen = calibration.best()[0]
    assert sum(told) == calibration.n_learnt == 12 * 2 * 2  # examples of all folds, rates, passes

    want: dict[tuple[int, float, int], tuple[float, float]] = {}
    for fold, (learnt, held) in enumerate(split_folds(len(queries), settings.seed)):
        for rate in grid.rates:
            plain = plain_model(given)

            def gradient(places: Sequence[Rendered], plain: nn.Module = plain) -> torch.Tensor:
                plain.zero_grad()
                (sum(loss_of(plain, each) for each in places) / len(places)).backward()  # type: ignore[union-attr]
                return torch.cat([p.grad.flatten().double() for p in plain.parameters() if p.grad is not None])

            def look(
                depth: int, fold: int = fold, rate: float = rate, learnt: list[int] = learnt, held: list[int] = held,
                gradient: Any = gradient, plain: nn.Module = plain,
            ) -> None:  # fmt: skip
                if depth in grid.depths:
                    sets = [queries[i] for i in learnt], [queries[i] for i in held], reference
                    warm, hold, generic = (gradient(each) for each in sets)
                    cosine = nn.functional.cosine_similarity
                    want[fold, rate, depth] = cosine(warm, hold, 0).item(), cosine(warm, generic, 0).item()
                    plain.zero_grad()

            learn_plainly(plain, [queries[i] for i in learnt], rate, 2, settings.seed, look)
    assert len(calibration.cells) == len(want) == FOLDS * 4
    for cell in calibration.cells:
        np.testing.assert_allclose((cell.holdout, cell.reference), want[cell[:3]], rtol=1e-4, atol=1e-5)
    means = {
        (rate, depth): np.mean([np.subtract(*want[fold, rate, depth]) for fold in range(FOLDS)])
        for rate in grid.rates for depth in grid.depths
    }  # fmt: skip
    assert tuple(chosen) == max(means, key=lambda course: means[course])
    again = Calibration(ids, queries, reference, grid, settings.seed, tmp_path / "calibration", {})
    again.run(lambda: pytest.fail("tried again"))
    assert (again.n_left, again.best()[0]) == (0, chosen)
    assert sorted(path.name for path in (tmp_path / "calibration").iterdir()) == ["calibration.json"]
    with pytest.raises(HandpickError, match=r"the calibration in .* does not match"):
        Calibration(ids, queries, reference, grid, 0, tmp_path / "calibration", {"seed": 1})


@pytest.mark.parametrize("n", [3, 4, 5, 30])
def test_folds_part_the_queries(n: int) -> None:
    folds = split_folds(n, 0)
    assert len(folds) == FOLDS
    assert sorted(place for _, held in folds for place in held) == list(range(n))
    for learnt, held in folds:
        assert sorted(learnt + held) == list(range(n))
        assert 0 <= len(held) - n // FOLDS <= 1


def cells(value: Callable[[float, int], float | None], grid: Grid) -> list[Trial]:
    return [
        Trial(fold, rate, depth, value(rate, depth), 0.0) for fold in range(FOLDS) for rate in grid.rates
        for depth in grid.depths
    ]  # fmt: skip


def test_of_equal_courses_the_shallower_then_the_slower() -> None:
    grid = Grid((1e-5, 2e-5), (2, 4, 8))
    assert choose_course(cells(lambda rate, depth: 0.5, grid), grid) == (Course(1e-5, 2), 0.5)
    assert choose_course(cells(lambda rate, depth: float(depth > 2), grid), grid) == (Course(1e-5, 4), 1.0)
    assert choose_course(cells(lambda rate, depth: float(rate > 1e-5), grid), grid) == (Course(2e-5, 2), 1.0)
    found = choose_course(cells(lambda rate, depth: -depth if depth > 2 else None, grid), grid)
    assert found == (Course(1e-5, 4), -4.0)  # one that is not finite is none to choose
    with pytest.raises(ModelError, match="no gradient that is finite"):
        choose_course(cells(lambda rate, depth: None, grid), grid)


# killed runs


class _Killed(Exception):
    """The machine went down."""


def adapters(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("adapter_model.safetensors"))}


@pytest.mark.parametrize(
    "at",  # of the passes that a run makes
    [pytest.param(0, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)],
)
def test_a_path_that_was_killed_goes_on(at: int, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    want = handpick.select(**given, out=str(whole))
    learn, passes = PathModel._learn, list[int]()

    def learn_until_killed(self: PathModel, sequences: Any, optimizer: Any, number: int, advance: Any) -> list[int]:
        if number > at and not passes[at:]:
            passes.append(-1)
            raise _Killed
        passes.append(number)
        return learn(self, sequences, optimizer, number, advance)

    monkeypatch.setattr(PathModel, "_learn", learn_until_killed)
    with pytest.raises(_Killed):
        handpick.select(**given, out=str(killed))
    got = handpick.select(**given, out=str(killed))
    begun = max((1 << power for power in range(3) if 1 << power <= at), default=0)
    assert passes == [*range(1, at + 1), -1, *range(begun + 1, DEPTH + 1)]
    assert (got.ids, got.scores) == (want.ids, want.scores)
    assert adapters(killed) == adapters(whole)
    assert len(adapters(whole)) == 2  # the endpoints alone stay


@pytest.mark.slow
def test_a_calibration_and_a_pool_that_were_killed_go_on(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handpick.scorers.tacs_calibration.RATES", (1e-3, 1e-2))
    monkeypatch.setattr("handpick.scorers.tacs_calibration.DEPTHS", (2, 3))
    monkeypatch.setattr("handpick.scorers.tacs_calibration.GENERIC", 5)
    monkeypatch.setattr("handpick.scorers.tacs.GENERIC", 5)
    own = given | {"tacs_rate": None, "tacs_depth": None}
    want = handpick.select(**own, out=str(tmp_path / "whole"))
    killed = tmp_path / "killed"
    note, n_noted = Calibration._note, 0

    def note_until_killed(self: Calibration, cell: Trial) -> None:
        nonlocal n_noted
        n_noted += 1
        if n_noted == 6:
            raise _Killed
        note(self, cell)

    with monkeypatch.context() as patched:
        patched.setattr(Calibration, "_note", note_until_killed)
        with pytest.raises(_Killed):
            handpick.select(**own, out=str(killed))
        write, n_written = FeatureStore.write_shard, 0

        def write_until_killed(self: FeatureStore, *arguments: Any) -> None:
            nonlocal n_written
            n_written += 1
            if n_written == 2:
                raise _Killed
            write(self, *arguments)

        patched.setattr(FeatureStore, "write_shard", write_until_killed)
        with pytest.raises(_Killed):
            handpick.select(**own, out=str(killed))
        assert n_noted == 1 + FOLDS * 4  # none but the one that was lost is noted again
        got = handpick.select(**own, out=str(killed))
        assert n_written == 4  # shards of three, and the one that was lost
    assert (got.ids, got.scores) == (want.ids, want.scores)
    records = [
        next(folder.glob("features/tacs-calibration-*/calibration.json")) for folder in (killed, tmp_path / "whole")
    ]
    assert records[0].read_bytes() == records[1].read_bytes()
    monkeypatch.setattr(PathModel, "__init__", lambda *_: pytest.fail("a finished run loads no model"))
    assert handpick.select(**own, out=str(killed)).ids == want.ids


def test_a_pool_that_grows_keeps_path_and_losses(
    given: Given, done: str, pool_records: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(done, tmp_path / "out")
    more = write_jsonl(
        tmp_path / "more.jsonl", [record | {"id": f"new {i}"} for i, record in enumerate(pool_records[:3])]
    )
    monkeypatch.setattr(PathModel, "_learn", lambda *_: pytest.fail("the path was trained again"))
    grown = handpick.select(**given | {"pool": [given["pool"], str(more)], "budget": 27}, out=str(tmp_path / "out"))
    assert len(grown) == 27


# precision


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 1e-2), ("float16", 2e-3)])
def test_half_precision(dtype: str, bound: float, given: Given, tmp_path: Path) -> None:
    """The adapter is float32 whatever the base is, and so are the logits of a loss."""
    model = PathModel(parse_settings(given | {"dtype": dtype}), pad_id=1)
    queries, pool = sequences_of(given["query"], given), sequences_of(given["pool"], given)
    assert list(model.walk([""] * 6, queries, RATE, (2,), tmp_path)) == [2]
    assert {parameter.dtype for parameter in model._trained} == {torch.float32}
    plain: Any = model.model
    plain.eval()
    with torch.no_grad():
        want_N = np.array(
            [loss_of(lambda **ids: SimpleNamespace(logits=plain(**ids).logits.float()), each) for each in pool]
        )
    np.testing.assert_allclose(model.losses(pool), want_N, rtol=bound)
    (got_D,) = model.mean_gradients([queries])
    plain.zero_grad()
    (sum(loss_of(plain, each) for each in queries) / len(queries)).backward()  # type: ignore[union-attr]
    weights = trainable_parameters(plain)
    want_D = torch.cat([weights[layer.name].grad.flatten() for layer in model.engine.layers])
    assert nn.functional.cosine_similarity(torch.from_numpy(got_D), want_D, 0) > 0.99


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
def test_few_bits(bits: str, given: Given, tmp_path: Path) -> None:
    model = PathModel(parse_settings(given | {"quantization": bits}), pad_id=1)
    queries, pool = sequences_of(given["query"], given), sequences_of(given["pool"], given)
    model.restart()
    before_N = model.losses(pool)
    assert list(model.walk([""] * 6, queries, RATE, (2,), tmp_path)) == [2]
    plain: Any = model.model
    plain.eval()
    with torch.no_grad():
        want_N = np.array([loss_of(plain, each).item() for each in pool])
    np.testing.assert_allclose(model.losses(pool), want_N, rtol=1e-4)
    assert np.abs(before_N - want_N).max() > 1e-2
    assert np.isfinite(model.mean_gradients([queries])).all()


# what is said


def test_what_is_said_of_the_choice(given: Given, done: str, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    assert tell_drop(np.array([0.5, 0.1, 0.2]), np.array([-0.01, -0.02])) == (
        "After learning your queries the model finds the chosen examples easier by so much: its loss on them falls by "
        "20.00% in the median, on the pool it rises by 1.50%"
    )
    assert "it stays as it is" in tell_drop(np.array([0.5]), np.array([0.0]))
    run = run_select(parse_settings(given | {"out": str(tmp_path)}))
    (remark,) = run.remarks
    assert f"on them falls by {np.median(run.selection.scores):.2%} in the median" in remark.said
    assert isinstance(nearest_similarities(open_folder(tmp_path)), NearestSimilarities)
    assert f"{remark.said}." in write_selection_report(tmp_path).read_text(encoding="utf-8")
    shutil.rmtree(next(path.parent for path in (tmp_path / "features").glob("tacs-*/manifest.json")))
    assert nearest_similarities(open_folder(tmp_path)) == "the pool's features are not in the folder any more"


# what is refused


@pytest.mark.parametrize(
    ("changed", "n", "said"),
    [
        ({"tacs_rate": None}, 2, r"calibrated on 3 folds of its queries, and all queries has 2 that can be learnt"),
        ({"tacs_paths": "subtask", "tacs_depth": None}, 5, r"3 folds of its queries, and b has 2 that can be learnt"),
        ({"tacs_paths": "subtask"}, 1, "they have fewer than two: name each query's in its field `subtask`"),
        ({"tacs_paths": "clusters:4"}, 3, "asks for 4 clusters, and 3 queries can be learnt"),
        ({"max_length": 2}, 3, "no query can be learnt; the first, .*: no response token left"),
    ],
)
def test_what_cannot_be_learnt_is_refused_before_any_work(
    changed: Given, n: int, said: str, given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PathModel, "__init__", lambda *_: pytest.fail("the model was loaded"))
    lines = Path(given["query"]).read_text().splitlines()[:n]
    query = write_jsonl(tmp_path / "query.jsonl", [json.loads(line) for line in lines])
    values = {k: v for k, v in (given | changed | {"query": str(query), "out": str(tmp_path / "o")}).items() if v}
    for act in (run_select, plan_select):
        with pytest.raises(HandpickError, match=said):
            act(parse_settings(values))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"tacs_paths": "clusters:1"}, "should be one, subtask, or clusters:N with N of 2 or more"),
        ({"tacs_paths": "some"}, "should be one, subtask, or clusters:N"),
        ({"tacs_rate": 0}, "greater than 0"),
        ({"tacs_depth": 1}, "greater than or equal to 2"),
        ({"max_cosine": 0.9}, "tacs has no features to find near-duplicates by"),
        ({"balanced": True}, "tacs takes all queries together: leave balanced out"),
    ],
)
def test_settings_that_are_none(changed: Given, said: str, given: Given) -> None:
    with pytest.raises(SettingsError, match=said):
        parse_settings(given | changed)


def test_a_pool_without_answers_is_refused_before_the_calibration(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PathModel, "__init__", lambda *_: pytest.fail("the model was loaded"))
    pool = write_jsonl(tmp_path / "pool.jsonl", [{"prompt": f"Why {place}?"} for place in range(9)])
    values = given | {"pool": str(pool), "tacs_rate": None, "out": str(tmp_path / "out")}
    with pytest.raises(DataError, match="none of the pool's 9 records leaves a response to learn from"):
        handpick.select(**values)


def test_a_query_without_an_answer_is_set_aside(given: Given, tmp_path: Path) -> None:
    queries = [json.loads(line) for line in Path(given["query"]).read_text().splitlines()]
    queries[1]["messages"] = queries[1]["messages"][:1]
    query = write_jsonl(tmp_path / "query.jsonl", queries)
    values = given | {"query": str(query), "tacs_depth": 2, "out": str(tmp_path / "out")}
    handpick.select(**values)
    (line,) = (tmp_path / "out" / "quarantine-query.jsonl").read_text().splitlines()
    assert json.loads(line)["line"] == 2
    assert "no assistant turn" in json.loads(line)["reason"]


def test_a_later_step_that_overflows_is_left_out(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a query whose first was finite; else it is refused (tests/pipeline/test_not_finite.py)."""
    backward, n = PathModel._backward, 0

    def overflow(self: PathModel, sequence: Rendered) -> None:
        nonlocal n
        n += 1
        backward(self, sequence)
        if n == 6 + 2:
            self._trained[0].grad *= math.inf  # type: ignore[operator]

    monkeypatch.setattr(PathModel, "_backward", overflow)
    selection = handpick.select(**given, out=str(tmp_path))
    assert np.isfinite(selection.scores).all()
    assert "1 steps at the rate 0.03 had a gradient that is not finite, and were left out" in capsys.readouterr().err


# what it costs


def test_the_bill_counts_the_calibration(given: Given, tmp_path: Path) -> None:
    values = {k: v for k, v in given.items() if k not in ("tacs_rate", "tacs_depth")} | {"out": str(tmp_path / "out")}
    plan = plan_select(parse_settings(values), 0.1)
    stages = {stage.name: stage for stage in plan.stages}
    queries, pool = sequences_of(given["query"], given), sequences_of(given["pool"], given)
    n, all_of_pool = [len(each.input_ids) for each in queries], sum(len(each.input_ids) for each in pool)
    # each query is learnt in two folds of three and asked about in all three, the pool's stands for what is generic
    want = 3 * 64 * 2 * sum(n) + 3 * 7 * 3 * (sum(n) + all_of_pool)
    assert stages["calibration"].tokens is not None
    assert stages["calibration"].tokens.value == want
    assert stages["target's path"].tokens is not None
    assert stages["target's path"].tokens.value == 64 * sum(n)
    assert "at most: 64 passes" in stages["target's path"].note
    assert stages["pool features"].tokens is not None
    assert stages["pool features"].tokens.value == 2 * all_of_pool
    assert stages["pool features"].disk > 24 * 2 * 4
    assert any(line.startswith("--tacs-rate and --tacs-depth, where they are known, save") for line in plan.cheaper)
    assert not list((tmp_path / "out").glob("features/tacs*"))

    own = given | {"out": str(tmp_path / "out"), "tacs_paths": "subtask"}
    fixed = {stage.name: stage for stage in plan_select(parse_settings(own), 0.1).stages}
    assert "calibration" not in fixed
    assert fixed["target's path"].examples == DEPTH * 6
    assert fixed["pool features"].tokens is not None
    assert fixed["pool features"].tokens.value == 4 * all_of_pool
    handpick.select(**own)
    done = {stage.name: stage for stage in plan_select(parse_settings(own), 0.1).stages}
    assert done["target's path"].there
    assert done["pool features"].there
