"""How a user has records read: settings, the cache, and what makes a pool another one."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from handpick.data.memory import hold_records
from handpick.data.own_record import record_of
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import TABLE_ALONE, Reading, ReadingSettings, check_columns, reading_of
from handpick.errors import DataError, SettingsError
from handpick.flag_names import parse_settings
from tests.conftest import write_jsonl

OWN = ReadingSettings(columns={"prompt": "q", "response": "a"}).reading


@pytest.mark.parametrize(
    "given",
    [
        "prompt=q,response=a",
        ["prompt=q", "response=a"],
        [" prompt = q , response=a "],
        {"prompt": "q", "response": "a"},
    ],
)
def test_columns_are_named_by_flags_or_a_mapping(given: Any) -> None:
    settings = parse_settings(ReadingSettings, {"columns": given})
    assert settings.reading == OWN
    assert reading_of(settings.model_dump() | {"method": "random"}) == OWN
    assert reading_of({}) == TABLE_ALONE == ReadingSettings().reading


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ("q", "should be ROLE=COLUMN"),
        ("prompt=", "should be ROLE=COLUMN"),
        ("question=q", "should name roles among prompt, response"),
        ("prompt=a,prompt=b", "should name each role once"),
        ("response=a", "should say which column is the text, the messages, the prompt, the chosen"),
        ("text=t,prompt=q", "should not name prompt beside text"),
        ("messages=m,response=a", "should not name response beside messages"),
        ("prompt=q,chosen=c", "should name rejected too"),
        ("prompt=q,label=l", "should name response too"),
        ("response=a,id=i", "should say which column is the text"),
        ("response=a,source=s", "should say which column is the text"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(columns: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"--columns {complaint}"):
        parse_settings(ReadingSettings, {"columns": columns})


def test_readings_are_told_apart_and_the_plain_one_has_no_key() -> None:
    keys = [
        TABLE_ALONE.key,
        OWN.key,
        Reading(rounds_weights=True).key,
        ReadingSettings(columns={"prompt": "a", "response": "q"}).reading.key,
    ]
    assert keys[0] == ""
    assert len(set(keys)) == 4
    assert ReadingSettings(columns={"response": "a", "prompt": "q"}).reading.key == OWN.key


def test_a_source_may_stand_in_any_column(tmp_path: Path, quarantine: Quarantine) -> None:
    turns = {"prompt": "Hi", "response": "Ho"}
    records = [
        turns | {"set": "a", "source": "own", "meta": {"set": "x"}},
        turns | {"set": 7, "meta.set": "y"},
        turns | {"set": "", "source": "own", "meta": {"set": None}},
        turns | {"set": None, "meta": "z"},
        turns | {"set": ["a"], "meta": {"set": 1}},
    ]
    path = tmp_path / "file.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))

    def sources(**columns: str) -> list[str | None]:
        reading = ReadingSettings(columns=columns).reading
        pool = Pool.open(path, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)
        check_columns(reading, [pool.columns])
        assert [each.source for each in pool.examples(0, len(pool))] == pool.column("source")
        return pool.column("source")

    assert sources() == ["own", "file", "own", "file", "file"]
    assert sources(source="set") == ["a", "7", "own", "file"]
    assert quarantine.kinds == {"no source": 1}
    assert sources(source="meta.set", prompt="prompt", response="response") == ["x", "y", "own", "file", "1"]
    with pytest.raises(DataError, match=r"no record has the column 'meta.no', which --columns takes for the source"):
        sources(source="meta.no")


def _written(container: str, folder: Path, records: list[dict[str, Any]]) -> Any:
    """Return the records in a container; the cells of a CSV file are text, and none is an object."""
    lines = [json.dumps(record) for record in records]
    cells = [f"{record['prompt']},{record['response']},{record['uid']}" for record in records]
    path = folder / f"a.{container}"
    match container:
        case "jsonl":
            path.write_text("\n".join(lines))
        case "json":
            path.write_text(f"[{', '.join(lines)}]")
        case "csv":
            path.write_text("\n".join(["prompt,response,uid", *cells]))
        case "parquet":
            pq.write_table(pa.Table.from_pylist(records), path)
        case "arrow":
            with pa.ipc.new_file(str(path), (table := pa.Table.from_pylist(records)).schema) as file:
                file.write_table(table)
        case "a saved folder":
            Dataset.from_list(records).save_to_disk(folder)
            return folder
        case "a Dataset":
            return Dataset.from_list(records)
        case "a list":
            return records
    return folder if container == "json" else path  # a plain folder, too


@pytest.mark.parametrize(
    "container", ["jsonl", "json", "csv", "parquet", "arrow", "a saved folder", "a Dataset", "a list"]
)
def test_an_id_may_stand_in_any_column_of_any_container(container: str, tmp_path: Path, quarantine: Quarantine) -> None:
    records = [
        {"id": 9, "prompt": "Hi", "response": f"Ho {n}", "uid": 7 + n, "meta": {"uid": f"m{n}"}} for n in range(2)
    ]
    (tmp_path / "data").mkdir()
    held = source = _written(container, tmp_path / "data", records)
    if not isinstance(source, Path):
        held = hold_records(source, "pool")
        source = held.name

    def ids(**columns: str) -> list[str]:
        reading = ReadingSettings(columns=columns).reading
        pool = Pool.open(source, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)
        check_columns(reading, [pool.columns])
        assert [each.id for each in pool.examples(0, len(pool))] == pool.ids() == pickle.loads(pickle.dumps(pool)).ids()
        return pool.ids()

    assert ids(id="uid") == ids(prompt="prompt", response="response", id="uid") == ["7", "8"]
    assert container == "csv" or ids(id="meta.uid", source="meta.uid") == ["m0", "m1"]
    assert not quarantine.kinds


def test_an_id_that_is_not_there_is_as_without_the_column(
    tmp_path: Path, quarantine: Quarantine, open_pool: Callable[..., Pool]
) -> None:
    turns = {"prompt": "Hi", "response": "Ho"}
    path = write_jsonl(
        tmp_path / "a.jsonl",
        [
            turns | {"id": "own", "uid": "a"},
            turns | {"id": "own"},
            turns | {"uid": ""},
            turns | {"uid": ["b"], "id": "own 2"},
            turns | {"uid": "a"},
        ],
    )
    reading = ReadingSettings(columns={"id": "uid"}).reading
    pool = Pool.open(path, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)
    by_content = open_pool(write_jsonl(tmp_path / "b.jsonl", [turns])).ids()
    assert pool.ids() == ["a", "own", *by_content]
    entries = [json.loads(line) for line in quarantine.path.read_text().splitlines()]
    assert [(each["line"], each["id"], each["reason"]) for each in entries] == [
        (4, None, "unusable id: `uid` is a list, not text or a whole number"),
        (5, "a", f"id seen before: at line 1 of {path}"),
    ]


def test_numbers_of_such_a_column_may_count_within_their_file(tmp_path: Path, quarantine: Quarantine) -> None:
    paths = [
        write_jsonl(tmp_path / f"{file}.jsonl", [{"id": file, "prompt": "Hi", "response": f"Ho {file}", "n": 1}])
        for file in "ab"
    ]
    reading = ReadingSettings(columns={"id": "n"}).reading
    pool = Pool.open(paths, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)
    assert pool.ids() == ["1", "b/1"]
    assert not quarantine.kinds


def test_a_field_of_an_object_may_be_a_column(tmp_path: Path, quarantine: Quarantine) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text('{"data": {"q": "Hi", "a": {"text": "Ho"}}}\n{"messages": [{"role": "user", "content": "x"}]}\n')
    reading = ReadingSettings(columns={"prompt": "data.q", "response": "data.a.text"}).reading
    pool = Pool.open(path, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)
    check_columns(reading, [pool.columns])
    assert [[turn.content for turn in each.messages] for each in pool.examples(0, 2)] == [["Hi", "Ho"], ["x"]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    records = [{"q": "Hi", "a": "Hello", "question": "x", "answer": "y"}, {"prompt": "Hi", "response": "Ho", "c": 1}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_another_reading_is_another_pool_in_the_same_cache(file: Path, tmp_path: Path, quarantine: Quarantine) -> None:
    def open_(reading: Reading) -> Pool:
        return Pool.open(file, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)

    plain, own = open_(TABLE_ALONE), open_(OWN)
    for _ in range(2):  # the second time from the cache
        assert [each.messages[-1].content for each in plain.examples(0, 2)] == ["y", "Ho"]
        assert [each.messages[-1].content for each in own.examples(0, 2)] == ["Hello", "Ho"]
        assert plain.files[0].sha256 != own.files[0].sha256
        assert (plain.columns, own.columns) == (
            {},
            {"q": 1, "a": 1, "question": 1, "answer": 1, "prompt": 1, "response": 1, "c": 1},
        )
        plain, own = open_(TABLE_ALONE), open_(OWN)
    assert own.raw(0) + b"\n" + own.raw(1) + b"\n" == file.read_bytes()


def test_a_column_that_no_record_has_is_refused(file: Path, tmp_path: Path, quarantine: Quarantine) -> None:
    reading = ReadingSettings(columns={"prompt": "q", "response": "reply"}).reading
    pool = Pool.open(file, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)
    with pytest.raises(
        DataError, match="no record has the column 'reply', which --columns takes for the response; there"
    ):
        check_columns(reading, [pool.columns])
    check_columns(reading, [pool.columns, {"reply": 1}])  # the queries have it
    file.write_text('{"q": "Hi", "a": "Hello"}\n')
    with pytest.raises(DataError, match="no record has the column 'reply'"):  # before it is said that none is usable
        Pool.open(file, cache=tmp_path / "cache", quarantine=quarantine, reading=reading)


def test_a_reference_is_found_in_columns_of_ones_own(file: Path, tmp_path: Path, quarantine: Quarantine) -> None:
    pool = Pool.open(file, cache=tmp_path / "cache", quarantine=quarantine, reading=OWN)
    fields = json.loads(pool.raw(0))
    assert record_of(pool[0]) == fields | {
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    }
    assert record_of(pool[1]) == json.loads(pool.raw(1))  # by the table: as it came


def test_a_document_stays_one(tmp_path: Path, open_pool: Callable[..., Pool], quarantine: Quarantine) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text('{"text": "Once."}\n')
    pool = Pool.open(
        path, cache=tmp_path / "c", quarantine=quarantine, reading=ReadingSettings(columns={"text": "text"}).reading
    )
    assert pool[0].messages.document
    with pytest.raises(DataError, match=r"no usable record .*1 bare text"):
        open_pool(path)
