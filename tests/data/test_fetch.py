"""Objects in a bucket as sources: the same records, names and fingerprints as the same files in a folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick import bundled
from handpick.data.read import FileInput, absolute_source, files_of_source, open_source
from handpick.errors import DataError, HandpickError, SettingsError
from handpick.overlap import run_overlap
from handpick.pipeline import run_select
from handpick.settings import Settings
from tests.buckets import Bucket, objects_below, put, s3_server
from tests.conftest import write_jsonl

ONE = [{"id": f"a{n}", "prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(6)]
TWO = [{"id": f"b{n}", "prompt": f"Who is {n}?", "completion": f"Nobody is {n}."} for n in range(6)]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["bucket", "s3"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a prefix in an empty bucket: in memory, and of an S3 server on loopback."""
    if request.param == "bucket":
        Bucket.empty()
        yield "bucket://bucket/data"
        return
    with s3_server(monkeypatch):
        yield "s3://bucket/data"


@pytest.fixture
def memory() -> str:
    Bucket.empty()
    return "bucket://bucket/data"


def lines(items: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(item) + "\n" for item in items).encode()


def read(source: str) -> dict[str, list[str]]:
    """The ids of the records by the name of their file."""
    return {each.name: [record.fields["id"] for record in each.records()] for each in open_source(source)}


def test_objects_are_read_as_files_are(root: str) -> None:
    put(f"{root}/a.jsonl", lines(ONE))
    put(f"{root}/b.jsonl", lines(TWO))
    put(f"{root}/README.txt", b"no records")
    ids = [[each["id"] for each in items] for items in (ONE, TWO)]

    assert read(f"{root}/a.jsonl") == {f"{root}/a.jsonl": ids[0]}
    for several in (f"{root}/*.jsonl", root, f"{root}/"):
        assert read(several) == {f"{root}/a.jsonl": ids[0], f"{root}/b.jsonl": ids[1]}
    (source,) = open_source(f"{root}/a.jsonl")
    assert isinstance(source, FileInput)
    assert (source.stem, source.path.name) == ("a", "a.jsonl")
    assert source.sha256() == FileInput(write_jsonl(Path("local.jsonl"), ONE)).sha256()


def test_a_folder_of_splits_a_chosen_field_and_what_is_no_data(memory: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(f"{memory}/set/train-00000-of-00001.jsonl", lines(ONE))
    put(f"{memory}/set/test-00000-of-00001.jsonl", lines(TWO))
    put(f"{memory}/set/.cache/x.jsonl", lines(TWO))
    put(f"{memory}/set/model.bin", b"\0" * 100)
    put(f"{memory}/one.json", json.dumps({"train": ONE, "dev": TWO}).encode())

    assert [*read(f"{memory}/set")] == [f"{memory}/set/train-00000-of-00001.jsonl"]
    assert [*read(f"{memory}/set:test")] == [f"{memory}/set/test-00000-of-00001.jsonl"]
    assert read(f"{memory}/one.json:dev") == {f"{memory}/one.json:dev": [each["id"] for each in TWO]}
    assert not [path for what, path in Bucket.requests if what == "get" and path.endswith((".bin", "x.jsonl"))]
    with pytest.raises(DataError, match=rf"^{memory}/set has no split 'dev'; its splits are test, train$"):
        open_source(f"{memory}/set:dev")
    assert str(Path("cache").resolve()) not in capsys.readouterr().err


def test_what_was_fetched_is_not_fetched_again_and_a_change_is(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    put(f"{root}/a.jsonl", lines(ONE))
    before = read(root)
    assert "fetching 1 object, 0.0 MB: " in capsys.readouterr().err
    assert read(root) == before
    assert "fetching" not in capsys.readouterr().err
    put(f"{root}/a.jsonl", lines(TWO))  # as many bytes, within the second
    assert read(root) == {f"{root}/a.jsonl": [each["id"] for each in TWO]}
    put(f"{root}/b.jsonl", lines(ONE))
    assert [*read(root)] == [f"{root}/a.jsonl", f"{root}/b.jsonl"]


def test_errors_name_the_address(memory: str) -> None:
    put(f"{memory}/a.parquet", b"PAR1 is how it begins, and no more")
    put(f"{memory}/a.jsonl", lines(ONE))
    with pytest.raises(DataError, match=f"{memory}/a.parquet") as damaged:
        read(f"{memory}/a.parquet")
    assert "cache" not in str(damaged.value)
    with pytest.raises(DataError, match=rf"^there is nothing at {memory}/none.jsonl; a listing may be late"):
        open_source(f"{memory}/none.jsonl")
    with pytest.raises(DataError, match=r"^no object is of the pattern bucket://bucket/data/\*.csv; a listing may"):
        open_source(f"{memory}/*.csv")
    with pytest.raises(DataError, match="is JSON Lines and has no fields to choose from"):
        read(f"{memory}/a.jsonl:x")
    put(f"{memory}/notes/x.txt", b"")
    with pytest.raises(DataError, match=f"^there is no data file below {memory}/notes "):
        open_source(f"{memory}/notes")


def test_names_that_are_no_files_of_this_machine(memory: str) -> None:
    Path("bucket").mkdir()  # what stands before the colon
    assert files_of_source(f"{memory}/*.jsonl") == []
    assert absolute_source(f"{memory}/*.jsonl") == f"{memory}/*.jsonl"
    assert Bucket.requests == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:pass@host/a.jsonl", "https://…@host/a.jsonl"),
        ("https://host/a.jsonl?X-Amz-Signature=abc&x=y", "https://host/a.jsonl?…"),
        ("s3://key@bucket/part-?.jsonl", "s3://…@bucket/part-?.jsonl"),
    ],
)
def test_a_key_in_an_address_is_refused_and_not_shown(address: str, shown: str) -> None:
    for refuse in (open_source, files_of_source):
        with pytest.raises(DataError) as refused:
            refuse(address)
        assert str(refused.value) == (
            f"the address {shown} carries a user, a password or a signature, and addresses are written down: give it "
            "without, and the key in the environment"
        )
    with pytest.raises(SettingsError, match="carries a user") as refused_settings:
        Settings(pool=["p.jsonl"], target={"x": [address]})
    assert "pass" not in str(refused_settings.value).replace("a password", "")


