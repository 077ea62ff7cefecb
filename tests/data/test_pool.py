"""Pools: from files to unique, memory-mapped examples and back to the bytes they came from."""

import gzip
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from handpick.data import cache
from handpick.data.examples import Example, Message
from handpick.data.pool import DataFile, Pool
from handpick.data.quarantine import Quarantine
from handpick.errors import DataError

OpenPool = Callable[..., Pool]
SetAside = Callable[[], list[dict[str, Any]]]

TINY = {
    "alpaca.json": [{"instruction": "Hi", "input": "", "output": "Hello"}],
    "dolly.json": [{"instruction": "Hi", "context": "é", "response": "Hello", "category": "open_qa"}],
    "gpteacher.json": [{"instruction": "Hi", "input": "é", "response": "Hello"}],
    "hh_rlhf.jsonl": [{"chosen": "\n\nHuman: Hi\n\nAssistant: Hello", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}],
    "prompt_completion.jsonl": [{"prompt": "Hi\\", "completion": "Hello<|endoftext|>"}],
    "sharegpt_preference.json": [
        {
            "conversations": [{"from": "human", "value": "Hi"}],
            "chosen": {"from": "gpt", "value": "Hello"},
            "rejected": {"from": "gpt", "value": "No"},
        }
    ],
}


def turns(*contents: str) -> list[dict[str, str]]:
    return [{"role": "assistant" if i % 2 else "user", "content": content} for i, content in enumerate(contents)]


def record(content: str = "Hi", **fields: Any) -> dict[str, Any]:
    return {**fields, "messages": turns(content, "Hello")}


def write(path: Path, *records: dict[str, Any] | bytes) -> Path:
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in records]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def assert_writes_back(pool: Pool, file: Path) -> None:
    raw = [pool.raw(row) for row in range(len(pool))]
    if file.suffix == ".jsonl":
        assert b"".join(line + b"\n" for line in raw) == file.read_bytes().rstrip(b"\n") + b"\n"
    else:
        assert [json.loads(line) for line in raw] == json.loads(file.read_bytes())


@pytest.mark.parametrize("name", TINY)
def test_format_reads_and_writes_back(name: str, tmp_path: Path, open_pool: OpenPool, quarantine: Quarantine) -> None:
    file = tmp_path / name
    if file.suffix == ".json":
        file.write_text(json.dumps(TINY[name], indent=1), "utf-8")
    else:
        write(file, *TINY[name])
    pool = open_pool(file)
    assert quarantine.count == 0
    assert [m.role for m in pool[0].messages] == ["user", "assistant"]
    assert pool[0].messages[-1].content == "Hello"
    assert (pool[0].rejected is not None) == (name in ("hh_rlhf.jsonl", "sharegpt_preference.json"))
    assert pool[0].source == name.partition(".")[0]
    assert_writes_back(pool, file)


@pytest.mark.data
@pytest.mark.parametrize("name", TINY)
def test_real_file_reads_and_writes_back(
    name: str, formats_folder: Path, open_pool: OpenPool, quarantine: Quarantine
) -> None:
    pool = open_pool(formats_folder / name)
    assert quarantine.count == 0
    assert len(pool) == (30 if name == "hh_rlhf.jsonl" else 50)
    assert all(example.messages[-1].role == "assistant" for example in pool.examples(0, len(pool)))
    assert_writes_back(pool, formats_folder / name)


def test_example_has_all_a_record_says(tmp_path: Path, open_pool: OpenPool) -> None:
    fields = record(id=7, source="web", category="chat", subtask="greeting", licence="MIT")
    file = write(tmp_path / "a.jsonl", fields, record(id="b", source=3.5, category=["x"]))
    pool = open_pool(str(file))
    messages = (Message("user", "Hi"), Message("assistant", "Hello"))
    raw = json.dumps(fields).encode()
    assert pool[0] == Example("7", messages, raw, source="web", category="chat", subtask="greeting")
    assert (pool[1].source, pool[1].category, pool[1].subtask) == ("a", None, None)
    assert pool.ids() == pool.column("id") == ["7", "b"]
    assert pool.column("source") == ["web", "a"]
    assert pool.column("category") == ["chat", None]
    assert pool.column("subtask") == ["greeting", None]


def test_slices_and_rows_out_of_range(tmp_path: Path, open_pool: OpenPool) -> None:
    pool = open_pool(write(tmp_path / "a.jsonl", *[record(str(i), id=i) for i in range(5)]))
    assert [e.id for e in pool.examples(1, 4)] == ["1", "2", "3"]
    assert [e.id for e in pool.examples(3, 99)] == ["3", "4"]
    assert pool.examples(4, 4) == []
    for row in (5, -1):
        with pytest.raises(IndexError, match=f"row {row} of a pool of 5"):
            pool[row]
        with pytest.raises(IndexError):
            pool.raw(row)
    assert [e.id for e in pool] == ["0", "1", "2", "3", "4"]


