"""What a person gets: the chosen records as they came, the budget kept, the same again for the same settings."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

import handpick
from handpick.errors import SettingsError
from handpick.scorers import checkpoints
from handpick.settings import Settings
from handpick.similarity import similarity
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL, Finished

Given = dict[str, Any]


def test_selected_jsonl_has_the_pools_own_lines(finished: Finished, pool_file: Path) -> None:
    line_of = {json.loads(line)["id"]: line for line in pool_file.read_bytes().splitlines(keepends=True)}
    chosen = (finished.folder / "selected.jsonl").read_bytes()
    assert chosen == b"".join(line_of[example_id] for example_id in finished.selection.ids)
    assert b'"unknown" :\t[ ' in chosen


def test_a_selection_has_an_id_a_score_and_a_query_for_each_pick(
    finished: Finished, query_records: list[dict[str, Any]]
) -> None:
    selection = finished.selection
    assert len(set(selection.ids)) == len(selection.scores) == 10
    queries = [record["id"] for record in query_records[:4]]
    assert sorted(selection.picked_for[:4]) == sorted(queries)  # round-robin: each query has its turn
    saved = handpick.Selection.open(finished.folder)
    assert (saved.ids, saved.scores, saved.picked_for) == (selection.ids, selection.scores, selection.picked_for)


def test_what_was_used_is_written_beside_the_results(finished: Finished) -> None:
    summary = json.loads((finished.folder / "selection.json").read_text())
    assert summary["settings"]["warmup"]["at_least"] == 24
    assert summary["fingerprints"]["pool"]["build"]["optimizer"] == "adam"
    assert summary["fingerprints"]["query"]["build"]["optimizer"] == "sgd"


def test_the_scores_are_the_similarity_of_the_stores(finished: Finished) -> None:
    pool = handpick.FeatureStore.open(finished.folder / "features" / "pool")
    (query_folder,) = (finished.folder / "features").glob("query-*")
    query = handpick.FeatureStore.open(query_folder)
    similarity_QN = sum(w * query.array(t) @ np.asarray(pool.array(t)).T for t, w in enumerate(pool.weights))
    for example_id, score, query_id in zip(
        finished.selection.ids, finished.selection.scores, finished.selection.picked_for, strict=True
    ):
        expected = similarity_QN[query.ids.index(str(query_id)), pool.ids.index(example_id)]
        assert score == pytest.approx(expected, abs=1e-5)


def test_the_store_can_be_opened_in_python(finished: Finished) -> None:
    store = handpick.FeatureStore.open(finished.folder / "features" / "pool")
    features_ND = store.array(checkpoint=0)
    assert features_ND.shape == (N_POOL, 1024)
    assert features_ND.dtype == np.float32
    assert np.linalg.norm(features_ND, axis=1) == pytest.approx(1, abs=1e-5)
    assert sum(store.weights) == pytest.approx(1)
    assert len(store.checkpoints) == 2


def test_another_algorithm_and_budget_need_no_model(
    finished: Finished, given: Given, tmp_path: Path, no_model: None
) -> None:
    out = str(finished.copy_to(tmp_path / "again"))
    ids = {n: handpick.select(**given | {"budget": n}, out=out).ids for n in (3, 20)}
    assert ids[3] == finished.selection.ids[:3]
    assert ids[20][:10] == finished.selection.ids
    greedy = handpick.select(**given, algorithm="doubly-greedy", out=out)
    assert greedy.scores == sorted(greedy.scores, reverse=True)


def test_not_even_with_the_raw_gradient(untrained: Given, out: str, request: pytest.FixtureRequest) -> None:
    settings = untrained | {"projection": "none", "out": out}
    ids = handpick.select(**settings).ids
    request.getfixturevalue("no_model")
    assert handpick.select(**settings | {"budget": 5}).ids == ids[:5]


@pytest.mark.parametrize("projection", ["none", "rademacher"])
def test_projections_keep_most_of_the_raw_gradients_choice(
    projection: str, untrained: Given, out: str, finished_untrained: Finished
) -> None:
    ids = handpick.select(**untrained, projection=projection, out=out).ids
    assert len(set(ids) & set(finished_untrained.selection.ids)) >= 6  # ten of forty at random share 2.5


def test_percent(untrained: Given, finished_untrained: Finished, tmp_path: Path) -> None:
    out = str(finished_untrained.copy_to(tmp_path / "percent"))
    assert handpick.select(**untrained | {"budget": "5%"}, out=out).ids == finished_untrained.selection.ids[:2]


@pytest.mark.parametrize("method", ["gradient-rr", "random"])
def test_a_token_budget_takes_the_longest_prefix_that_fits(
    method: str, untrained: Given, finished_untrained: Finished, tiny_model: Path, tmp_path: Path
) -> None:
    settings = untrained | {"method": method, "out": str(finished_untrained.copy_to(tmp_path / "tokens"))}
    order = handpick.select(**settings | {"budget": N_POOL})
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)

    def n_tokens(choice: int) -> int:
        messages = json.loads(order.record(choice))["messages"]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    for k in (1, 7):
        enough = sum(n_tokens(choice) for choice in range(k))
        assert handpick.select(**settings | {"budget": f"{enough} tokens"}).ids == order.ids[:k]
        assert handpick.select(**settings | {"budget": f"{enough + n_tokens(k) - 1} tokens"}).ids == order.ids[:k]


def test_subtasks_of_the_query_reach_mean_max(
    untrained: Given, query_records: list[dict[str, Any]], tmp_path: Path, out: str
) -> None:
    subtasks = ["a", "b", "a", "a"]
    labelled = [record | {"subtask": name} for record, name in zip(query_records[:4], subtasks, strict=True)]
    query = write_jsonl(tmp_path / "labelled.jsonl", labelled)
    ids = handpick.select(**untrained | {"query": query}, algorithm="mean-max", out=out).ids

    pool_store = handpick.FeatureStore.open(Path(out, "features", "pool"))
    (query_path,) = Path(out, "features").glob("query-*")
    similarity_QN = similarity(pool_store, handpick.FeatureStore.open(query_path)).astype(np.float64)
    rows = defaultdict(list)
    for row_N, name in zip(similarity_QN, subtasks, strict=True):
        rows[name].append(row_N)
    score_N = np.maximum(np.mean(rows["a"], axis=0), np.mean(rows["b"], axis=0))
    pool_ids = pool_store.ids
    assert ids == [pool_ids[i] for i in np.argsort(-score_N)[:10]]


def test_random_needs_neither_query_nor_model(pool_file: Path, tmp_path: Path) -> None:
    def draw(seed: int) -> list[str]:
        return handpick.select(pool=pool_file, method="random", budget=10, seed=seed, out=str(tmp_path / "r")).ids

    assert draw(0) == draw(0)
    assert set(draw(0)) != set(draw(1))
    assert not (tmp_path / "r" / "warmup").exists()


def test_what_has_no_folder_of_its_own_goes_where_the_query_is_named() -> None:
    assert Settings(query=["data/gsm8k_dev.jsonl.gz"]).folder == Path("runs/gsm8k_dev")


def test_random_takes_no_other_algorithm(pool_file: Path, out: str) -> None:
    with pytest.raises(SettingsError, match="random looks at nothing that the algorithm mean-max could rank by"):
        handpick.select(pool=pool_file, method="random", algorithm="mean-max", budget=10, out=out)


def test_the_seed_decides_what_the_warmup_draws(given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Drawn(Exception):
        pass

    def stop(_model: str, sequences: list[Any], *_: object, **__: object) -> None:
        raise Drawn([tuple(sequence.input_ids) for sequence in sequences])

    monkeypatch.setattr(checkpoints, "train", stop)

    def drawn(seed: int, out: str) -> list[tuple[int, ...]]:
        with pytest.raises(Drawn) as caught:
            handpick.select(**given, seed=seed, out=str(tmp_path / out))
        return list(caught.value.args[0])

    first = drawn(0, "a")
    assert len(first) == 24
    assert first == drawn(0, "b")
    assert set(first) != set(drawn(1, "c"))


def test_more_queries_than_picks_is_said_and_no_error(
    untrained: Given, finished_untrained: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(finished_untrained.copy_to(tmp_path / "few"))
    assert len(handpick.select(**untrained | {"budget": 3}, out=out)) == 3
    assert "4 queries and 3 picks: not every query has one of its own" in capsys.readouterr().err


def test_rank_takes_any_similarity() -> None:
    similarity_QN = np.array([[0.1, 0.9, 0.5], [0.8, 0.2, 0.7]], dtype=np.float32)
    assert list(handpick.rank(similarity_QN, budget=3, algorithm="round-robin")) == [1, 0, 2]


@pytest.mark.parametrize("name", handpick.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(handpick, name).__name__ == name


@pytest.mark.parametrize("imitated", [True, False])
def test_bfloat16_that_the_machine_imitates_is_named(
    imitated: bool, untrained: Given, out: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("handpick.scorers.gradient_stores.has_bfloat16", lambda: not imitated)
    handpick.select(**untrained, dtype="bfloat16", out=out)
    assert ("no instructions for bfloat16" in capsys.readouterr().err) is imitated
