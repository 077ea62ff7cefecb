"""Parquet and Arrow: values that JSON has no word for take no row away, and ``datasets``' own types are decoded."""

import base64
import datetime
import decimal
import gzip
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from handpick.data.containers.json_form import json_form
from handpick.data.read import BadRecord, RawRecord, open_source
from handpick.errors import DataError
from tests.data.containers.reading import fields, read

NAN = float("nan")
KINDS = pytest.mark.parametrize("kind", ["parquet", "file", "stream"])


def write(path: Path, table: pa.Table, kind: str = "parquet") -> Path:
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with new(str(path), table.schema) as out:
            out.write_table(table)
    return path


def dictionary(values: list[Any]) -> pa.Array:
    return pa.array(values).dictionary_encode()


IDS = [uuid.UUID(int=1), uuid.UUID(int=2)]
# a column, and what its two values are as JSON
COLUMNS: list[tuple[str, pa.Array, list[Any]]] = [
    ("decimal", pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)), ["1.50", None]),
    ("wide decimal", pa.array([decimal.Decimal("1E+3")] * 2, pa.decimal256(40, 2)), ["1000.00"] * 2),
    ("duration", pa.array([1_500_000, -1], pa.duration("us")), ["PT1.5S", "-PT0.000001S"]),
    ("long duration", pa.array([2**62, 1], pa.duration("s")), [f"PT{2**62}S", "PT1S"]),
    ("nanoseconds", pa.array([1, 2], pa.duration("ns")), ["PT0.000000001S", "PT0.000000002S"]),
    ("time", pa.array([1_000_000, None], pa.timestamp("us")), ["1970-01-01T00:00:01", None]),
    ("zone", pa.array([0, 1], pa.timestamp("s", "UTC")), ["1970-01-01T00:00:00+00:00", "1970-01-01T00:00:01+00:00"]),
    ("fine time", pa.array([1, 0], pa.timestamp("ns")), ["1970-01-01T00:00:00.000000001", "1970-01-01T00:00:00"]),
    ("far time", pa.array([10**18, 0], pa.timestamp("us")), [10**18, "1970-01-01T00:00:00"]),
    ("lost zone", pa.array([0, 1], pa.timestamp("ms", "No/Where")),
     ["1970-01-01T00:00:00+00:00", "1970-01-01T00:00:00.001000+00:00"]),
    ("day", pa.array([datetime.date(2024, 7, 26), None]), ["2024-07-26", None]),
    ("clock", pa.array([datetime.time(1, 2, 3), None]), ["01:02:03", None]),
    ("text bytes", pa.array([b"\xc3\xa9", None], pa.binary()), ["é", None]),
    ("bytes", pa.array([b"\xff\x00", b"ok"], pa.large_binary()), ["/wA=", "ok"]),
    ("fixed bytes", pa.array([b"\xff\x00", b"ok"], pa.binary(2)), ["/wA=", "ok"]),
    ("float", pa.array([NAN, 1.5]), [None, 1.5]),
    ("infinite", pa.array([float("inf"), -float("inf")], pa.float32()), [None, None]),
    ("half", pa.array([np.float16(NAN), np.float16(0.5)], pa.float16()), [None, 0.5]),
    ("floats", pa.array([[NAN, 1.0], []]), [[None, 1.0], []]),
    ("map", pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())), [{"a": 1}, {}]),
    ("map by number", pa.array([[(1, "x")], None], pa.map_(pa.int64(), pa.string())), [{"1": "x"}, None]),
    ("map with a key twice", pa.array([[("a", 1), ("a", 2)], [("b", 3)]], pa.map_(pa.string(), pa.int64())),
     [[{"key": "a", "value": 1}, {"key": "a", "value": 2}], {"b": 3}]),
    ("dictionary", dictionary(["x", None]), ["x", None]),
    ("dictionary of decimals", dictionary([decimal.Decimal("1.5"), None]), ["1.5", None]),
    ("large text", pa.array(["x", None], pa.large_string()), ["x", None]),
    ("text view", pa.array(["x", "a text that is longer than a view"], pa.string_view()),
     ["x", "a text that is longer than a view"]),
    ("fixed list", pa.array([["a", "b"], None], pa.list_(pa.string(), 2)), [["a", "b"], None]),
    ("nulls", pa.nulls(2), [None, None]),
    ("nested nulls", pa.array([{"a": None, "b": [None, {"c": None}]}, None]),
     [{"a": None, "b": [None, {"c": None}]}, None]),
    ("uuid", pa.array([each.bytes for each in IDS], pa.uuid()), [str(each) for each in IDS]),
    ("opaque", pa.ExtensionArray.from_storage(pa.opaque(pa.int64(), "a", "b"), pa.array([1, 2])), [1, 2]),
    ("json", pa.array(['{"a": 1}', '"b"'], pa.json_()), [{"a": 1}, "b"]),
    ("broken json", pa.array(["{", None], pa.json_()), ["{", None]),
    ("ambiguous json", pa.array(['{"a": 1, "a": 2}', "1e400"], pa.json_()), ['{"a": 1, "a": 2}', "1e400"]),
    ("deep", pa.array([[{"d": decimal.Decimal("0.1"), "t": [datetime.timedelta(seconds=1)]}], []]),
     [[{"d": "0.1", "t": ["PT1S"]}], []]),
    ("deep and out of range", pa.array([[{"d": 10**18, "s": "x"}], []], pa.list_(pa.struct(
        [("d", pa.timestamp("us")), ("s", pa.string())]))), [[{"d": 10**18, "s": "x"}], []]),
    ("big numbers", pa.array([2**64 - 1, 0], pa.uint64()), [2**64 - 1, 0]),
]  # fmt: skip
ONLY_IN_MEMORY = [
    ("interval", pa.array([(1, 2, 3_000_000_000), None], pa.month_day_nano_interval()), ["P1M2DT3S", None]),
    ("run ends", pa.RunEndEncodedArray.from_arrays([2], [decimal.Decimal("1.5")]), ["1.5", "1.5"]),
    ("list view", pa.array([["a"], None], pa.list_view(pa.string())), [["a"], None]),
    ("union", pa.UnionArray.from_dense(pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()),
                                       [pa.array([1]), pa.array([b"\xff"])]), [1, "/w=="]),
]  # fmt: skip


