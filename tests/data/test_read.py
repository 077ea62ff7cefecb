"""Containers: what is a record, what is a bad one, and what bytes it had."""

import datetime
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from handpick.data.read import BadRecord, DatasetInput, FileInput, RawRecord, open_source
from handpick.errors import DataError
from tests.conftest import refuse_listing

RECORDS: list[dict[str, Any]] = [{"prompt": f"é{i}", "completion": "yes", "n": i} for i in range(3)]
LINES = [json.dumps(record, ensure_ascii=False).encode() for record in RECORDS]
JSONL = b"\n".join(LINES) + b"\n"


def read(path: Path, content: bytes | None = None) -> list[RawRecord | BadRecord]:
    if content is not None:
        path.write_bytes(content)
    (source,) = open_source(path)
    assert isinstance(source, FileInput)
    return list(source.records())


def good(path: Path, content: bytes) -> list[RawRecord]:
    records = read(path, content)
    assert all(isinstance(record, RawRecord) for record in records), records
    return [record for record in records if isinstance(record, RawRecord)]


def compress_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


COMPRESSIONS: list[Callable[[bytes], bytes]] = [lambda data: data, gzip.compress, compress_zstd]


@pytest.mark.parametrize("compress", COMPRESSIONS)
@pytest.mark.parametrize("name", ["pool.jsonl", "pool.json", "pool.jsonl.gz", "pool.dat"])
def test_json_lines_are_known_by_their_content(tmp_path: Path, compress: Callable[[bytes], bytes], name: str) -> None:
    records = good(tmp_path / name, compress(JSONL))
    assert [r.raw for r in records] == LINES
    assert [r.fields for r in records] == RECORDS
    assert [r.line for r in records] == [1, 2, 3]


