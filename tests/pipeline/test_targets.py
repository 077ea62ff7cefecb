"""Several tasks that share a budget: equally, by weight, or as if they were one."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.errors import DataError, SettingsError
from handpick.scorers import scoring_problem as problem
from handpick.settings import parse_settings
from tests.conftest import write_jsonl
from tests.pipeline.conftest import N_POOL

Given = dict[str, Any]


@pytest.fixture(scope="module")
def files(data: Path, query_records: list[dict[str, Any]]) -> tuple[Path, Path]:
    """Two tasks: three questions, and two."""
    return write_jsonl(data / "sums.jsonl", query_records[:3]), write_jsonl(
        data / "more-sums.jsonl", query_records[3:5]
    )


@pytest.fixture(scope="module")
def settings(untrained: Given, files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Given:
    """Runs for both tasks, in one folder."""
    alone = {name: value for name, value in untrained.items() if name != "query"}
    return alone | {"target": {"x": files[0], "y": files[1]}, "out": str(tmp_path_factory.mktemp("runs") / "targets")}


@pytest.fixture(scope="module")
def orders(settings: Given, files: tuple[Path, Path]) -> tuple[list[str], list[str]]:
    """The whole pool in the order of each task by itself."""
    alone = {name: value for name, value in settings.items() if name != "target"}
    x, y = (handpick.select(**alone | {"query": file, "budget": "100%"}).ids for file in files)
    return x, y


def taking_turns(orders: Sequence[Sequence[str]], whose: Sequence[int]) -> list[str]:
    """Each takes its own next best that is left."""
    taken: list[str] = []
    for target in whose:
        taken.append(next(example_id for example_id in orders[target] if example_id not in taken))
    return taken


def test_targets_take_turns(settings: Given, orders: tuple[list[str], list[str]]) -> None:
    chosen = handpick.select(**settings)
    assert chosen.ids == taking_turns(orders, [0, 1] * 5)
    assert handpick.select(**settings | {"budget": 7}).ids == chosen.ids[:7]
    assert handpick.select(**settings | {"budget": N_POOL}).ids == taking_turns(orders, [0, 1] * (N_POOL // 2))


def test_each_pick_is_for_a_query_of_its_own_target(settings: Given, query_records: list[dict[str, Any]]) -> None:
    own = [{r["id"] for r in query_records[:3]}, {r["id"] for r in query_records[3:5]}]
    assert all(picked_for in own[turn % 2] for turn, picked_for in enumerate(handpick.select(**settings).picked_for))


@pytest.mark.parametrize("weights", [(2, 1), (1, 3), (0.5, 0.5)])
def test_weights_share_the_budget(
    weights: tuple[float, float], settings: Given, orders: tuple[list[str], list[str]],
    query_records: list[dict[str, Any]],
) -> None:  # fmt: skip
    """Of the first picks, however many, each has its part, rounded up or down."""
    own_weights = dict(zip("xy", weights, strict=True))
    chosen = handpick.select(**settings | {"split": "weight", "target_weight": own_weights, "budget": 12})
    of_y = {r["id"] for r in query_records[3:5]}
    whose = [int(picked_for in of_y) for picked_for in chosen.picked_for]
    assert chosen.ids == taking_turns(orders, whose)
    for k in range(1, 13):
        share = k * weights[1] / sum(weights)
        assert sum(whose[:k]) in (math.floor(share), math.ceil(share))


def test_shared_is_one_query_set(settings: Given, files: tuple[Path, Path]) -> None:
    alone = {name: value for name, value in settings.items() if name != "target"}
    together = handpick.select(**alone | {"query": list(files)})
    chosen = handpick.select(**settings | {"split": "shared"})
    assert (chosen.ids, chosen.scores, chosen.picked_for) == (together.ids, together.scores, together.picked_for)
    assert chosen.ids != handpick.select(**settings).ids


def test_one_target_is_a_query(settings: Given, files: tuple[Path, Path], orders: tuple[list[str], list[str]]) -> None:
    assert handpick.select(**settings | {"target": {"x": files[0]}}).ids == orders[0][:10]


@pytest.mark.parametrize("algorithm", ["mean-max", "knn-kde", "uot", "facility-location"])
def test_other_algorithms_take_turns_too(algorithm: str, settings: Given, files: tuple[Path, Path]) -> None:
    settings = settings | {"algorithm": algorithm}
    alone = {name: value for name, value in settings.items() if name != "target"}
    orders = [handpick.select(**alone | {"query": file, "budget": "100%"}).ids for file in files]
    assert handpick.select(**settings).ids == taking_turns(orders, [0, 1] * 5)


def test_a_large_similarity_is_written_down_for_them(
    settings: Given, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = handpick.select(**settings)
    monkeypatch.setattr(problem, "_IN_MEMORY", 0)
    large = handpick.select(**settings)
    assert (large.ids, large.scores, large.picked_for) == (small.ids, small.scores, small.picked_for)
    assert "several targets read all of the similarity many times" in capsys.readouterr().err.replace("\n", " ")


def test_subtasks_of_two_targets_are_never_the_same(
    settings: Given, tmp_path: Path, query_records: list[dict[str, Any]]
) -> None:
    """Balanced over targets and subtasks: x has two, y one, which bears the name of one of x's."""
    x = write_jsonl(tmp_path / "x.jsonl", [r | {"subtask": s} for r, s in zip(query_records[:3], "aab", strict=True)])
    y = write_jsonl(tmp_path / "y.jsonl", [r | {"subtask": "a"} for r in query_records[3:5]])
    chosen = handpick.select(
        **settings | {"target": {"x": x, "y": y}, "split": "shared", "balanced": True, "budget": 9}
    )
    ids = [r["id"] for r in query_records[:5]]
    assert chosen.picked_for == [ids[i] for i in (0, 2, 3, 1, 2, 4, 0, 2, 3)]


