"""How a user has records read: settings, the cache, and what makes a pool another one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick.data.own_record import record_of
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import TABLE_ALONE, Reading, ReadingSettings, check_columns, reading_of
from handpick.errors import DataError, SettingsError
from handpick.flag_names import parse_settings

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
