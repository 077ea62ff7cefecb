"""Records that no file should hold are set aside, each by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handpick.data.cache import parse_into
from handpick.data.containers.columns import check_layout
from handpick.data.nesting import MOST_NESTED, TOO_DEEP, is_nested_too_deep
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.read import FileInput
from handpick.errors import DataError

GOOD = {"prompt": "p", "completion": "c"}


def open_pool(path: Path) -> tuple[Pool, list[str]]:
    """The pool, and why records were set aside."""
    quarantine = Quarantine(path.parent / "quarantine.jsonl")
    pool = Pool.open([str(path)], cache=path.parent / "parsed", quarantine=quarantine)
    entries = quarantine.path.read_text("utf-8").splitlines() if quarantine.path.exists() else []
    return pool, [json.loads(line)["reason"] for line in entries]


def lists(n: int) -> str:
    return "[" * n + "1" + "]" * n


def objects(n: int) -> str:
    return '{"a":' * n + "1" + "}" * n


def text_parts(n: int) -> str:
    inner = '"x"'
    for _ in range(n):
        inner = f'[{{"type":"text","text":{inner}}}]'
    return inner


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
@pytest.mark.parametrize("depth", [MOST_NESTED, 120, 250, 500, 900, 960, 1000, 5000, 100_000])
@pytest.mark.parametrize("nested", [lists, objects])
def test_a_record_nested_without_end(nested: Callable[[int], str], depth: int, suffix: str, tmp_path: Path) -> None:
    record = f'{{"x":{nested(depth)},"prompt":"a","completion":"b"}}'
    good = json.dumps(GOOD)
    path = tmp_path / f"pool.{suffix}"
    path.write_text(f"{good}\n{record}\n{good}" if suffix == "jsonl" else f"[{good},{record},{good}]")
    pool, reasons = open_pool(path)
    # of an array that Python's own reader cannot read, what is behind it is lost too
    assert len(pool) == 2 - (suffix == "json" and len(reasons[0]) and "cannot be read past" in reasons[0])
    assert len(reasons) == 1
    assert reasons[0].startswith("malformed JSON: ")


@pytest.mark.parametrize("field", ["content", "tool_calls", "extra"])
def test_nested_where_a_turn_is_read(field: str, tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    value = text_parts(250) if field == "content" else lists(250)
    other = "" if field == "content" else '"content":"a",'
    turn = f'{{"role":"user","content":"q"}},{{"role":"assistant",{other}"{field}":{value}}}'
    path.write_text(f'{json.dumps(GOOD)}\n{{"messages":[{turn}]}}\n')
    pool, reasons = open_pool(path)
    assert (len(pool), reasons) == (1, [TOO_DEEP])


@pytest.mark.parametrize(
    "text", [lists(300), "(" * 90 + "1," + ")" * 90 + "[" * 20, "-" * 100_000 + "1", "1+" * 100_000 + "1", "[" * 99_999,
             "{(1, 2): 3}", "{1: {2: {3, 4}}}", "9" * 5000, "[" + "9" * 5000 + "]", "b'\\xff'", "{...: 1}", "[1e999]"]
)  # fmt: skip
@pytest.mark.parametrize("field", ["messages", "tools", "conversations"])
def test_text_that_is_to_be_a_list(field: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(
        f"{json.dumps(GOOD)}\n{json.dumps({field: '[' + text + ']', **(GOOD if field == 'tools' else {})})}\n"
    )
    pool, reasons = open_pool(path)
    assert len(pool) + len(reasons) == 2


def test_the_depth_of_a_record() -> None:
    for depth in (1, 50, MOST_NESTED - 1, MOST_NESTED, MOST_NESTED + 1, 300):
        text = lists(depth)
        assert is_nested_too_deep(json.loads(text), text.encode()) is (depth > MOST_NESTED)
        assert is_nested_too_deep({"wide": [[]] * 500, "deep": json.loads(text)}, "[" * 999) is (
            depth + 1 > MOST_NESTED
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)
NAMES = st.sampled_from([
    "messages", "conversations", "prompt", "completion", "chosen", "rejected", "instruction", "output", "input",
    "content", "from", "value", "tools", "tool_calls", "function", "arguments", "name", "label", "weight", "train",
    "train_detail", "type", "text", "source", "chat_template_kwargs", "system", "history", "query", "response", "role",
    "id",
])  # fmt: skip
SHAPED = st.recursive(
    JSON, lambda inner: st.dictionaries(NAMES, inner, max_size=5) | st.lists(inner, max_size=3), max_leaves=12
)


RECORDS = given(st.lists(st.dictionaries(NAMES, SHAPED, max_size=6), min_size=1, max_size=4))


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@RECORDS
def test_any_values_under_any_names(tmp_path: Path, found: list[dict[str, Any]]) -> None:
    read_or_set_aside(tmp_path, found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@RECORDS
def test_many_values_under_any_names(tmp_path: Path, found: list[dict[str, Any]]) -> None:
    read_or_set_aside(tmp_path, found)


def read_or_set_aside(tmp_path: Path, found: list[dict[str, Any]]) -> None:
    """Parse records that nobody would write: each is a row of the table or a line of what was set aside."""
    path = tmp_path / "pool.jsonl"
    found = [GOOD, GOOD, *found]  # a first line that is a record says that each line is one
    path.write_bytes(b"".join(json.dumps(record).encode() + b"\n" for record in found))
    with TemporaryDirectory(dir=tmp_path) as folder:  # each table looks through its folder for what was left over
        parsed = parse_into(Path(folder), FileInput(path))
        with pa.memory_map(str(parsed.table)) as file, pa.ipc.open_stream(file) as table:
            rows = sum(batch.num_rows for batch in table)
        assert rows + len(parsed.set_aside.read_bytes().splitlines()) == len(found)


BAD = pa.array([b"fine", b"\xff\xfe", b"fine too"], pa.binary()).view(pa.string())


def column(kind: str) -> Any:
    if kind == "struct":
        return pa.StructArray.from_arrays([BAD], ["inside"])
    if kind == "list":
        return pa.ListArray.from_arrays([0, 1, 2, 3], BAD)
    if kind == "list of structs":
        return pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([BAD], ["inside"]))
    return BAD.dictionary_encode() if kind == "dictionary" else BAD


@pytest.mark.parametrize("kind", ["text", "struct", "list", "list of structs", "dictionary"])
def test_text_of_a_table_that_is_no_utf8(kind: str, tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a", "b", "c"], "completion": ["x", "y", "z"], "beside": column(kind)})
    path = tmp_path / "pool.parquet"
    pq.write_table(table, path)
    pool, reasons = open_pool(path)
    assert len(pool) == 2
    assert [reason.partition(":")[0] for reason in reasons] == ["not text"]


def test_a_table_that_points_outside_of_its_data() -> None:
    whole = pa.array(["abc", "d"])
    offsets = pa.py_buffer(b"".join(each.to_bytes(4, "little", signed=True) for each in (0, -5, 4)))
    wrong = pa.Array.from_buffers(pa.string(), 2, [None, offsets, whole.buffers()[2]])
    for broken in (wrong, pa.StructArray.from_arrays([BAD[:2], wrong], ["a", "b"])):
        with pytest.raises(DataError, match="f is damaged: the column 'x' cannot be read"):
            check_layout(pa.record_batch({"x": broken}), "f")
    check_layout(pa.record_batch({"x": BAD}), "f")


def test_a_name_of_a_column_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "pool.arrow"
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, pa.schema([("name_of_it", pa.int64())])) as writer:
        writer.write_batch(pa.record_batch({"name_of_it": [1]}))
    path.write_bytes(path.read_bytes().replace(b"name_of_it", b"name\xff\xffof_it"[:10]))
    with pytest.raises(DataError, match=r"is damaged|cannot be read as Arrow"):
        open_pool(path)


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    digest = FileInput.sha256

    def sha256_then_append(self: FileInput) -> str:
        found = digest(self)
        with self.path.open("a") as file:
            file.write(json.dumps(GOOD) + "\n")
        return found

    monkeypatch.setattr(FileInput, "sha256", sha256_then_append)
    with pytest.raises(DataError, match=r"pool\.jsonl changed while it was read"):
        parse_into(tmp_path / "parsed", FileInput(path))
    assert not [*(tmp_path / "parsed").iterdir()]
    monkeypatch.undo()
    assert len(open_pool(path)[0]) == 2