@pytest.mark.parametrize("compress", [gzip.compress, compress_zstd])
def test_compressed_files_of_several_members_and_padding_are_one(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    content = compress(JSONL[:40]) + compress(JSONL[40:]) + bytes(512)
    assert [r.raw for r in good(tmp_path / "a", content)] == LINES


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_json_array(tmp_path: Path, compress: Callable[[bytes], bytes], indent: int | None) -> None:
    records = good(tmp_path / "pool.json", compress(json.dumps(RECORDS, indent=indent).encode()))
    assert [r.fields for r in records] == RECORDS
    assert records[0].raw == '{"prompt":"é0","completion":"yes","n":0}'.encode()
    assert [r.line for r in records] == ([1, 1, 1] if indent is None else [2, 7, 12])


def test_json_array_sets_bad_elements_aside(tmp_path: Path) -> None:
    content = b'[\n{"a": 1},\n3,\n{"a": "\\ud83d"},\n{"a": "\xff"},\n{"a": 2}\n]\n'
    records = read(tmp_path / "a.json", content)
    assert [type(r) for r in records] == [RawRecord, BadRecord, BadRecord, BadRecord, RawRecord]
    assert [r.reason.partition(":")[0] for r in records if isinstance(r, BadRecord)] == [
        "not an object",
        "not text",
        "not text",
    ]
    assert records[3].line == 5


def test_json_array_that_is_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    first, cut = read(tmp_path / "a.json", b'[{"a": 1},\n {"a": ')
    assert first.raw == b'{"a":1}'
    assert isinstance(cut, BadRecord)
    assert (cut.line, cut.raw) == (2, b'{"a": ')
    assert cut.reason.startswith("malformed JSON: the array cannot be read past here")


def test_json_arrays_behind_each_other_are_read_to_the_end(tmp_path: Path) -> None:
    records = read(tmp_path / "a.json", b'[\n{"a": 1}\n]\n[\n{"a": 2},\n{"a": 3}\n]\n')
    assert [(r.fields, r.line) for r in records if isinstance(r, RawRecord)] == [
        ({"a": 1}, 2), ({"a": 2}, 5), ({"a": 3}, 6),
    ]  # fmt: skip


def test_text_behind_a_json_array_is_set_aside(tmp_path: Path) -> None:
    _, behind = read(tmp_path / "a.json", b'[\n{"a": 1}\n]\n{"a": 2}\n')
    assert isinstance(behind, BadRecord)
    assert (behind.raw, behind.reason) == (b'{"a": 2}\n', "malformed JSON: there is text behind the end of the array")


def test_parquet(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 7, 26, 12)
    rows = [record | {"when": when, "tags": ["x", None]} for record in RECORDS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.bin", row_group_size=2)
    records = read(tmp_path / "a.bin")
    assert [json.loads(r.raw) for r in records] == [
        r | {"when": when.isoformat(), "tags": ["x", None]} for r in RECORDS
    ]
    assert [r.line for r in records] == [1, 2, 3]


def test_damaged_parquet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.parquet cannot be read as Parquet"):
        read(tmp_path / "a.parquet", b"PAR1 and no more")


def test_dataset_with_a_selection_of_rows() -> None:
    (source,) = open_source(datasets.Dataset.from_list(RECORDS).select([2, 0]))
    records = list(source.records())
    assert [json.loads(r.raw) for r in records] == [RECORDS[2], RECORDS[0]]
    assert source.sha256() == DatasetInput(datasets.Dataset.from_list([RECORDS[2], RECORDS[0]])).sha256()


TWICE = (
    "ambiguous JSON: the key 'prompt' stands twice in one object, of which some readers take the first and some the "
    "last"
)
TOO_LARGE = "malformed JSON: the number -1e400 is beyond what a float64 holds, and what is written of it is no JSON"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "x", "completion": "y", "prompt": "z"}', TWICE),
        (b'{"prompt": "x", "completion": "y", "p\\u0072ompt": "x"}', TWICE),
        (b'{"prompt": "x", "completion": "y", "more": [{"in": {"prompt": 1, "prompt": 1}}]}', TWICE),
        (b'{"prompt": "x", "completion": "y", "n": -1e400}', TOO_LARGE),
        (b'{"prompt": "x", "completion": "y", "n": {"of": [1.5, -1e400]}}', TOO_LARGE),
    ],
)
def test_what_readers_take_for_different_things_is_set_aside_by_one_rule(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    """In JSON Lines, an array, a list in an object, and values behind each other over several lines."""
    good = b'{"prompt": "p", "completion": "c", "n": 1e300, "m": {"prompt": {"prompt": 0}}}'
    spread = line.replace(b", ", b",\n")
    several = b"\n".join(each.replace(b", ", b",\n") for each in (good, line, good))
    for name, content in (
        ("a.jsonl", good + b"\n" + line + b"\n" + good), ("b.json", b"[" + b", ".join((good, line, good)) + b"]"),
        ("c.json", b'{"data": [' + b", ".join((good, line, good)) + b"]}"), ("d.json", several),
        ("e.json", b'{"one": ' + good + b', "two": ' + line + b', "three": ' + good + b"}"),
    ):  # fmt: skip
        first, bad, last = read(tmp_path / name, content)
        assert isinstance(first, RawRecord), name
        assert isinstance(last, RawRecord), name
        assert isinstance(bad, BadRecord), name
        assert (bad.reason, bad.as_before) == (reason, False), name
    (alone,) = read(tmp_path / "f.json", spread)
    assert isinstance(alone, BadRecord)
    assert alone.reason == reason


def test_a_list_of_records_that_stands_twice_is_refused(tmp_path: Path) -> None:
    records = b"[" + LINES[0] + b"]"
    with pytest.raises(DataError, match=r"a.json has the field 'data' twice in one object: rename one$"):
        read(tmp_path / "a.json", b'{"data": ' + records + b', "data": ' + records + b"}")


def test_what_python_writes_for_no_number_is_null(tmp_path: Path) -> None:
    line = b'{"prompt": "x", "tools": NaN, "n": [-Infinity, 1.5], "o": {"m": Infinity}}'
    fields = {"prompt": "x", "tools": None, "n": [None, 1.5], "o": {"m": None}}
    (plain, found) = read(tmp_path / "a.jsonl", LINES[0] + b"\n" + line)
    assert isinstance(plain, RawRecord)
    assert isinstance(found, RawRecord)
    assert (found.raw, found.fields) == (line, fields), "the line's own bytes are kept"
    assert (plain.as_before, found.as_before) == (True, False), "it was set aside by the first rule"
    (found,) = read(tmp_path / "b.json", b"[" + line + b"]")
    assert isinstance(found, RawRecord)
    assert (json.loads(found.raw), found.fields, found.as_before) == (fields, fields, False)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "x"', "malformed JSON: Expecting ',' delimiter at column 15"),
        (b"{'prompt': 'x'}", "malformed JSON: "),
        (b'{"prompt": ' + b"9" * 5000 + b"}", "malformed JSON: "),
        (b'{"prompt": ' + b"[" * 100_000, "malformed JSON: "),
        (b'{"prompt": "\xe9t\xe9"}', "not UTF-8: byte 13 of the line is 0xe9"),
        (b'{"prompt": "\\ud83d"}', "not text: a string holds half of a surrogate pair"),
        (b'["prompt"]', "not an object: the line holds a list"),
        (b"null", "not an object: the line holds a NoneType"),
    ],
)
def test_a_bad_line_is_reported_and_does_not_end_the_run(tmp_path: Path, line: bytes, reason: str) -> None:
    for content in (LINES[0] + b"\n" + line + b"\n" + LINES[1], line + b"\n" + LINES[0] + b"\n" + LINES[1]):
        records = read(tmp_path / "a.jsonl", content)
        (bad,) = (r for r in records if isinstance(r, BadRecord))
        assert bad.raw == line
        assert bad.line == records.index(bad) + 1
        assert bad.reason.startswith(reason)
        assert [r.raw for r in records if isinstance(r, RawRecord)] == LINES[:2]


def test_surrogate_pairs_are_text(tmp_path: Path) -> None:
    (record,) = good(tmp_path / "a.jsonl", b'{"prompt": "\\ud83d\\ude00"}')
    assert record.fields == {"prompt": "😀"}