@pytest.mark.parametrize("address", ["zip://a.jsonl::s3://bucket/a.zip", "file:///tmp/a.jsonl"])
def test_other_forms_are_refused(address: str) -> None:
    with pytest.raises(DataError, match="is no plain address of an object"):
        open_source(address)


def test_schemes_that_nothing_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    with pytest.raises(DataError, match=r"^nothing here can read nowhere://x/y.jsonl: Protocol not known: nowhere$"):
        open_source("nowhere://x/y.jsonl")

    def not_installed(scheme: str) -> None:
        raise ImportError(f"Please install {scheme}fs")

    monkeypatch.setattr(fsspec, "filesystem", not_installed)
    for scheme, how in {"s3": "'handpick[s3]'", "gs": "'handpick[gcs]'"}.items():
        with pytest.raises(DataError) as refused:
            open_source(f"{scheme}://x/y.jsonl")
        wanted = f"{scheme}://x/y.jsonl needs a package that is not installed: pip install {how}"
        assert str(refused.value) == wanted


def test_settings_that_name_no_data_are_no_addresses() -> None:
    with pytest.raises(SettingsError, match=r"^model s3://b/model is no path: fetch it into a folder and name that"):
        Settings(pool=["a.jsonl"], model="s3://b/model")
    with pytest.raises(SettingsError, match=r"^store s3://b/s is no path"):
        Settings(store="s3://b/s")


