"""Constraints from the settings to the selection: each by an oracle on what was written, and refused early if it can
never be met."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

import handpick
from handpick.errors import DataError, SettingsError
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL

Given = dict[str, Any]


@pytest.fixture(scope="module")
def settings(
    untrained: Given, data: Path, pool_records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Given:
    """Runs that share a folder; the pool has 10 examples of the source a, 10 of b and 20 of c."""
    sourced = [r | {"source": "aabbcccc"[i % 8]} for i, r in enumerate(pool_records[:N_POOL])]
    pool = write_jsonl(data / "sourced.jsonl", sourced)
    return untrained | {"pool": pool, "out": str(tmp_path_factory.mktemp("runs") / "constrained")}


@pytest.fixture(scope="module")
def order(settings: Given) -> handpick.Selection:
    """All of the pool, with no constraint."""
    return handpick.select(**settings | {"budget": "100%"})


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on features that are computed or read fail the test."""

    def fail(*_: object) -> None:
        pytest.fail("features were made")

    monkeypatch.setattr("handpick.pipeline.prepare.PreparedRun.run_stages", fail)


@pytest.fixture
def named(tmp_path: Path) -> Callable[..., str]:
    """A file of ids."""

    def write(*ids: str) -> str:
        (tmp_path / "always.txt").write_text("\n".join(ids) + "\n\n")
        return str(tmp_path / "always.txt")

    return write


def sources(selection: handpick.Selection) -> list[str]:
    return [json.loads(selection.record(i))["source"] for i in range(len(selection))]


# --- shares ----------------------------------------------------------------------------------------------------------


