"""JSON that is not a record a line: whatever is valid is read or refused by what it is, and never malformed."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from handpick.data.read import BadRecord, RawRecord, open_source
from handpick.errors import DataError
from tests.data.containers.reading import fields, read, reasons

RECORDS: list[dict[str, Any]] = [{"input": f"é{i}", "output": "yes", "prompt": "p", "completion": "c"} for i in (0, 1)]
TURNS = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CHATS: list[dict[str, Any]] = [{"id": i, "messages": TURNS} for i in (0, 1)]
INDENTS = pytest.mark.parametrize("indent", [None, 2])


def write(path: Path, value: object, indent: int | None = None) -> Path:
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")
    return path


@INDENTS
@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"type": "text2text", "instances": RECORDS}, "instances"),
        ({"version": "v2.0", "data": RECORDS}, "data"),
        ({"train": CHATS}, "train"),
        ({"train": CHATS, "n": 2, "tags": ["a", "b"], "empty": [], "meta": {"x": [{"a": 1}]}}, "train"),
        ({"columns": [{"name": "a"}], "rows": CHATS}, "rows"),  # the only list whose elements are records
        ({"conversations": CHATS}, "conversations"),  # the name of a shape's field, and no turns in it
    ],
)
def test_one_object_around_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: dict[str, Any], field: str, indent: int | None
) -> None:
    path = write(tmp_path / "pool.json", value, indent)
    assert fields(path) == value[field]
    assert capsys.readouterr().err == f"{path}: one JSON object, whose records are the list {field!r}\n"
    lines = [record.line for record in read(path)]
    assert lines == sorted(lines)
    assert (lines == [1, 1]) is (indent is None)


def test_records_of_one_object_have_the_lines_they_begin_on(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n"version": 1,\n"data": [\n{"a": 1},\n3,\n{"a": "\\ud83d"},\n{"a": 2}]\n}')
    records = read(tmp_path / "a.json")
    assert [(record.line, record.raw) for record in records if isinstance(record, RawRecord)] == [
        (4, b'{"a":1}'), (7, b'{"a":2}'),
    ]  # fmt: skip
    assert {r.line: r.reason.partition(":")[0] for r in records if isinstance(r, BadRecord)} == {
        5: "not an object", 6: "not text",
    }  # fmt: skip


@INDENTS
def test_an_object_with_several_lists_of_records_is_refused_by_their_names(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path / "a.json", {"train": CHATS, "test": CHATS, "n": 1}, indent)
    with pytest.raises(DataError, match=r"2 of its lists could hold the records: train, test; name one, as .*a.json:t"):
        read(path)
    assert fields(f"{path}:test") == CHATS
    with pytest.raises(DataError, match=r"has no list 'dev'; its lists are train, test"):
        read(f"{path}:dev")


@INDENTS
def test_an_object_in_an_object_around_the_records(tmp_path: Path, indent: int | None) -> None:
    path = write(tmp_path / "a.json", {"n": 1, "data": {"info": [{"x": 1}], "train": CHATS}}, indent)
    assert fields(path) == fields(f"{path}:data.train") == CHATS
    path = write(tmp_path / "b.json", {"data": {"train": CHATS, "test": CHATS[:1]}}, indent)
    with pytest.raises(DataError, match=r"could hold the records: data.train, data.test; name one, as .*:data.tr"):
        read(path)
    assert fields(f"{path}:data.test") == CHATS[:1]


def test_a_field_that_was_named_decides_what_is_parsed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", {"train": CHATS, "test": CHATS[:1]})
    one, other = (open_source(f"{path}:{field}")[0] for field in ("train", "test"))
    assert one.sha256() != other.sha256()
    assert (one.name, one.stem) == (f"{path}:train", "a")
    assert len(list(other.records())) == 1


def test_fields_are_of_json_objects_alone(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(DataError, match=r"a.jsonl is JSON Lines and has no fields to choose from, and 'train' was"):
        read(f"{tmp_path}/a.jsonl:train")
    write(tmp_path / "b.json", CHATS, 1)
    with pytest.raises(DataError, match=r"b.json is a list of records and has no field 'train'"):
        read(f"{tmp_path}/b.json:train")


def test_records_by_their_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.json", {"x": CHATS[0], "y": CHATS[1]}, 2)
    assert fields(path) == CHATS
    assert "whose records are the values of its 2 fields" in capsys.readouterr().err
    assert [record.line for record in read(path)] == [2, 15]


@pytest.mark.parametrize(
    "record",
    [
        {"system": [{"text": "s"}], "messages": TURNS},  # Bedrock's: a text is a record too, elsewhere
        {"messages": TURNS, "tools": [{"name": "f", "prompt": "p", "completion": "c"}]},
        CHATS[0],
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "tools": [{"name": "f"}]},
        {"prompt": [{"role": "user", "content": "q"}], "chosen": TURNS, "rejected": []},
        {"instruction": "q", "output": "a", "evidence": [{"title": "t"}]},
        {"messages": [{"role": "nobody", "content": "q"}]},  # a bad one is one too
    ],
)
def test_one_lone_record(tmp_path: Path, record: dict[str, Any]) -> None:
    assert fields(write(tmp_path / "a.json", record, 4)) == [record]
    (only,) = read(write(tmp_path / "b.json", record))
    assert only.raw == (tmp_path / "b.json").read_bytes()  # a line's very bytes


def test_an_object_without_records_is_shortly_said(tmp_path: Path) -> None:
    for indent in (None, 1):
        path = write(tmp_path / "a.json", {f"k{i}": i for i in range(5000)}, indent)
        assert reasons(path) == {
            1: "no known shape: one object, no field of which (k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 and 4,990 more) "
            "is a list of records"
        }


def test_objects_behind_each_other_over_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("\n".join(json.dumps(record, indent=2) for record in CHATS) + "\n")
    assert fields(path) == CHATS
    assert [record.line for record in read(path)] == [1, 14]
    path.write_text(path.read_text() + '{\n"messages": [')
    assert list(reasons(path)) == [27]


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_an_object_that_is_cut_off_gives_what_is_there(tmp_path: Path, compress: Any) -> None:
    whole = json.dumps({"type": "chat", "instances": CHATS}, indent=1)
    (tmp_path / "a.json").write_bytes(compress(whole[: whole.rindex('"id"') + 5].encode()))
    records = read(tmp_path / "a.json")
    assert [type(record) for record in records] == [RawRecord, BadRecord]
    assert isinstance(records[1], BadRecord)
    assert records[1].reason.startswith("malformed JSON: the array cannot be read past here")


def test_json_lines_with_a_bad_first_line_stay_json_lines(tmp_path: Path) -> None:
    good = [json.dumps(record).encode() for record in CHATS]
    for first in (b'{"messages": [', b'{"a": {"b": 1},', b"{", b'{"prompt": "x', b"[", b"{'a': 1}"):
        (tmp_path / "a.jsonl").write_bytes(b"\n".join([first, *good]) + b"\n")
        records = read(tmp_path / "a.jsonl")
        kept = [record.raw for record in records if isinstance(record, RawRecord)]
        if first == b"[":  # may as well be an array without commas, which readers have taken
            assert [json.loads(raw) for raw in kept] == CHATS
        else:
            assert kept == good, first
            assert reasons(tmp_path / "a.jsonl")[1].startswith("malformed JSON")


def test_json_lines_keep_their_bytes_whatever_shape(tmp_path: Path) -> None:
    lines = [b'{"data": [{"prompt": "a"}] }', b'{ "data": [{"prompt": "b"}]}\r']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    assert [record.raw for record in read(tmp_path / "a.jsonl")] == lines


def test_an_element_nested_too_deep_is_set_aside(tmp_path: Path) -> None:
    for depth in range(940, 1000, 6):
        deep = '{"x":' + "[" * depth + "1" + "]" * depth + "}"
        (tmp_path / "a.json").write_text(f'[{deep},\n{{"a": 1}}]')
        assert read(tmp_path / "a.json")  # whether this deep or not, it does not end the run
    (tmp_path / "a.json").write_text('[{"x":' + "[" * 100_000 + "]" * 100_000 + '},\n{"a": 1}]')
    assert reasons(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content", [json.dumps(CHATS[0]), json.dumps(CHATS), json.dumps({"train": CHATS}), json.dumps(CHATS[0], indent=1)]
)
def test_damage_behind_all_records_is_said(tmp_path: Path, content: str) -> None:
    for line_end in ("", "\n"):
        compressed = bytearray(gzip.compress((content + line_end).encode()))
        compressed[-6] ^= 1  # in the checksum
        (tmp_path / "a.json.gz").write_bytes(compressed)
        *records, last = read(tmp_path / "a.json.gz")
        assert isinstance(last, BadRecord)
        assert last.reason.startswith("damaged file: the compressed file is damaged from here on")
        assert len(records) <= 2


@pytest.mark.parametrize("orient", ["columns", "split", "list"])
def test_columns_are_refused_by_what_they_are(tmp_path: Path, orient: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(RECORDS)
    if orient == "list":
        (tmp_path / "a.json").write_text(json.dumps(frame.to_dict(orient="list")))
    else:
        frame.to_json(tmp_path / "a.json", orient=orient)
    (reason,) = reasons(tmp_path / "a.json").values()
    assert reason.startswith("columns and not records: the fields ")
    assert reason.endswith("; write a record a line (pandas: to_json(orient='records', lines=True))")


@pytest.mark.parametrize("orient", ["records", "table", "index"])
def test_what_pandas_writes_by_rows(tmp_path: Path, orient: str) -> None:
    pandas = pytest.importorskip("pandas")
    pandas.DataFrame(RECORDS).to_json(tmp_path / "a.json", orient=orient, force_ascii=False)
    assert [
        {key: value for key, value in row.items() if key != "index"} for row in fields(tmp_path / "a.json")
    ] == RECORDS


def test_objects_behind_each_other_on_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("".join(map(json.dumps, CHATS)))
    assert fields(tmp_path / "a.json") == CHATS


def test_metadata_with_several_lists_do_not_end_the_run(tmp_path: Path) -> None:
    write(tmp_path / "croissant.json", {"distribution": [{"name": "a"}], "recordSet": [{"name": "b"}], "x": 1}, 1)
    write(tmp_path / "pool.json", CHATS)
    assert [len(list(source.records())) for source in open_source(tmp_path)] == [1, 2]
    assert fields(tmp_path / "croissant.json")[0].keys() == {"distribution", "recordSet", "x"}
