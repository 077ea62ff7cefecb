"""CSV and TSV: cells as text, in quotes or not, over several lines or not."""

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
import zstandard

from handpick.data.read import BadRecord, open_source
from handpick.errors import DataError
from tests.data.containers.reading import fields, read, reasons

ROWS = [
    {"prompt": 'say "hi", twice', "completion": "one\ntwo\r\nthree\n", "n": "12"},
    {"prompt": "tab\there", "completion": "é 日本", "n": ""},
    {"prompt": "last", "completion": 'x" y', "n": "NaN"},
]
WANTED = [{name: cell or None for name, cell in row.items()} for row in ROWS]


def table(delimiter: str = ",", quoting: int = csv.QUOTE_MINIMAL, end: str = "\r\n") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(ROWS[0]), delimiter=delimiter, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue()


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize("begin", ["", "\ufeff", "\n\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.tsv", "\t"), ("A.CSV", ","), ("a.csv.gz", ",")])
def test_what_csv_writes(tmp_path: Path, name: str, delimiter: str, begin: str, end: str, compress) -> None:  # type: ignore[no-untyped-def]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        (tmp_path / name).write_bytes(compress((begin + table(delimiter, quoting, end)).encode()))
        assert fields(tmp_path / name) == WANTED


def test_what_pandas_writes(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    chats = [[{"role": "user", "content": 'a,"b"\n'}], [{"role": "user", "content": "é"}]]
    pandas.DataFrame({"messages": [json.dumps(chat) for chat in chats], "x": [None, 1.5]}).to_csv(tmp_path / "a.csv")
    rows = fields(tmp_path / "a.csv")
    assert [json.loads(row["messages"]) for row in rows] == chats  # JSON in a cell is text here
    assert [(row["column 1"], row["x"]) for row in rows] == [("0", None), ("1", "1.5")]


def test_records_have_the_line_they_begin_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('a,b\n"x\ny",1\n\nz,2\n')
    assert [(record.line, json.loads(record.raw)) for record in read(tmp_path / "a.csv")] == [
        (2, {"a": "x\ny", "b": "1"}), (5, {"a": "z", "b": "2"}),
    ]  # fmt: skip


def test_bad_rows_are_set_aside_and_the_others_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'a,b\n1,2,3\n"x"y,2\n1\n\xff,2\nok,"un\nended\n')
    assert reasons(tmp_path / "a.csv") == {
        2: "malformed CSV: 3 cells under 2 columns",
        3: "malformed CSV: ',' expected after '\"'",
        4: "malformed CSV: 1 cells under 2 columns",
        5: "not text: a string holds bytes that are not UTF-8, or half of a surrogate pair",
        6: "malformed CSV: unexpected end of data",
    }
    (first, *_, last) = read(tmp_path / "a.csv")
    assert (first.raw, last.raw) == (b"1,2,3", b'ok,"un\nended')


def test_a_cell_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"a,b\n{'x' * 1_000_000},2\n")
    assert len(fields(tmp_path / "a.csv")[0]["a"]) == 1_000_000


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], delimiter: str
) -> None:
    (tmp_path / "a.csv").write_text(table(delimiter))
    assert fields(tmp_path / "a.csv") == WANTED
    assert capsys.readouterr().err == f"{tmp_path / 'a.csv'}: its columns are set apart by {json.dumps(delimiter)}\n"


def test_headers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(DataError, match=r"a.csv has two columns named 'a'; rename one"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('"a"b,c\n1,2\n')
    with pytest.raises(DataError, match=r"the first line of .*a.csv is no header of columns"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text('" a ","b\nc"\n1,2\n')
    assert fields(tmp_path / "a.csv") == [{"a": "1", "b\nc": "2"}]
    for empty in ("", "\n\n", "a,b\n"):
        (tmp_path / "a.csv").write_text(empty)
        assert read(tmp_path / "a.csv") == []


def test_a_file_that_is_cut_off_gives_its_whole_rows(tmp_path: Path) -> None:
    whole = gzip.compress("".join(f"{i},{hash(str(i)) % 9973}\n" for i in range(5000)).encode())
    (tmp_path / "a.csv.gz").write_bytes(whole[: len(whole) // 2])
    *records, last = read(tmp_path / "a.csv.gz")
    assert records
    assert not [record for record in records if isinstance(record, BadRecord)]
    assert isinstance(last, BadRecord)
    assert last.reason == "damaged file: the compressed file is cut off here"


def test_a_name_that_decides_is_part_of_the_digest(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "a.tsv", "a.jsonl"):
        (tmp_path / name).write_text('{"a": 1}\n' if name == "a.jsonl" else "a,b\n1,2\n")
    csv_, other, tsv = (open_source(tmp_path / name)[0].sha256() for name in ("a.csv", "b.csv", "a.tsv"))
    assert csv_ == other != tsv


def test_json_lines_by_the_name_of_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('{"a": 1, "b": 2}\n{"a": 2, "b": 3}\n')
    assert fields(tmp_path / "a.csv") == [{"a": 1, "b": 2}, {"a": 2, "b": 3}]