def test_max_share_passes_over_what_is_too_much(
    settings: Given, order: handpick.Selection, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = handpick.select(**settings | {"max_share": {"c": 0.2, "*": 0.5}})
    taken, want = Counter[str](), []
    for example_id, source in zip(order.ids, sources(order), strict=True):
        if len(want) < 10 and taken[source] < {"c": 2}.get(source, 5):
            taken[source] += 1
            want.append(example_id)
    assert chosen.ids == want
    assert chosen.ids != order.ids[:10]
    assert "passed over: " in capsys.readouterr().err


def test_max_share_may_be_a_number_of_examples(settings: Given, order: handpick.Selection) -> None:
    chosen = handpick.select(**settings | {"max_share": {"c": "1 example", "*": 6}})
    assert sources(chosen).count("c") <= 1
    assert chosen.settings["max_share"] == {"c": "1 example", "*": "6 examples"}  # as it is read back
    share = handpick.select(**settings | {"max_share": {"c": 0.1, "*": "60%"}})
    assert chosen.ids == share.ids


def test_max_share_takes_no_targets_part_from_it(
    settings: Given, query_records: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = {"x": write_jsonl(tmp_path / "x.jsonl", query_records[:3])}
    target |= {"y": write_jsonl(tmp_path / "y.jsonl", query_records[3:5])}
    alone = {name: value for name, value in settings.items() if name != "query"}
    chosen = handpick.select(
        **alone | {"target": target, "split": "weight", "target_weight": {"x": 2, "y": 1}, "budget": 12},
        max_share={"c": 0.1, "*": 0.6},
    )
    of_x = {record["id"] for record in query_records[:3]}
    whose = ["x" if picked_for in of_x else "y" for picked_for in chosen.picked_for]
    assert [whose[:k].count("x") for k in (3, 6, 9, 12)] == [2, 4, 6, 8]
    assert sources(chosen).count("c") <= 2
    said = " ".join(capsys.readouterr().err.split())
    assert "chosen for the targets: 8 for x, 4 for y" in said
    assert "passed over: " in said


def test_min_share_keeps_room(settings: Given, order: handpick.Selection) -> None:
    rarest = min("abc", key=sources(order)[:10].count)
    chosen = handpick.select(**settings | {"min_share": {rarest: 0.6}})
    assert sources(chosen).count(rarest) == 6
    own = [example_id for example_id, source in zip(order.ids, sources(order), strict=True) if source == rarest]
    assert [i for i, s in zip(chosen.ids, sources(chosen), strict=True) if s == rarest] == own[:6]
    others = [example_id for example_id in order.ids if example_id not in own]
    assert [i for i, s in zip(chosen.ids, sources(chosen), strict=True) if s != rarest] == others[:4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_share": {"d": 0.5}}, "no example has the source 'd'; the pool has a, b, c"),
        ({"max_share": {"a": 1.5}}, r"should be a share \(0.3 or 30%\) or a whole number of examples \(3\) of 'a'"),
        ({"max_share": {"a": 1}}, "should not be a bare 1, which may be one example or all"),
        ({"max_share": {"*": 0.1}}, "the largest shares leave 3 examples and the budget is 10"),
        ({"min_share": {"a": 0.6, "b": 0.6}}, "the smallest shares add up to 1.2"),
        ({"min_share": {"a": 1.0}, "budget": 12}, "is 12 examples and the pool has 10 of that source"),
        ({"max_share": {"a": 0.5}, "budget": "1k tokens"}, "shares of sources are of a budget in examples or percent"),
        ({"budget": 41}, "the budget is 41 examples and the pool has 40"),
    ],
)
def test_what_no_selection_can_meet_is_said_before_anything_is_computed(
    change: Given, message: str, settings: Given, nothing_computed: None
) -> None:
    with pytest.raises(SettingsError, match=message):
        handpick.select(**settings | change)


# --- always ----------------------------------------------------------------------------------------------------------


def test_always_comes_first_in_the_files_order(
    settings: Given, order: handpick.Selection, named: Callable[..., str]
) -> None:
    wanted = [order.ids[30], order.ids[2], order.ids[20]]
    chosen = handpick.select(**settings | {"always": named(*wanted)})
    assert chosen.ids == wanted + [i for i in order.ids if i not in wanted][:7]
    assert (chosen.scores[:3], chosen.picked_for[:3]) == ([0, 0, 0], [None, None, None])
    assert chosen.picked_for[3:] == [order.picked_for[order.ids.index(i)] for i in chosen.ids[3:]]


def test_an_id_that_is_not_there_is_named_at_once(
    settings: Given, named: Callable[..., str], nothing_computed: None
) -> None:
    with pytest.raises(DataError, match=r"1 ids of .*always\.txt are not in the pool or cannot be used.*'nobody'"):
        handpick.select(**settings | {"always": named("nobody")})
    with pytest.raises(DataError, match=r"gone\.txt cannot be read"):
        handpick.select(**settings | {"always": "gone.txt"})


def test_more_to_keep_than_the_budget_is_refused(
    settings: Given, order: handpick.Selection, named: Callable[..., str], nothing_computed: None
) -> None:
    with pytest.raises(SettingsError, match="the budget is 2, there are 40 examples, and 3 of them are always"):
        handpick.select(**settings | {"always": named(*order.ids[:3]), "budget": 2})


def test_an_example_to_keep_that_cannot_be_represented_is_named(
    settings: Given, tmp_path: Path, named: Callable[..., str], out: str
) -> None:
    pool = tmp_path / "pool.jsonl"
    pool.write_text(Path(settings["pool"]).read_text() + json.dumps({"id": "mute", "prompt": "2+2?"}) + "\n")
    with pytest.raises(DataError, match="not in the pool or cannot be used, the first 'mute'"):
        handpick.select(**settings | {"pool": pool, "always": named("mute"), "out": out})


# --- near-duplicates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_cosine", [0.05, 0.2])
def test_no_pair_is_above_max_cosine(
    max_cosine: float, settings: Given, order: handpick.Selection, capsys: pytest.CaptureFixture[str]
) -> None:
    """And every example that was passed over is too near to one chosen before it."""
    store = handpick.FeatureStore.open(Path(settings["out"], "features", "pool"))
    x_ND = np.asarray(store.array(0))
    cosine = dict(zip(store.ids, (dict(zip(store.ids, row, strict=True)) for row in x_ND @ x_ND.T), strict=True))
    chosen = handpick.select(**settings | {"max_cosine": max_cosine, "budget": 5})
    want: list[str] = []
    for example_id in order.ids:
        if all(cosine[example_id][other] <= max_cosine for other in want):
            want.append(example_id)
    assert chosen.ids == want[:5]
    if max_cosine == 0.05:
        assert chosen.ids != order.ids[:5]
        assert "near-duplicates" in capsys.readouterr().err


def test_when_too_few_are_unlike_it_says_how_many(settings: Given) -> None:
    with pytest.raises(SettingsError, match=r"only \d+ of 40 examples can be chosen; passed over: \d+ near-duplicates"):
        handpick.select(**settings | {"max_cosine": 0.05, "budget": 40})


@pytest.mark.parametrize(
    "change",
    [{"method": "bm25"}, {"method": "longest"}, {"method": "random"}, {"score_only": True}],
)
def test_near_duplicates_are_told_by_features(change: Given, settings: Given, out: str) -> None:
    with pytest.raises(SettingsError, match="has no features to find near-duplicates by: leave max_cosine out"):
        handpick.select(**settings | change | {"max_cosine": 0.9, "out": out})
    assert not Path(out).exists()


# --- overlap ---------------------------------------------------------------------------------------------------------


def test_what_repeats_a_test_item_is_left_out(
    settings: Given, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Two test items are two of the pool's prompts; the other is of another world."""
    settings = settings | {"algorithm": "doubly-greedy"}  # in whose order the others stay where they are
    order = handpick.select(**settings | {"budget": "100%"})
    out = settings["out"]
    long = [r for r in pool_records[:N_POOL] if len(r["messages"][0]["content"].split()) > 12]
    leaked = sorted(long, key=lambda r: order.ids.index(r["id"]))[:2]
    items = [{"id": f"t{i}", "prompt": r["messages"][0]["content"], "example": ["x"]} for i, r in enumerate(leaked)]
    items += [{"id": "far", "prompt": "Which of seven purple walruses paid the baker for her violin lessons?"}]
    test_set = write_jsonl(tmp_path / "test.jsonl", items)
    chosen = handpick.select(**settings | {"exclude_overlap": [str(test_set)], "budget": 38})
    gone = [r["id"] for r in leaked]
    assert chosen.ids == [example_id for example_id in order.ids if example_id not in gone]
    assert order.ids.index(gone[0]) < 10
    lines = [json.loads(line) for line in Path(out, "overlap.jsonl").read_text().splitlines()]
    by_row = sorted(enumerate(leaked), key=lambda each: pool_records.index(each[1]))
    assert lines == [{"id": r["id"], "repeats": f"t{i}", "share": 1.0} for i, r in by_row]
    assert json.loads(Path(out, "selected.jsonl").read_text().splitlines()[0])["id"] == chosen.ids[0]
    with pytest.raises(SettingsError, match="the budget is 39 examples and the pool has 38"):
        handpick.select(**settings | {"exclude_overlap": [str(test_set)], "budget": 39})


def test_a_pool_that_is_all_test_items(settings: Given, out: str, nothing_computed: None) -> None:
    with pytest.raises(DataError, match="every example of the pool repeats an item of the test sets"):
        handpick.select(
            **settings | {"exclude_overlap": [str(settings["pool"])], "overlap_threshold": 0.01, "out": out}
        )
    with pytest.raises(DataError, match=r"there is no file gone\.jsonl"):
        handpick.select(**settings | {"exclude_overlap": ["gone.jsonl"], "out": out})


def test_features_and_queries_are_still_each_columns_own_when_some_are_left_out(
    settings: Given, pool_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The first example of the pool that can be told is left out, so that all columns behind it move."""
    leaked = next(r for r in pool_records[:N_POOL] if len(r["messages"][0]["content"].split()) > 12)
    test_set = write_jsonl(tmp_path / "test.jsonl", [{"prompt": leaked["messages"][0]["content"]}])
    without = {"exclude_overlap": [str(test_set)]}

    gist = settings | {"method": "gist"}
    whole, less = (handpick.select(**gist | change) for change in ({"budget": 40}, {"budget": 39} | without))
    kept = [place for place, example_id in enumerate(whole.ids) if example_id != leaked["id"]]
    assert less.ids == [whole.ids[place] for place in kept]
    assert less.picked_for == [whole.picked_for[place] for place in kept]

    greedy = settings | {"algorithm": "doubly-greedy"}
    store = handpick.FeatureStore.open(Path(settings["out"], "features", "pool"))
    x_ND = np.asarray(store.array(0))
    want: list[int] = []
    for example_id in handpick.select(**greedy | {"budget": 40}).ids:
        row = store.ids.index(example_id)
        if example_id != leaked["id"] and all(x_ND[row] @ x_ND[other] <= 0.1 for other in want):
            want.append(row)
    chosen = handpick.select(**greedy | without | {"max_cosine": 0.1, "budget": 6})
    assert chosen.ids == [store.ids[row] for row in want[:6]]


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_budget_is_spent_on_what_constraints_leave(
    settings: Given, order: handpick.Selection, named: Callable[..., str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])

    def n_tokens(selection: handpick.Selection, choice: int) -> int:
        text = tokenizer.apply_chat_template(json.loads(selection.record(choice))["messages"], tokenize=False)
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    constraints = {"always": named(order.ids[30]), "max_cosine": 0.3}
    by_count = handpick.select(**settings | constraints | {"budget": 8})
    tokens = [n_tokens(by_count, choice) for choice in range(8)]
    for n in (1, 5):
        for budget in (sum(tokens[:n]), sum(tokens[: n + 1]) - 1):
            chosen = handpick.select(**settings | constraints | {"budget": f"{budget} tokens"})
            assert (chosen.ids, chosen.scores) == (by_count.ids[:n], by_count.scores[:n])

    both = named(order.ids[30], order.ids[31])
    first_two = [n_tokens(order, 30), n_tokens(order, 31)]
    with pytest.raises(SettingsError, match=r"the 2 examples of .*always\.txt have more"):
        handpick.select(**settings | {"always": both, "budget": f"{sum(first_two) - 1} tokens"})


# --- balanced --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven(settings: Given, data: Path, query_records: list[dict[str, Any]]) -> Given:
    """Three queries of the subtask a and one of b."""
    labelled = [r | {"subtask": name} for r, name in zip(query_records[:4], "aaab", strict=True)]
    return settings | {"query": write_jsonl(data / "uneven.jsonl", labelled)}


def test_balanced_gives_every_subtask_the_same(uneven: Given, query_records: list[dict[str, Any]]) -> None:
    last = query_records[3]["id"]
    chosen = handpick.select(**uneven | {"balanced": True})
    assert chosen.picked_for[1::2] == [last] * 5  # every second turn is b's
    assert chosen.picked_for[::2] == [query_records[i]["id"] for i in (0, 1, 2, 0, 1)]
    assert handpick.select(**uneven).picked_for.count(last) < 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "gist"}, "gist compares with each subtask's mean already"),
        ({"method": "dsir", "algorithm": "round-robin"}, "dsir takes all queries together: leave balanced out"),
        ({"algorithm": "doubly-greedy"}, "the algorithm doubly-greedy does not look at balanced: leave it out"),
        ({"algorithm": "mean-max"}, "the algorithm mean-max does not look at balanced"),
        ({"method": "random"}, "the algorithm random does not look at balanced"),
    ],
)
def test_balanced_is_refused_where_it_would_do_nothing(change: Given, message: str, uneven: Given, out: str) -> None:
    with pytest.raises(SettingsError, match=message):
        handpick.select(**uneven | change | {"balanced": True, "out": out})
    assert not Path(out).exists()


@pytest.mark.parametrize("labels", [[None] * 4, ["a"] * 4, [3] * 4])
def test_balanced_is_refused_where_the_queries_are_of_one_subtask(
    labels: list[Any], settings: Given, query_records: list[dict[str, Any]], tmp_path: Path, out: str
) -> None:
    alike = [r | {"subtask": label} for r, label in zip(query_records[:4], labels, strict=True)]
    query = write_jsonl(tmp_path / "alike.jsonl", alike)
    with pytest.raises(SettingsError, match="fewer than two: name each query's in its field `subtask`, or leave"):
        handpick.select(**settings | {"query": query, "balanced": True, "out": out})
    assert not Path(out, "features", "pool").exists()


def test_subtasks_may_be_numbers(uneven: Given, query_records: list[dict[str, Any]], tmp_path: Path) -> None:
    numbered = [r | {"subtask": n} for r, n in zip(query_records[:4], [1, 1, 1, 0], strict=True)]
    query = write_jsonl(tmp_path / "numbered.jsonl", numbered)
    by_name = handpick.select(**uneven | {"algorithm": "mean-max"})
    by_number = handpick.select(**uneven | {"algorithm": "mean-max", "query": query})
    assert (by_number.ids, by_number.scores) == (by_name.ids, by_name.scores)
