"""Each warning fires where it should, and is silent where it should be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick.reporting.checks import checks
from handpick.reporting.run_folder import open_run, overlap_of
from handpick.reporting.thresholds import THRESHOLDS, SelectionCheck
from handpick.sealed import seal, unseal
from handpick.selection import Selection
from tests.conftest import write_jsonl
from tests.reporting.conftest import record

Choose = Callable[..., Path]


def check(folder: Path, name: str, tests: list[str] | None = None) -> SelectionCheck:
    (found,) = (each for each in checks(open_run(folder), tests or []) if each.name == name)
    return found


def rescored(folder: Path, scores: list[float]) -> Path:
    """The same selection with other scores."""
    path = folder / "selection.json"
    path.write_text(json.dumps(seal(unseal(json.loads(path.read_text())) | {"scores": scores})))
    return folder


@pytest.mark.parametrize(("length", "state"), [(9, "warn"), (10, "fine"), (20, "fine"), (40, "fine"), (41, "warn")])
def test_length(chosen_from: Choose, length: int, state: str) -> None:
    near = [record(n, f"apple {n}", "x" * length) for n in range(3)]
    far = [record(10 + n, f"pear {n}", "y" * 20) for n in range(20)]
    found = check(chosen_from(near + far, [record(99, "apple", "b")], budget=3), "Length of the responses")
    assert found.state == state
    assert f"{length} characters among the chosen and 20 in the pool" in found.said
    assert "2" in found.said
    assert "0.5" in found.said


@pytest.mark.parametrize(("of_one", "state"), [(8, "warn"), (7, "fine")])
def test_one_source(chosen_from: Choose, of_one: int, state: str) -> None:
    pool = [record(n, f"apple {n}", f"a{n}", source="a" if n < of_one else "b") for n in range(10)]
    found = check(chosen_from(pool, [record(99, "apple", "b")]), "Sources")
    assert found.state == state
    assert f"{of_one}0.0% of the picks come from “a”" in found.said
    assert "80%" in found.said


def test_a_pool_of_one_source_is_no_warning(chosen_from: Choose) -> None:
    pool = [record(n, f"apple {n}", f"a{n}", source="a") for n in range(10)]
    assert check(chosen_from(pool, [record(99, "apple", "b")]), "Sources").state == "fine"


@pytest.mark.parametrize(
    ("scores", "state"),
    [([1.0, 1.005, 1.0], "warn"), ([0.0] * 3, "warn"), ([-1, -1.02, -1.0], "fine"), ([1, 2, 3], "fine")],
)
def test_scores(chosen_from: Choose, scores: list[float], state: str) -> None:
    folder = chosen_from([record(n, f"apple {n}", f"a{n}") for n in range(3)], [record(99, "apple", "b")])
    found = check(rescored(folder, scores), "Spread of the scores")
    assert found.state == state
    assert "1%" in found.said


def test_a_random_draw_has_no_scores(chosen_from: Choose) -> None:
    pool = [record(n, f"apple {n}", f"a{n}") for n in range(3)]
    found = check(chosen_from(pool, [record(99, "apple", "b")], method="random"), "Spread of the scores")
    assert found.state == "open"


@pytest.mark.parametrize(("served", "state"), [(1, "warn"), (2, "fine"), (4, "fine")])
def test_queries_served(chosen_from: Choose, served: int, state: str) -> None:
    words = ["apple", "pear", "plum", "fig"]
    pool = [record(n, words[n], f"a{n}") for n in range(4)]
    folder = chosen_from(pool, [record(10 + n, word, "b") for n, word in enumerate(words)])
    path = folder / "selection.json"
    picked_for = [f"r{10 + n % served}" for n in range(4)]
    path.write_text(json.dumps(seal(unseal(json.loads(path.read_text())) | {"picked_for": picked_for})))
    found = check(folder, "Queries served")
    assert found.state == state
    assert f"{served} of 4 queries have a pick" in found.said
    assert "50%" in found.said


def test_fewer_picks_than_queries_is_no_fault_of_theirs(chosen_from: Choose) -> None:
    pool = [record(n, f"apple {n}", f"a{n}") for n in range(3)]
    queries = [record(10 + n, "apple", "b") for n in range(9)]
    found = check(chosen_from(pool, queries, budget=1), "Queries served")
    assert found.state == "fine"
    assert "1 of 9 queries have a pick, where 1 picks could serve 1" in found.said


@pytest.mark.parametrize(("same", "state"), [(5, "warn"), (4, "fine")])
def test_answers(chosen_from: Choose, same: int, state: str) -> None:
    pool = [record(n, f"apple {n}", " true" if n < same else f"false {n}") for n in range(10)]
    found = check(chosen_from(pool, [record(99, "apple", "b")]), "Answers")
    assert found.state == state
    assert f"{same}0.0% of the picks have the very same response, “true”" in found.said
    assert "50%" in found.said


@pytest.mark.parametrize(("bad", "state"), [(2, "warn"), (1, "fine")])
def test_set_aside(chosen_from: Choose, bad: int, state: str) -> None:
    pool = [record(n, f"apple {n}", "" if n < bad else f"a{n}") for n in range(20)]
    found = check(chosen_from(pool, [record(99, "apple", "b")], budget=5), "Records set aside")
    assert found.state == state
    assert f"{bad} of the pool's records" in found.said
    assert "10%" in found.said


def test_records_that_could_not_be_read_are_part_of_the_pool_they_were_set_aside_from(tmp_path: Path) -> None:
    lines = [json.dumps(record(n, f"apple {n}", "" if n < 2 else f"a{n}")) for n in range(30)] + ["{bad"] * 70
    (tmp_path / "p.jsonl").write_text("\n".join([*lines, lines[5]]))
    query = write_jsonl(tmp_path / "q.jsonl", [record(99, "apple", "b")])
    handpick.select(str(tmp_path / "p.jsonl"), str(query), method="bm25", budget=5, out=str(tmp_path / "run"))
    said = check(tmp_path / "run", "Records set aside").said
    assert "73 of the pool's records (72.3%) and 0 of the queries' records (0.0%)" in said  # of 101, one of them twice


def test_a_source_without_a_name_is_its_file(chosen_from: Choose) -> None:
    pool = [record(n, f"apple {n}", f"a{n}", source="" if n % 2 else "tree") for n in range(10)]
    run = open_run(chosen_from(pool, [record(99, "apple", "b")], budget=10))
    assert run.pool is not None
    assert {source for source, _ in run.pool.kinds} == {pick.source for pick in run.picks} == {"tree", "p"}


QUESTION = "how many green apples does the old gardener carry home in the evening"


def test_overlap_is_looked_for_among_the_picks(chosen_from: Choose, tmp_path: Path) -> None:
    pool = [record(0, QUESTION, "seven"), record(1, "how many pears are there in a basket of twelve", "twelve")]
    folder = chosen_from(pool, [record(99, "how many", "b")])
    assert check(folder, "Overlap with a test set").state == "open"
    before = sorted(path.name for path in folder.iterdir())
    leak = write_jsonl(tmp_path / "leak.jsonl", [record(5, QUESTION + "?", "7")])
    found = check(folder, "Overlap with a test set", [str(leak)])
    assert found.state == "warn"
    assert "1 of 2 picks repeat a test item" in found.said
    assert "“r0”: 100.0% of the words of “r5”" in found.said
    other = record(5, "which wide river flows past the city of the seven hills", "7")
    clean = write_jsonl(tmp_path / "clean.jsonl", [other])
    assert check(folder, "Overlap with a test set", [str(clean)]).state == "fine"
    assert sorted(path.name for path in folder.iterdir()) == before
    path = folder / "selection.json"  # a record that is named by its content may have another name when read alone
    renamed = json.loads(path.read_text().replace('"r0"', '"its-name-in-the-pool"'))
    del renamed["digest"]
    path.write_text(json.dumps(renamed))
    found, _ = overlap_of(open_run(folder), [str(leak)])
    assert found == {"its-name-in-the-pool": ("r5", 1.0)}


def test_overlap_of_the_run_itself(chosen_from: Choose) -> None:
    folder = chosen_from([record(0, "apple", "a"), record(1, "apple pie", "b")], [record(99, "apple", "b")])
    found = {"id": "elsewhere", "repeats": "t1", "share": 0.9}
    (folder / "overlap.jsonl").write_text(json.dumps(found) + "\n")
    assert check(folder, "Overlap with a test set").state == "fine"
    (folder / "overlap.jsonl").write_text(json.dumps(found | {"id": Selection.open(folder).ids[0]}) + "\n")
    assert check(folder, "Overlap with a test set").state == "warn"


def test_warnings_come_first(by_words: Path) -> None:
    states = [each.state for each in checks(open_run(by_words))]
    assert states == sorted(states, key=["warn", "open", "fine"].index)
    assert len(states) == 7


def test_the_thresholds_can_be_read_in_one_place() -> None:
    assert vars(THRESHOLDS) == {
        "length_ratio": 2.0, "source_share": 0.8, "score_spread": 0.01, "queries_served": 0.5, "same_answer": 0.5,
        "set_aside": 0.1, "recall": 0.8, "flipped": 0.2, "no_verdict": 0.1, "one_kind": 0.95, "auc": 0.6,
    }  # fmt: skip


def test_a_pool_that_is_gone_leaves_checks_open(chosen_from: Choose, tmp_path: Path) -> None:
    folder = chosen_from([record(n, f"apple {n}", f"a{n}", source="s") for n in range(3)], [record(9, "apple", "b")])
    (tmp_path / "p.jsonl").unlink()
    found: dict[str, Any] = {each.name: each.state for each in checks(open_run(folder))}
    assert found["Length of the responses"] == found["Sources"] == found["Records set aside"] == "open"