def test_files_of_a_pool_stand_one_after_the_other(tmp_path: Path, open_pool: OpenPool) -> None:
    a = write(tmp_path / "a.jsonl", record(id="a0"), record(id="a1"))
    b = write(tmp_path / "b.jsonl", b"{", record(id="a1"), record(id="b0"))
    c = datasets.Dataset.from_list([record(id="c0"), record(id="a0")])
    pool = open_pool(a, b, c)
    assert pool.ids() == ["a0", "a1", "b0", "c0"]
    assert [(f.name, f.rows) for f in pool.files] == [(str(a), 2), (str(b), 1), ("dataset", 1)]
    assert all(len(f.sha256) == 64 for f in pool.files)
    assert pool.column("source") == ["a", "a", "b", "dataset"]
    assert [e.source for e in pool.examples(1, 4)] == ["a", "b", "dataset"]
    assert [pool.location(row) for row in range(4)] == [(str(a), 1), (str(a), 2), (str(b), 3), ("dataset", 1)]
    assert json.loads(pool.raw(3))["id"] == "c0"


def test_an_id_seen_twice_sets_the_later_record_aside(
    tmp_path: Path, open_pool: OpenPool, quarantine: Quarantine, set_aside: SetAside
) -> None:
    a = write(tmp_path / "a.jsonl", record("one", id=1), record("two", id="1"))
    b = write(tmp_path / "b.jsonl", record("three", id="1"), record("four", id="2"))
    pool = open_pool(a, b)
    assert [(e.id, e.messages[0].content) for e in pool.examples(0, 9)] == [("1", "one"), ("2", "four")]
    assert [(e["file"], e["line"], e["id"], e["reason"]) for e in set_aside()] == [
        (str(a), 2, "1", f"id seen before: at line 1 of {a}"),
        (str(b), 1, "1", f"id seen before: at line 1 of {a}"),
    ]
    assert set_aside()[0]["raw"] == json.dumps(record("two", id="1"))
    assert "2 id seen before" in quarantine.summary()


def test_records_without_an_id_are_named_by_content_and_counted(tmp_path: Path, open_pool: OpenPool) -> None:
    a = write(tmp_path / "a.jsonl", record("x"), record("y"), record("x", note="other bytes, same content"))
    b = write(tmp_path / "b.jsonl", record("x"), record("z"))
    pool = open_pool(a, b)
    x, y, x2, x3, z = pool.ids()
    assert (x2, x3) == (f"{x}-2", f"{x}-3")
    assert len({x, y, z}) == 3
    assert [pool[row].id for row in range(5)] == [x, y, x2, x3, z]
    assert open_pool(b).ids()[0] == x


def test_bad_records_are_set_aside_also_by_a_later_call_that_reuses_the_cache(
    tmp_path: Path, open_pool: OpenPool, quarantine: Quarantine, set_aside: SetAside
) -> None:
    file = write(tmp_path / "a.jsonl", record(), b'{"prompt": "\xff"}', {"id": 3, "instruction": "Hi", "output": None})
    for n in (2, 4):
        assert len(open_pool(file)) == 1
        assert quarantine.count == n
    first, second, *again = set_aside()
    assert again == [first, second]
    assert (first["line"], first["id"], first["raw"]) == (2, None, r'{"prompt": "\xff"}')
    assert first["reason"].startswith("not UTF-8")
    assert (second["line"], second["id"]) == (3, "3")
    assert second["reason"] == "missing text: `output` of a record in the Alpaca shape is null"