def test_blank_lines_are_passed_over_and_still_counted(tmp_path: Path) -> None:
    records = good(tmp_path / "a.jsonl", b"\n" + LINES[0] + b"\n \t\n\r\n" + LINES[1])
    assert [(r.line, r.raw) for r in records] == [(2, LINES[0]), (5, LINES[1])]


def test_carriage_returns_stay_with_the_record(tmp_path: Path) -> None:
    assert [r.raw for r in good(tmp_path / "a.jsonl", LINES[0] + b"\r\n" + LINES[1] + b"\r\n")] == [
        LINES[0] + b"\r",
        LINES[1] + b"\r",
    ]


def test_a_byte_order_mark_is_no_part_of_a_record(tmp_path: Path) -> None:
    bom = b"\xef\xbb\xbf"
    assert [r.raw for r in good(tmp_path / "a.jsonl", bom + LINES[0] + b"\n" + bom + LINES[1])] == LINES[:2]
    assert [r.fields for r in good(tmp_path / "a.json", bom + json.dumps(RECORDS).encode())] == RECORDS


@pytest.mark.parametrize("compress", [gzip.compress, compress_zstd])
def test_a_compressed_file_that_is_cut_off_gives_its_whole_lines(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    lines = [json.dumps({"prompt": f"{i:x}" * 50, "hash": hash(i) ** 3 % 7919}).encode() for i in range(5000)]
    whole = compress(b"\n".join(lines))
    *records, last = read(tmp_path / "a.jsonl.gz", whole[: len(whole) * 9 // 10])
    assert 0 < len(records) < len(lines)
    assert [r.raw for r in records] == lines[: len(records)]
    assert isinstance(last, BadRecord)
    assert last.reason == "damaged file: the compressed file is cut off here"
    assert last.line == len(records) + 1
    assert lines[len(records)].startswith(last.raw)


def test_a_flipped_byte_in_a_compressed_file_is_noticed(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(JSONL))
    content[-6] ^= 1  # in the checksum
    *_, last = read(tmp_path / "a.jsonl.gz", bytes(content))
    assert isinstance(last, BadRecord)
    assert last.reason.startswith("damaged file: the compressed file is damaged from here on")


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0), b"[]"])
def test_an_empty_file_holds_no_records(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "a", content) == []


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("pool.jsonl", "pool"),
        ("a.v2.jsonl.gz", "a.v2"),
        ("b.json.zst", "b"),
        ("c.parquet", "c"),
        ("d", "d"),
        ("e.csv.gz", "e"),
        ("f.arrow", "f"),
    ],
)
def test_stem_of_a_file(name: str, stem: str) -> None:
    assert FileInput(Path("x") / name).stem == stem


def test_stem_of_a_hub_name() -> None:
    assert DatasetInput(datasets.Dataset.from_dict({}), "org/name:test[:10]").stem == "name"


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*nowhere\.jsonl"):
        open_source(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match=r"there is no file data/pool\.jsonl"):
        open_source("data/pool.jsonl")
    with pytest.raises(DataError, match=r"the folder .* holds no data file \(\.jsonl"):
        open_source(str(tmp_path))
    with pytest.raises(DataError, match=r"no file is of the pattern .*\*\.jsonl"):
        open_source(tmp_path / "*.jsonl")


def test_a_folder_or_a_pattern_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.jsonl.gz", "a.jsonl", "c.parquet", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "d.jsonl").mkdir()
    found = [source.name for source in open_source(str(tmp_path))]
    assert found == [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")]
    assert [source.name for source in open_source(f"{tmp_path}/*.jsonl*")] == found[:2]


def test_a_pattern_is_of_all_folders_or_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / name for name in ("a/1.jsonl", "a/b/2.jsonl", "c/3.jsonl")]
    for file in (*files, tmp_path / "c" / ".4.jsonl", tmp_path / ".d" / "5.jsonl"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")

    def found(pattern: str) -> list[str]:
        return [source.name for source in open_source(pattern)]

    assert found(f"{tmp_path}/[ac]/*.jsonl") == [str(files[0]), str(files[2])]
    assert found(f"{tmp_path}/a/**/*.jsonl") == [str(file) for file in files[:2]]  # at any depth, as in a bucket
    monkeypatch.chdir(tmp_path / "a")
    assert found("*.jsonl") == ["1.jsonl"]
    assert found("../c/*.jsonl") == ["../c/3.jsonl"]
    refuse_listing(monkeypatch, "c")
    with pytest.raises(DataError, match=r"^cannot read the folder .*c: Permission denied$"):
        found(f"{tmp_path}/*/*.jsonl")


def test_hub_name_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_dict({"name": [name], "split": [split]})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert next(open_source("org/name")[0].records()).raw == b'{"name":"org/name","split":"train"}'
    assert next(open_source("org/name:test")[0].records()).raw == b'{"name":"org/name","split":"test"}'
    assert next(open_source("org/name:test[:10%]")[0].records()).raw == b'{"name":"org/name","split":"test[:10%]"}'


def test_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, split: str) -> datasets.Dataset:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"there is no file org/name, .* from the Hub: no route to host"):
        open_source("org/name")