def test_balanced_needs_two_subtasks_within_a_budget(
    settings: Given, files: tuple[Path, Path], tmp_path: Path, query_records: list[dict[str, Any]]
) -> None:
    """One subtask a target is nothing to balance while each has its own budget; with two in one of them it is."""
    with pytest.raises(SettingsError, match="balanced counts every subtask of the queries the same"):
        handpick.select(**settings | {"balanced": True})
    x = write_jsonl(tmp_path / "x.jsonl", [r | {"subtask": s} for r, s in zip(query_records[:3], "aab", strict=True)])
    chosen = handpick.select(**settings | {"target": {"x": x, "y": files[1]}, "balanced": True, "budget": 6})
    assert chosen.picked_for[::2] == [query_records[i]["id"] for i in (0, 2, 1)]


def test_with_constraints(settings: Given, orders: tuple[list[str], list[str]], tmp_path: Path) -> None:
    first = orders[0][-1]
    (tmp_path / "always.txt").write_text(first)
    chosen = handpick.select(**settings | {"always": str(tmp_path / "always.txt")})
    assert chosen.ids == [first, *taking_turns(orders, [0, 1] * 5)[:9]]
    assert chosen.picked_for[0] is None


def test_a_target_whose_queries_cannot_be_used_is_named(
    settings: Given, files: tuple[Path, Path], tmp_path: Path
) -> None:
    mute = write_jsonl(tmp_path / "mute.jsonl", [{"id": "p", "prompt": "2+2?"}])
    with pytest.raises(DataError, match=r"no query of the target 'mute' can be used: they are in quarantine-"):
        handpick.select(**settings | {"target": {"x": files[0], "mute": mute}})
    (entry,) = map(json.loads, Path(settings["out"], "quarantine-query.jsonl").read_text().splitlines())
    assert entry["id"] == "p"


def test_bad_records_of_any_target_stay_in_the_quarantine(
    settings: Given, files: tuple[Path, Path], tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    x = tmp_path / "x.jsonl"
    x.write_text("{\n" + files[0].read_text())
    handpick.select(**settings | {"target": {"x": x, "y": files[1]}, "out": out})
    quarantine = Path(out, "quarantine-query.jsonl")
    said = capsys.readouterr().err.replace("\n", "")
    assert f"1 record set aside (1 malformed JSON): {quarantine}".replace(" ", "") in said.replace(" ", "")
    (entry,) = map(json.loads, quarantine.read_text().splitlines())
    assert (entry["file"], entry["line"]) == (str(x), 1)


def test_a_target_without_a_readable_record_is_named(
    settings: Given, files: tuple[Path, Path], tmp_path: Path, out: str
) -> None:
    (tmp_path / "bad.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"no query of the target 'y' can be used: no record of .*bad\.jsonl can be"):
        handpick.select(**settings | {"target": {"x": files[0], "y": tmp_path / "bad.jsonl"}, "out": out})
    assert Path(out, "quarantine-query.jsonl").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": "q.jsonl"}, "give either --query, for one task, or --target NAME=FILE for each of several"),
        ({"split": "weight"}, "--split weight needs a --target-weight x=NUMBER"),
        ({"split": "weight", "target_weight": {"x": 1}}, "needs a --target-weight y=NUMBER: every target has one"),
        ({"split": "weight", "target_weight": {"x": 1, "y": 1, "z": 1}}, "names 'z'; the targets are x, y"),
        ({"split": "weight", "target_weight": {"x": 1, "y": 0}}, "the target_weight of 'y' is 0"),
        ({"split": "weight", "target_weight": {"x": 1, "y": -1}}, "greater than or equal to 0"),
        ({"target_weight": {"x": 1, "y": 1}}, "--target-weight is for --split weight: say that too"),
        ({"method": "gist"}, "gist takes all queries together: use --split shared"),
        ({"method": "dsir"}, "dsir takes all queries together: use --split shared"),
        ({"target": 3}, "target should be NAME=FILE, not 3"),
        ({"target": ["x"]}, "target should be NAME=FILE"),
        ({"target_weight": 3}, "target_weight should be NAME=NUMBER, not 3"),
        ({"max_share": "a"}, "max_share should be NAME=NUMBER, not 'a'"),
    ],
)
def test_what_contradicts_is_refused(change: Given, message: str, settings: Given) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings(settings | change)


def test_flags_name_them_as_a_mapping_does() -> None:
    flags = parse_settings(
        {"target": ["x=a.jsonl", "y=b=c.jsonl", "x=d.jsonl"], "split": "weight", "target_weight": ["x=2", "y=1"]}
    )
    assert flags.target == {"x": ["a.jsonl", "d.jsonl"], "y": ["b=c.jsonl"]}
    assert flags.target_weight == {"x": 2, "y": 1}
    assert flags.folder == Path("runs/x-y")