def test_bad_records_past_the_limit_stop_the_run(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", record(), b"{", b"{")
    with pytest.raises(DataError, match="more bad records than the limit of 1"):
        Pool.open(file, cache=tmp_path, quarantine=Quarantine(tmp_path / "q.jsonl", limit=1))


def test_labels_are_texts_or_whole_numbers(tmp_path: Path, open_pool: OpenPool) -> None:
    labels = ["b", 0, -3, 2**70, None, True, 1.5, ["b"]]
    file = write(tmp_path / "a.jsonl", *(record(id=i, subtask=label) for i, label in enumerate(labels)))
    assert open_pool(file).column("subtask") == ["b", "0", "-3", str(2**70), None, None, None, None]
    numbered = open_pool(write(tmp_path / "b.jsonl", record(source=7, category=2)))
    assert (numbered.column("source"), numbered.column("category")) == (["7"], ["2"])


def test_cache_is_named_by_content_and_reused(
    tmp_path: Path, open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.jsonl", record())
    (sha256,) = (f.sha256 for f in open_pool(file).files)
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert names == [f"{sha256[:16]}.arrow", f"{sha256[:16]}.crc32.json", f"{sha256[:16]}.jsonl"]

    with monkeypatch.context() as patch:
        patch.setattr(cache, "_write", lambda *_: pytest.fail("parsed again"))
        copy = write(tmp_path / "copy.jsonl", record())
        assert open_pool(copy).column("source") == ["copy"]  # the name is not part of the cache
        assert open_pool(file, copy).files == (DataFile(str(file), sha256, 1), DataFile(str(copy), sha256, 1))

    of_older_parser = cache.SCHEMA.with_metadata({"handpick_parser": "0"})
    with monkeypatch.context() as patch:
        patch.setattr(cache, "SCHEMA", of_older_parser)
        open_pool(file)
    assert not cache.is_current(tmp_path / "cache" / names[0])
    assert len(open_pool(file)) == 1
    assert cache.is_current(tmp_path / "cache" / names[0])


def test_a_run_that_dies_while_parsing_leaves_nothing_that_counts(
    tmp_path: Path, open_pool: OpenPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "a.jsonl", record(id=1), record(id=2))

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            open_pool(file)
    assert list((tmp_path / "cache").iterdir()) == []
    assert open_pool(file).ids() == ["1", "2"]


@pytest.mark.parametrize("content", [b"", b"\n", b"[]", b"{\n", gzip.compress(b"", mtime=0)])
def test_empty_pool(tmp_path: Path, open_pool: OpenPool, content: bytes) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"no usable record in .*a\.jsonl"):
        open_pool(file)


def test_missing_files_are_found_before_anything_is_read(tmp_path: Path, open_pool: OpenPool) -> None:
    with pytest.raises(DataError, match=r"there is no file .*b\.jsonl"):
        open_pool(write(tmp_path / "a.jsonl", record()), tmp_path / "b.jsonl")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(DataError, match="no usable record in no file"):
        open_pool()


def test_an_empty_file_beside_others_is_no_error(tmp_path: Path, open_pool: OpenPool) -> None:
    pool = open_pool(write(tmp_path / "a.jsonl"), write(tmp_path / "b.jsonl", record(id="b")))
    assert [f.rows for f in pool.files] == [0, 1]
    assert pool[0].source == "b"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"may not mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
def test_full_disk(tmp_path: Path, full_disk: Path, quarantine: Quarantine) -> None:
    file = write(tmp_path / "a.jsonl", *[record("x" * 1000, id=i) for i in range(200)])
    with pytest.raises(DataError, match=r"cannot write the cache of .*a\.jsonl in .*: No space left on device"):
        Pool.open(file, cache=full_disk, quarantine=quarantine)
    assert list(full_disk.iterdir()) == []


def test_cache_that_cannot_be_written(tmp_path: Path, quarantine: Quarantine) -> None:
    file = write(tmp_path / "a.jsonl", record())
    with pytest.raises(DataError, match=r"cannot write the cache of .*: (File exists|Not a directory)"):
        Pool.open(file, cache=file, quarantine=quarantine)


MEASURE = """
import re, sys
from pathlib import Path
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
import datasets
def peak():  # KiB; getrusage would count what the parent process had before this one was begun
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
folder = Path(sys.argv[1])
before = peak()
pool = Pool.open(folder / "a.jsonl", cache=folder / "cache", quarantine=Quarantine(folder / "q.jsonl"))
assert len(pool) == 200_000 and pool[199_999].id == "199999"
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_pool(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", *(record("x" * 1500, id=i) for i in range(200_000)))
    assert (tmp_path / "a.jsonl").stat().st_size > 300 << 20
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(Path(cache.__file__).parents[2])},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(measured.stdout) < 150 << 10  # KiB; the file is twice that, its table four times


def test_batches_and_some_rows_are_the_rows_of_the_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "BATCH_ROWS", 3)
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    sources = [None, "", "named"]
    lines = [{"id": f"{n % 9}", "messages": turns, "source": sources[n % 3]} for n in range(12)]  # one of ten
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, part in zip(paths, (lines[:10], [{**line, "id": f"x{n}"} for n, line in enumerate(lines)]), strict=True):
        path.write_text("".join(json.dumps(line) + "\n" for line in part))
    pool = Pool.open(paths, cache=tmp_path / "parsed", quarantine=Quarantine(tmp_path / "quarantine.jsonl"))
    assert len(pool) == 9 + 12

    batches = list(pool.batches(["id", "source", "format", "fields"]))

    assert all(len(batch) for batch in batches)
    found = {
        name: [value for batch in batches for value in batch[name].to_pylist()] for name in batches[0].schema.names
    }
    assert found["id"] == pool.ids()
    assert found["source"] == pool.column("source")
    assert set(found["source"]) == {"one", "two", "named"}
    assert set(found["format"]) == {"messages"}
    assert all({"id", "messages", "messages[].role"} <= set(json.loads(names)) for names in found["fields"])
    rows = [20, 0, 9, 9]
    assert pool.take(rows) == [pool[row] for row in rows]
    assert pool.take([]) == []
    with pytest.raises(IndexError, match="row 21 of a pool of 21"):
        pool.take([21])


def test_ids_that_count_within_their_file_take_no_record_away(
    tmp_path: Path, open_pool: OpenPool, quarantine: Quarantine, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.jsonl", *[record(f"{name}{i}", id=i) for i in range(3)], record("same", id=3))
    pool = open_pool(*(tmp_path / f"{name}.jsonl" for name in "abc"))
    assert pool.ids() == ["0", "1", "2", "3", "b/0", "b/1", "b/2", "c/0", "c/1", "c/2"]
    assert [example.id for example in pool.examples(0, 99)] == pool.column("id") == pool.ids()
    assert [pool[row].messages[0].content for row in (0, 4, 9)] == ["a0", "b0", "c2"]
    assert quarantine.summary().startswith("2 records set aside (2 id seen before)")  # the same record, the same id
    assert capsys.readouterr().err.splitlines() == [
        f"the ids of {tmp_path / 'b.jsonl'} and of 1 more repeat those of other records in earlier files: they count "
        "within their file alone, and are written as b/ID"
    ]
    again = pickle.loads(pickle.dumps(pool))
    assert (again.ids(), again.raw(4)) == (pool.ids(), pool.raw(4))
    assert capsys.readouterr().err == ""


def test_ids_that_count_on_over_files_or_name_the_same_records_stay(
    tmp_path: Path, open_pool: OpenPool, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "a.jsonl", record("x", id=0), record("y", id=1))
    write(tmp_path / "b.jsonl", record("z", id=2))
    (tmp_path / "c.json").write_text(json.dumps([record("y", id=1), record("u", id=4)]))
    assert open_pool(*(tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.json"))).ids() == ["0", "1", "2", "4"]
    assert capsys.readouterr().err == ""


def test_files_of_one_name_whose_ids_count(tmp_path: Path, open_pool: OpenPool) -> None:
    for name in ("x", "y", "z/y"):
        (tmp_path / name).mkdir(parents=True)
        write(tmp_path / name / "a.jsonl", record(name, id=1), record("without"), record("text", id=f"t-{name}"))
    pool = open_pool(tmp_path)
    ids = pool.ids()
    assert [id for id in ids if id.endswith("1")] == ["1", "1/a/1", "2/a/1"]
    assert len(set(ids)) == len(pool) == 9


def test_ids_of_tables_that_count(tmp_path: Path, open_pool: OpenPool) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"id,prompt,completion\n0,{name},c\n1,{name}{name},d\n")
    assert open_pool(tmp_path).ids() == ["0", "1", "b/0", "b/1"]


def test_a_file_whose_name_is_no_text_is_refused_first(tmp_path: Path, open_pool: OpenPool) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/p\xff.jsonl")
    try:
        write(Path(name), record("a"))
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    for source in (name, tmp_path, f"{tmp_path}/*.jsonl"):
        with pytest.raises(DataError, match=r"the name of the file .*p\\xff.jsonl is not UTF-8; rename it"):
            open_pool(source)


def test_a_part_has_the_same_examples_and_other_files(tmp_path: Path, open_pool: OpenPool) -> None:
    first = write(tmp_path / "first.jsonl", *(record(f"a{i}") for i in range(4)), record("a1"))
    second = write(tmp_path / "second.jsonl", *(record(f"b{i}", id=f"b{i}") for i in range(3)))
    pool = open_pool(first, second)
    rows = [1, 4, 6]
    part = pool.part(rows)
    assert list(part.examples(0, 9)) == pool.take(rows)
    assert part.ids() == [pool.ids()[row] for row in rows]
    assert part.column("source") == ["first", "first", "second"]
    assert [part.location(i) for i in range(3)] == [pool.location(row) for row in rows]
    assert [file.rows for file in part.files] == [2, 1]
    assert not {file.sha256 for file in part.files} & {file.sha256 for file in pool.files}
    assert part.files[0].sha256 != pool.part([1, 3]).files[0].sha256
    assert pool.part([0, 5, 6, 7]).files[1] == pool.files[1]
    assert part.part([0, 2]).take([1]) == pool.take([6])
    again = pickle.loads(pickle.dumps(part))
    assert (again.files, again.ids()) == (part.files, part.ids())


@pytest.mark.parametrize("rows", [[2, 1], [1, 1], [-1], [0, 5]])
def test_a_part_refuses_rows_out_of_order_or_of_none(tmp_path: Path, open_pool: OpenPool, rows: list[int]) -> None:
    pool = open_pool(write(tmp_path / "p.jsonl", *(record(f"a{i}") for i in range(5))))
    with pytest.raises((ValueError, IndexError)):
        pool.part(rows)
