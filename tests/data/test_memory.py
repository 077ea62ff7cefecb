"""Records handed over in Python: read as the lines that they would be in a file, under a name that content gives."""

import gc
import json
import os
import pickle
import subprocess
import sys
from collections import UserDict
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import datasets
import pytest

from handpick.data.memory import hold_records
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError
from handpick.in_memory import is_in_memory, named_in_memory

OpenPool = Callable[..., Pool]


@pytest.fixture
def open_pool(tmp_path: Path) -> OpenPool:
    def open_(*sources: Any) -> Pool:
        return Pool.open(list(sources), cache=tmp_path / "cache", quarantine=Quarantine(tmp_path / "quarantine.jsonl"))

    return open_


def record(content: str = "Hi", **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": content}, {"role": "assistant", "content": "Hello"}]
    return {**fields, "messages": turns}


def reasons(tmp_path: Path) -> dict[int, str]:
    lines = (tmp_path / "quarantine.jsonl").read_text().splitlines()
    return {entry["line"]: entry["reason"] for entry in map(json.loads, lines)}


RECORDS = [record("Hi", id="a", source="s"), record("Ho", id="b"), record("He", id="a"), record("Hu")]


def content(pool: Pool) -> list[Any]:
    """All that a pool tells of its rows."""
    rows = range(len(pool))
    return [pool.ids(), pool.examples(0, len(pool)), [pool.raw(row) for row in rows], pool.column("source")]


def test_a_list_a_dataset_and_a_file_of_the_same_lines_are_the_same_pool(tmp_path: Path, open_pool: OpenPool) -> None:
    whole = [{"source": None, "id": f"r{i}", **each} for i, each in enumerate(RECORDS)]
    file = tmp_path / "memory.jsonl"
    file.write_text("".join(json.dumps(each, separators=(",", ":")) + "\n" for each in whole))
    held = [hold_records(rows, "pool") for rows in (whole, datasets.Dataset.from_list(whole))]

    of_file, of_list, of_dataset = (open_pool(name) for name in (file, held[0].name, held[1].name))

    assert content(of_list) == content(of_dataset) == content(of_file)
    assert of_list.files[0].sha256 == of_file.files[0].sha256
    assert of_list.ids() == ["a", "b", "r3"]
    assert reasons(tmp_path) == {3: f"id seen before: at line 1 of {held[1].name}"}
    assert of_list.location(2) == (held[0].name, 4)
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 1  # parsed once


def test_a_name_says_what_it_is_and_equal_content_has_one(open_pool: OpenPool) -> None:
    first, second = hold_records(RECORDS, "pool"), hold_records([dict(each) for each in RECORDS], "pool")
    assert second is first
    assert is_in_memory(first.name)
    assert first.name == f"memory:pool-{first.sha256()[:16]}"
    assert hold_records(RECORDS, "query").name == first.name.replace("pool", "query")
    assert hold_records(RECORDS[:3], "pool").name != first.name


def test_each_element_is_read_as_the_json_that_it_would_be(tmp_path: Path, open_pool: OpenPool) -> None:
    turns = tuple(record()["messages"])
    dated = record(id="dated", when=date(2026, 1, 2), score=float("nan"))
    rows = [UserDict(id="mapping", messages=turns), dated, record(id="é")]
    held = hold_records(rows, "pool")  # type: ignore[arg-type]
    pool = open_pool(held.name)
    assert pool.ids() == ["mapping", "dated", "é"]
    assert pool.raw(1).startswith(b'{"id":"dated","when":"2026-01-02","score":null,"messages":[')


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("text", "not an object: the element is a str"),
        (None, "not an object: the element is a NoneType"),
        ([record()], "not an object: the element is a list"),
        (record() | {1: 2}, "a field's name is no text: 1"),
        (record(score=object()), "malformed JSON: a value of type object has no JSON form"),
        (record("\ud800"), "not text: a string holds bytes that are not UTF-8, or half of a surrogate pair"),
        ({"id": "x"}, "no known shape: the record has the fields id"),
    ],
)
def test_a_bad_element_is_set_aside_as_a_bad_line_is(
    tmp_path: Path, open_pool: OpenPool, bad: Any, reason: str
) -> None:
    held = hold_records([record("one"), bad, record("two")], "pool")
    pool = open_pool(held.name)
    assert [pool.location(row) for row in range(len(pool))] == [(held.name, 1), (held.name, 3)]
    assert reasons(tmp_path)[2].startswith(reason)


def test_what_nobody_holds_is_found_parsed_or_asked_for_again(tmp_path: Path, open_pool: OpenPool) -> None:
    held = hold_records(RECORDS, "pool")
    name, before = held.name, content(open_pool(held.name))
    del held
    gc.collect()

    assert content(open_pool(name)) == before
    assert open_pool(name).location(0) == (name, 1)
    with pytest.raises(DataError, match=r"^memory:pool-0123 was handed over in Python, and .*cache does not have it "):
        open_pool("memory:pool-0123")


def test_a_list_may_change_once_it_is_held(open_pool: OpenPool) -> None:
    rows = [*RECORDS]
    held = hold_records(rows, "pool")
    rows.clear()
    assert len(open_pool(held.name)) == 3


def test_a_pool_reopens_in_another_process_from_its_tables_alone(
    tmp_path: Path, open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file.jsonl"
    file.write_text("".join(json.dumps(record(f"{i}", id=f"f{i}")) + "\n" for i in range(2000)))
    held = hold_records([*RECORDS, record("Hu"), record("x" * 100_000)], "pool")
    relative = Path("cache")
    pool = Pool.open([held.name, file], cache=relative, quarantine=Quarantine(tmp_path / "quarantine.jsonl"))

    pickled = pickle.dumps(pool)

    assert len(pickled) < 1000  # the records stay where they are
    code = (
        "import pickle, sys\n"
        "pool = pickle.load(sys.stdin.buffer)\n"
        "rows = range(len(pool))\n"
        "found = [pool.ids(), pool.examples(0, len(pool)), [pool.raw(row) for row in rows], pool.column('source'),\n"
        "         [pool.location(row) for row in rows], pool.files]\n"
        "sys.stdout.buffer.write(pickle.dumps(found))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=pickled, env=dict(os.environ), cwd="/", capture_output=True, check=True
    )
    there = [*content(pool), [pool.location(row) for row in range(len(pool))], pool.files]
    assert pickle.loads(run.stdout) == there
    assert len(reasons(tmp_path)) == 1  # and nothing is set aside twice


def test_a_pool_whose_tables_are_gone_says_so(tmp_path: Path, open_pool: OpenPool) -> None:
    held = hold_records(RECORDS, "pool")
    pickled = pickle.dumps(open_pool(held.name))
    for table in (tmp_path / "cache").glob("*.arrow"):
        table.unlink()
    with pytest.raises(DataError, match=r"^the parsed records of memory:pool-\w+, .*\.arrow, are gone: run again"):
        pickle.loads(pickled)


def test_settings_that_name_memory_are_found_wherever_they_name_it() -> None:
    settings = {
        "pool": ["memory:pool-1", "a.jsonl"], "query": ["b.jsonl"], "model": "memory:model-2", "seed": 0,
        "target": {"x": ["memory:target-3"]}, "max_share": {"memory": 0.5},
    }  # fmt: skip
    assert named_in_memory(settings) == ["pool", "model", "target"]