@KINDS
@pytest.mark.parametrize(("column", "wanted"), [c[1:] for c in COLUMNS], ids=[c[0] for c in COLUMNS])
def test_a_column_that_json_has_no_word_for(tmp_path: Path, kind: str, column: pa.Array, wanted: list[Any]) -> None:
    path = write(tmp_path / "a.x", pa.table({"prompt": ["p", "q"], "odd": column}), kind)
    check(path, wanted)


def test_a_zone_that_pytz_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow asks pytz where some package has brought it along, and its error is another."""

    def timezone(name: str) -> None:
        raise KeyError(name)  # pytz.UnknownTimeZoneError is one

    pytz = ModuleType("pytz")
    pytz.timezone, pytz.utc = timezone, datetime.UTC  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytz", pytz)
    column, wanted = next(rest for name, *rest in COLUMNS if name == "lost zone")
    check(write(tmp_path / "a.x", pa.table({"prompt": ["p", "q"], "odd": column}), "parquet"), wanted)


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize(("column", "wanted"), [c[1:] for c in ONLY_IN_MEMORY], ids=[c[0] for c in ONLY_IN_MEMORY])
def test_a_column_that_parquet_has_none_for(tmp_path: Path, kind: str, column: pa.Array, wanted: list[Any]) -> None:
    check(write(tmp_path / "a.x", pa.table({"prompt": ["p", "q"], "odd": column}), kind), wanted)


def check(path: Path, wanted: list[Any]) -> None:
    records = read(path)
    assert all(isinstance(record, RawRecord) for record in records), records
    assert [json.loads(record.raw) for record in records] == [
        {"prompt": prompt, "odd": value} for prompt, value in zip("pq", wanted, strict=True)
    ]
    assert [record.fields for record in records if isinstance(record, RawRecord)] == [
        json.loads(record.raw) for record in records
    ]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
@KINDS
def test_compressed_as_a_whole(tmp_path: Path, kind: str, compress: Callable[[bytes], bytes]) -> None:
    path = write(tmp_path / "a", pa.table({"a": list(range(5000))}), kind)
    path.write_bytes(compress(path.read_bytes()))
    assert [row["a"] for row in fields(path)] == list(range(5000))
    assert [record.line for record in read(path)] == list(range(1, 5001))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_arrow_with_compressed_buffers(tmp_path: Path, codec: str) -> None:
    table = pa.table({"a": ["x" * 1000] * 10})
    with pa.ipc.new_file(str(tmp_path / "a"), table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as out:
        out.write_table(table)
    assert len(fields(tmp_path / "a")) == 10


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_text_that_is_not_utf8_is_refused_by_record(tmp_path: Path, kind: str) -> None:
    def unchecked(values: list[bytes], type: pa.DataType = pa.string()) -> pa.Array:  # noqa: B008
        return pa.array(values, pa.binary()).view(type)

    bad = unchecked([b"fine", b"\xff\xfe", b"fine too"])
    nested = pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([bad], ["content"]))
    for column in (bad, nested):
        write(tmp_path / "a", pa.table({"prompt": ["a", "b", "c"], "x": column}), kind)
        records = read(tmp_path / "a")
        assert [type(record) for record in records] == [RawRecord, BadRecord, RawRecord]
        assert isinstance(records[1], BadRecord)
        assert records[1].reason.startswith("not text: a string holds bytes that are not UTF-8")


@KINDS
def test_damage_ends_the_run_with_a_sentence(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.x", pa.table({"a": list(range(5000))}), kind)
    content = path.read_bytes()
    for cut in (12, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:cut])
        if kind == "stream" and cut == len(content) - 3:  # all but the end of the stream's mark
            continue
        with pytest.raises(DataError, match=r"a.x cannot be read as (Parquet|Arrow)"):
            read(path)
    path.write_bytes(gzip.compress(content)[:-20])
    with pytest.raises(DataError, match=r"a.x: the compressed file is cut off here"):
        read(path)


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    write(tmp_path / "a", pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"]), "file")
    with pytest.raises(DataError, match=r"a has two columns named 'x'; rename one"):
        read(tmp_path / "a")


def test_what_becomes_something_else_is_said_once_a_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pa.table({"p": [decimal.Decimal("1.5")] * 3000, "f": [NAN] * 3000, "ok": [1.0] * 3000})
    for name in ("a.parquet", "b.parquet"):
        write(tmp_path / name, table)
    assert len(fields(tmp_path)) == 6000
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}: JSON has no word for all of the column 'p' (decimal128(2, 1)): their digits as text",
        f"{tmp_path}: JSON has no word for all of the column 'f' (double): null stands for NaN and infinity",
    ]


MIXED = [
    {"prompt": "q", "completion": "a", "n": 1},
    {"prompt": "q", "completion": ["a", "b"], "n": "two"},
    {"prompt": "q", "completion": None, "n": None},
]
CHATS = [
    {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "tool_calls": [
        {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}], "id": 1},
    {"messages": [{"role": "user", "content": "é"}, {"role": "assistant", "content": "b"}], "id": 2},
]  # fmt: skip


def mixed(rows: list[dict[str, Any]]) -> datasets.Dataset:
    if "Json" not in dir(datasets):
        pytest.skip("this datasets has no type Json")
    return datasets.Dataset.from_list(rows, on_mixed_types="use_json")


@pytest.mark.parametrize("rows", [MIXED, CHATS], ids=["Json", "List(Json)"])
def test_what_datasets_keeps_as_json_is_decoded(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    dataset = mixed(rows)
    assert "Json" in str(dataset.features)
    dataset.to_parquet(tmp_path / "a.parquet")
    dataset.save_to_disk(tmp_path / "saved")
    (in_memory,) = open_source(dataset)
    (iterated,) = open_source(dataset.to_iterable_dataset())
    for found in (
        fields(tmp_path / "a.parquet"),
        fields(tmp_path / "saved"),
        *([record.fields for record in each.records()] for each in (in_memory, iterated)),  # type: ignore[union-attr]
    ):
        assert found == rows
    plain = pq.read_table(tmp_path / "a.parquet").replace_schema_metadata(None)
    storage = [c.cast(pa.string()) if isinstance(c.type, pa.JsonType) else c for c in plain.columns]
    if rows is MIXED:  # a file that plain Arrow wrote has text, and stays as it is
        write(tmp_path / "b.parquet", pa.table(dict(zip(plain.column_names, storage, strict=True))))
        assert fields(tmp_path / "b.parquet")[0] == {"prompt": "q", "completion": '"a"', "n": "1"}


def test_features_alone_say_that_text_is_json(tmp_path: Path) -> None:
    features = {"a": {"_type": "Json"}, "b": {"feature": {"_type": "Json"}, "_type": "List"},
                "c": {"d": {"_type": "Json"}, "e": {"_type": "Value", "dtype": "string"}}, "f": [{"_type": "Json"}],
                "g": {"_type": "Value", "dtype": "string"}}  # fmt: skip
    row = {"a": '"x"', "b": ["[1]", None], "c": {"d": "null", "e": '"y"'}, "f": ["1"], "g": '"z"'}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    write(tmp_path / "a", pa.Table.from_pylist([row, dict.fromkeys(row)]).replace_schema_metadata(metadata))
    assert fields(tmp_path / "a") == [
        {"a": "x", "b": [[1], None], "c": {"d": None, "e": '"y"'}, "f": [1], "g": '"z"'}, dict.fromkeys(row),
    ]  # fmt: skip
    for odd in (b"{", b"[]", b'{"info": null}', b'{"info": {"features": []}}'):
        write(tmp_path / "a", pa.table({"a": ['"x"']}).replace_schema_metadata({b"huggingface": odd}))
        assert fields(tmp_path / "a") == [{"a": '"x"'}]


def test_images_in_bytes_stay_json(tmp_path: Path) -> None:
    image = {"bytes": b"\x89PNG\xff", "path": None}
    write(tmp_path / "a", pa.Table.from_pylist([{"prompt": "p", "images": [image]}]))
    assert fields(tmp_path / "a") == [
        {"prompt": "p", "images": [{"bytes": base64.b64encode(image["bytes"]).decode(), "path": None}]}  # type: ignore[arg-type]
    ]


def test_values_of_numpy_and_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"m": [np.array([{"role": "user"}], dtype=object)], "n": [NAN], "i": np.array([3])})
    (row,) = frame.to_dict("records")
    found = json_form({**row, "na": pandas.NA, "nat": pandas.NaT, "t": pandas.Timestamp(0), "d": pandas.Timedelta(5),
                       "np": np.datetime64("2024-01-02"), "none": np.datetime64("NaT", "s"),
                       "s": np.timedelta64(2, "s"), "b": np.bool_(True), "x": (1, 2),
                       "many": np.array(["2024-01-02"], "datetime64[D]")})  # fmt: skip
    assert found == {
        "m": [{"role": "user"}], "n": None, "i": 3, "na": None, "nat": None, "t": "1970-01-01T00:00:00",
        "d": "PT0.000000005S", "np": "2024-01-02", "none": None, "s": "PT2S", "b": True, "x": [1, 2],
        "many": ["2024-01-02"],
    }  # fmt: skip
    assert type(found["b"]) is bool  # type: ignore[call-overload, index]
    with pytest.raises(TypeError, match=r"a value of type set has no JSON form"):
        json_form([{1}])


def test_media_of_what_can_only_be_iterated_stay_bytes() -> None:
    features = datasets.Features({"prompt": datasets.Value("string"), "img": datasets.Image()})
    row = {"prompt": "p", "img": {"bytes": b"\x89PNG", "path": None}}
    dataset = datasets.Dataset.from_list([row], features=features)
    for each in (dataset, dataset.to_iterable_dataset()):
        (source,) = open_source(each)
        assert [record.raw for record in source.records()] == [b'{"prompt":"p","img":{"bytes":"iVBORw==","path":null}}']