def test_a_store_that_fails_or_is_late(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{memory}/a.jsonl", lines(ONE))
    put(f"{memory}/b.jsonl", lines(TWO))

    def fail(what: str, path: str) -> None:
        if what == "get" and path.endswith("b.jsonl"):
            raise OSError("500 Internal Server Error: http://user:pass@host/b.jsonl?sig=abc")

    monkeypatch.setattr(Bucket, "fault", staticmethod(fail))
    with pytest.raises(DataError) as refused:
        open_source(memory)
    assert str(refused.value) == (f"cannot fetch {memory}/b.jsonl: 500 Internal Server Error: http://…@host/b.jsonl?…")
    monkeypatch.setattr(Bucket, "fault", None)
    gets = [path for what, path in Bucket.requests if what == "get"]
    assert len(read(memory)) == 2  # and what was fetched before it is not fetched again
    assert [path for what, path in Bucket.requests if what == "get"][len(gets) :] == ["/bucket/data/b.jsonl"]
    Bucket.unlisted.add("/bucket/data/b.jsonl")
    assert [*read(f"{memory}/*.jsonl")] == [f"{memory}/a.jsonl"]  # nobody can tell; the next listing has it
    Bucket.unlisted.clear()
    assert len(read(f"{memory}/*.jsonl")) == 2


def test_what_is_written_between_listing_and_fetching_is_noticed(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{memory}/a.jsonl", lines(ONE))

    def write(what: str, path: str) -> None:
        if what == "get":
            monkeypatch.setattr(Bucket, "fault", None)
            put(f"{memory}/a.jsonl", lines(TWO))  # as many bytes

    monkeypatch.setattr(Bucket, "fault", staticmethod(write))
    with pytest.raises(DataError, match=f"^{memory}/a.jsonl is not what was listed: it was written meanwhile"):
        open_source(f"{memory}/a.jsonl")
    assert read(f"{memory}/a.jsonl") == {f"{memory}/a.jsonl": [each["id"] for each in TWO]}


def test_a_cache_that_cannot_be_written(memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(f"{memory}/a.jsonl", lines(ONE))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match=f"^cannot keep {memory}/a.jsonl in {tmp_path}/file: Not a directory; free"):
        open_source(f"{memory}/a.jsonl")


def test_the_same_pool_chooses_the_same(root: str, tmp_path: Path) -> None:
    """Selection and features of a pool in a bucket are those of the same pool in a folder."""
    local = {
        name: write_jsonl(tmp_path / f"{name}.jsonl", items)
        for name, items in {"pool": ONE + TWO, "dev": TWO[:2]}.items()
    }
    for name, path in local.items():
        put(f"{root}/{name}.jsonl", path.read_bytes())
    settings: dict[str, Any] = {"method": "rds+", "model": str(bundled.model_path()), "budget": 4, "max_length": 32}

    of_files = handpick.select(str(local["pool"]), str(local["dev"]), out="files", **settings)
    Bucket.requests.clear()
    of_bucket = handpick.select(f"{root}/pool.jsonl", f"{root}/dev.jsonl", out="fetched", **settings)

    assert of_bucket.ids == of_files.ids
    assert of_bucket.scores == of_files.scores
    assert of_bucket.fingerprints == of_files.fingerprints
    assert {file for file, _ in of_bucket.origins} == {f"{root}/pool.jsonl"}
    assert of_bucket.settings["pool"] == [f"{root}/pool.jsonl"]
    said = [path.read_text() for path in Path("fetched").rglob("*") if path.suffix in (".json", ".yaml", ".jsonl")]
    assert not [text for text in said if str(tmp_path / "cache") in text]
    again = run_select(Settings.from_yaml("fetched/settings.yaml")).selection
    assert again.ids == of_files.ids


def test_other_commands_read_them_too(memory: str) -> None:
    put(f"{memory}/pool.jsonl", lines(ONE + TWO))
    put(f"{memory}/test.jsonl", lines(TWO[:2]))

    assert handpick.look(f"{memory}/pool.jsonl").pool.counts.records == len(ONE + TWO)
    found = run_overlap([f"{memory}/pool.jsonl"], [f"{memory}/test.jsonl"], Path("overlap"), 0.75)
    assert [file.name for file in found.pool.files] == [f"{memory}/pool.jsonl"]
    assert len((Path("overlap") / "clean.jsonl").read_text().splitlines()) == len(ONE + TWO) - len(found.rows)


def test_an_s3_server_that_fails_or_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(monkeypatch) as server:
        put("s3://bucket/a.jsonl", lines(ONE))
        server.fails = lambda method, path: method == "GET"
        with pytest.raises(HandpickError, match=r"^cannot fetch s3://bucket/a.jsonl: ") as refused:
            open_source("s3://bucket/a.jsonl")
        assert server.failed > 3  # s3fs and botocore have tried again
        assert "a-secret" not in str(refused.value)
        assert "\n" not in str(refused.value)
        server.fails, server.seconds = (lambda method, path: False), 0.2
        assert len(read("s3://bucket/a.jsonl")) == 1
        assert objects_below("s3://bucket")
