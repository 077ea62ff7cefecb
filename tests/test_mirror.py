"""A run's folder in a bucket: the same files as in a folder, after kills and faults too."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import handpick
from handpick import bundled, mirror
from handpick.errors import HandpickError, SettingsError, StoreError
from handpick.layout import MirrorLayout
from handpick.mirror import mirror_folder
from handpick.settings import Settings
from tests.buckets import Bucket, objects_below, put, s3_server
from tests.conftest import refuse_listing, write_jsonl

POOL = [{"id": f"a{n}", "prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(10)]
AT = "bucket://bucket/runs/x"


class Killed(BaseException):
    """The process ends here, as far as the run can tell."""


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Bucket.empty()


@pytest.fixture(params=["bucket", "s3"])
def root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "bucket":
        yield "bucket://bucket/runs"
        return
    with s3_server(monkeypatch):
        yield "s3://bucket/runs"


def files_below(folder: Path) -> dict[str, bytes]:
    """The bytes of every file of a folder but those of this machine alone."""
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in found.items() if not name.rpartition("/")[2].startswith(".")}


def write_steps(folder: Path, steps: int) -> None:
    """What a run does that writes tensors, what makes them count, and a record that is replaced at every step."""
    folder.mkdir(parents=True, exist_ok=True)
    for step in range(steps):
        if not (folder / "record.json").exists():
            (folder / "record.json").write_text(json.dumps({"steps": 0}))
        tensors = folder / "shards" / f"{step}.bin"
        if tensors.with_suffix(".json").exists():
            continue
        tensors.parent.mkdir(parents=True, exist_ok=True)
        tensors.write_bytes(b"tensors" * (step + 1))
        tensors.with_suffix(".json").write_text(json.dumps({"rows": step}))
        (folder / "record.json").write_text(json.dumps({"steps": step + 1}))
    (folder / ".lock").touch()


def check_order(objects: dict[str, bytes]) -> None:
    """Raise where something is there that makes count what is not, or without what it is made from."""
    for name in objects:
        if name.startswith("shards") and name.endswith(".json"):
            assert f"{name.removesuffix('.json')}.bin" in objects, name
    if objects:
        for step in range(json.loads(objects["record.json"])["steps"]):
            assert f"shards/{step}.json" in objects


def test_a_bucket_has_what_the_folder_has(root: str, tmp_path: Path) -> None:
    with mirror_folder(f"{root}/x", tmp_path / "work"):
        write_steps(tmp_path / "work", 3)
    objects = objects_below(f"{root}/x")
    index = json.loads(objects.pop("objects.json"))["objects"]
    assert objects == files_below(tmp_path / "work")
    assert set(index) == set(objects)
    assert {len(digests) for digests in index.values()} == {1}


def test_another_machine_goes_on(root: str, tmp_path: Path) -> None:
    with mirror_folder(f"{root}/x", tmp_path / "one"):
        write_steps(tmp_path / "one", 2)
    with mirror_folder(f"{root}/x", tmp_path / "other"):
        assert files_below(tmp_path / "other") == files_below(tmp_path / "one")
        write_steps(tmp_path / "other", 3)
        (tmp_path / "other" / "shards" / "0.json").unlink()
        (tmp_path / "other" / "shards" / "0.bin").unlink()
    (tmp_path / "one" / "only-here.txt").write_text("of before the other machine went on")
    with mirror_folder(f"{root}/x", tmp_path / "one"):
        assert files_below(tmp_path / "one") == files_below(tmp_path / "other")
    assert "shards/0.bin" not in objects_below(f"{root}/x")


@pytest.mark.parametrize("earlier", [0, 1])
def test_killed_at_any_request_and_gone_on_with(earlier: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever request is the last, nothing is taken over that counts what is not there; both this machine and another
    end as an unbroken run does."""
    wanted: dict[str, bytes] | None = None
    for stop in range(200):
        Bucket.empty()
        work = tmp_path / f"work-{stop}"
        write_steps(work, earlier)  # of an earlier run
        with mirror_folder(AT, work):
            pass
        asked = len(Bucket.requests)

        def kill(what: str, path: str, last: int = asked + stop) -> None:
            if len(Bucket.requests) > last:
                raise Killed

        monkeypatch.setattr(Bucket, "fault", staticmethod(kill))
        was_killed = False
        try:
            with mirror_folder(AT, work):
                write_steps(work, 3)
        except Killed:
            was_killed = True
        monkeypatch.setattr(Bucket, "fault", None)
        for machine in (tmp_path / f"other-{stop}", work) if stop % 2 else (work, tmp_path / f"other-{stop}"):
            with mirror_folder(AT, machine):
                check_order(files_below(machine))
                write_steps(machine, 3)
            objects = objects_below(AT)
            objects.pop("objects.json")
            wanted = wanted or objects
            assert objects == files_below(machine) == wanted
        if not was_killed:
            assert stop > 8  # a list, its objects, and the list again
            return
    raise AssertionError("it never ended")


def test_what_is_written_while_it_is_put_is_put_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work, writes = tmp_path / "work", [b"once", b"twice"]

    def write(what: str, path: str) -> None:
        if what == "put" and path.endswith("a.json") and writes:
            (work / "a.json").write_bytes(writes.pop(0))

    monkeypatch.setattr(Bucket, "fault", staticmethod(write))
    with mirror_folder(AT, work):
        (work / "a.json").write_bytes(b"at first")
        (work / "b.json").write_bytes(b"the last")
    objects = objects_below(AT)
    index = json.loads(objects.pop("objects.json"))["objects"]
    assert objects == files_below(work) == {"a.json": b"twice", "b.json": b"the last"}
    assert {len(digests) for digests in index.values()} == {1}

    writes += [b"1", b"22", b"333", b"4444"]
    said = f"^somebody writes in {work}, so not all of it is in {AT}; nothing that was"
    with pytest.raises(StoreError, match=said), mirror_folder(AT, work):
        (work / "a.json").write_bytes(b"again")


def test_what_is_put_while_the_run_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "SECONDS", 0.02)
    arrived = threading.Event()

    def look(what: str, path: str) -> None:
        if what == "put" and path.endswith("record.json"):
            arrived.set()

    monkeypatch.setattr(Bucket, "fault", staticmethod(look))
    with mirror_folder(AT, tmp_path / "work"):
        write_steps(tmp_path / "work", 2)
        assert arrived.wait(60)


def test_faults_meanwhile_are_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mirror, "SECONDS", 0.02)
    tries: list[str] = []
    tried_thrice = threading.Event()

    def fail(what: str, path: str) -> None:
        if what == "put" and path.endswith("0.bin"):
            tries.append(path)
            if len(tries) > 2:
                tried_thrice.set()
                return
            raise OSError("500 Internal Server Error")

    monkeypatch.setattr(Bucket, "fault", staticmethod(fail))
    with mirror_folder(AT, tmp_path / "work"):
        write_steps(tmp_path / "work", 1)
        assert tried_thrice.wait(60)
    said = capsys.readouterr().err
    assert said.count(f"cannot put {AT}/shards/0.bin: 500 Internal Server Error; the run goes on, and what it") == 1
    objects = objects_below(AT)
    objects.pop("objects.json")
    assert objects == files_below(tmp_path / "work")


def test_what_is_in_a_folder_that_cannot_be_listed_stays_in_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirror_folder(AT, tmp_path / "work"):
        write_steps(tmp_path / "work", 3)
    before = files_below(tmp_path / "work")

    def write_more() -> None:
        with mirror_folder(AT, tmp_path / "work"):
            (tmp_path / "work" / "another").write_text("another")
            refuse_listing(monkeypatch, "shards")

    with pytest.raises(StoreError, match=r"Permission denied: .*shards'; nothing that was computed is lost"):
        write_more()
    assert before.items() <= objects_below(AT).items()


def test_a_folder_that_is_taken_away_takes_nothing_from_the_bucket(tmp_path: Path) -> None:
    """As a disk that is unmounted while the run works."""
    work = tmp_path / "work"
    with mirror_folder(AT, work):
        write_steps(work, 3)
    before = files_below(work)

    def lose() -> None:
        with mirror_folder(AT, work):
            work.rename(tmp_path / "away")

    with pytest.raises(StoreError, match=r"work, where the run of .* is worked on, is gone; what was put before stays"):
        lose()
    assert before.items() <= objects_below(AT).items()
    with mirror_folder(AT, work):
        pass
    assert files_below(work) == before


def test_a_fault_at_the_end_says_where_everything_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(what: str, path: str) -> None:
        if what == "put" and path.endswith("record.json"):
            raise OSError("500 Internal Server Error")

    monkeypatch.setattr(Bucket, "fault", staticmethod(fail))
    work = tmp_path / "work"
    with pytest.raises(StoreError) as refused, mirror_folder(AT, work):
        write_steps(work, 2)
    assert str(refused.value) == (
        f"cannot put {AT}/record.json: 500 Internal Server Error; nothing that was computed is lost: it is in {work}, "
        "and the same command goes on from there"
    )
    monkeypatch.setattr(Bucket, "fault", None)
    Bucket.requests.clear()
    with mirror_folder(AT, work):
        pass
    puts = [path for what, path in Bucket.requests if what == "put" and not path.endswith("objects.json")]
    assert puts[-1] == "/bucket/runs/x/record.json"
    objects = objects_below(AT)
    objects.pop("objects.json")
    assert objects == files_below(work)


def test_what_went_wrong_in_the_run_is_what_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(what: str, path: str) -> None:
        if what == "put" and path.endswith(".bin"):
            raise OSError("500 Internal Server Error")

    monkeypatch.setattr(Bucket, "fault", staticmethod(fail))

    def work() -> None:
        with mirror_folder(AT, tmp_path / "work"):
            write_steps(tmp_path / "work", 1)
            raise ValueError("of the run")

    with pytest.raises(ValueError, match="of the run"):
        work()


def test_two_runs_at_once_are_noticed(tmp_path: Path) -> None:
    def work() -> None:
        with mirror_folder(AT, tmp_path / "one"):
            write_steps(tmp_path / "one", 1)
            with mirror_folder(AT, tmp_path / "other"):
                write_steps(tmp_path / "other", 2)

    with pytest.raises(StoreError, match=f"^another run writes to {AT}, or its objects.json was removed: let one run"):
        work()
    objects = objects_below(AT)
    objects.pop("objects.json")
    assert objects == files_below(tmp_path / "other")


def test_an_object_that_is_damaged_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mirror_folder(AT, tmp_path / "one"):
        write_steps(tmp_path / "one", 2)
    put(f"{AT}/record.json", b"{}")
    put(f"{AT}/foreign.txt", b"of somebody else")
    with mirror_folder(AT, tmp_path / "other"):
        assert set(files_below(tmp_path / "other")) == set(files_below(tmp_path / "one")) - {"record.json"}
        assert f"1 objects of {AT} are not what was put there, and are left: record.json" in capsys.readouterr().err
        (tmp_path / "other" / "record.json").write_text('{"steps": 2}')
    assert objects_below(AT)["foreign.txt"] == b"of somebody else"


def test_a_listing_is_never_relied_on(tmp_path: Path) -> None:
    with mirror_folder(AT, tmp_path / "one"):
        write_steps(tmp_path / "one", 2)
    Bucket.unlisted.update(f"/bucket/runs/x/{name}" for name in files_below(tmp_path / "one"))
    Bucket.requests.clear()
    with mirror_folder(AT, tmp_path / "other"):
        assert files_below(tmp_path / "other") == files_below(tmp_path / "one")
    assert not [path for what, path in Bucket.requests if what == "list"]


@pytest.mark.parametrize(
    "content",
    [b"\xff", b"[]", b'{"run": "a", "objects": []}', b'{"run": "a", "objects": {"../../outside": ["0"]}}',
     b'{"run": "a", "objects": {"/outside": ["0"]}}', b'{"run": "a", "objects": {}, "digest": "0"}'],
)  # fmt: skip
def test_a_list_of_objects_that_is_none_of_ours(content: bytes, tmp_path: Path) -> None:
    put(f"{AT}/objects.json", content)
    with (
        pytest.raises(StoreError, match=f"^{AT}/objects.json is damaged, or none of handpick's: remove it and run"),
        mirror_folder(AT, tmp_path / "work"),
    ):
        raise AssertionError
    assert not list(tmp_path.glob("**/outside"))


def test_a_bucket_that_cannot_be_read_is_said_before_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(what: str, path: str) -> None:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(Bucket, "fault", staticmethod(fail))
    with (
        pytest.raises(StoreError, match=f"^cannot fetch {AT}/objects.json: Access Denied$"),
        mirror_folder(AT, tmp_path / "work"),
    ):
        raise AssertionError


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = f"^cannot write {tmp_path}/file/work, where the run of {AT} is worked on: Not a directory; free space there"
    with pytest.raises(StoreError, match=said), mirror_folder(AT, tmp_path / "file" / "work"):
        raise AssertionError


def test_a_run_has_the_same_files_in_a_bucket_as_in_a_folder(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, query = write_jsonl(tmp_path / "pool.jsonl", POOL), write_jsonl(tmp_path / "dev.jsonl", POOL[:2])
    settings: dict[str, Any] = {
        "pool": str(pool), "query": str(query), "model": str(bundled.model_path()), "method": "rds+", "budget": 4,
        "max_length": 32,
    }  # fmt: skip
    of_folder = handpick.select(**settings, out="folder")
    of_bucket = handpick.select(**settings, out=f"{root}/x")

    assert of_bucket.ids == of_folder.ids
    files, objects = files_below(Path("folder")), objects_below(f"{root}/x")
    assert set(objects) - {"objects.json"} == set(files)
    differ = {name for name, content in files.items() if objects[name] != content}
    assert differ == {"cost.json", "selection.json", "settings.yaml"}  # the latter two name the folder
    for name in ("selection.json", "settings.yaml"):
        assert f"{root}/x" in objects[name].decode()
    before = objects_below(f"{root}/x")
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "another machine"))
    again = handpick.select(**settings, out=f"{root}/x")
    assert again.ids == of_folder.ids
    after = objects_below(f"{root}/x")
    assert {name for name in after if after[name] != before.get(name)} == {"cost.json", "objects.json"}
    if not root.startswith("bucket:"):
        return

    def kill(what: str, path: str) -> None:
        if what == "put" and path.endswith("selection.json"):
            raise Killed

    Bucket.empty()
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "a machine that dies"))
    monkeypatch.setattr(Bucket, "fault", staticmethod(kill))
    with pytest.raises(Killed):
        handpick.select(**settings, out=f"{root}/x")
    monkeypatch.setattr(Bucket, "fault", None)
    assert "selection.json" not in objects_below(f"{root}/x")
    monkeypatch.setenv("HANDPICK_CACHE", str(tmp_path / "the next one"))
    handpick.select(**settings, out=f"{root}/x")
    after = objects_below(f"{root}/x")
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {"cost.json", "objects.json"}


def test_what_a_bucket_is_not_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from handpick.auditions.run import PreparedAudition
    from handpick.auditions.settings import AuditionSettings
    from handpick.own_folder import check_page, hold_folder
    from handpick.selection import Selection

    def refused(error: type[HandpickError]) -> Any:
        return pytest.raises(error, match=r"bucket|lies where|is held in a folder")

    with refused(StoreError), hold_folder(Path("s3://bucket/x")):
        raise AssertionError
    with refused(StoreError):
        Selection.open("s3://bucket/x")
    with refused(SettingsError):
        check_page(Path("s3://bucket/x.html"), {})
    with refused(SettingsError):
        Settings(pool=["s3://b/runs/x/selected.jsonl"], out="s3://b/runs/x")
    own = AuditionSettings.from_values({"methods": ["rds+", "bm25"]})
    with refused(SettingsError):
        PreparedAudition({"pool": ["a.jsonl"], "query": ["b.jsonl"], "out": "s3://b/runs/x", "model": "m"}, own)


def test_names_of_a_run_in_a_bucket(tmp_path: Path) -> None:
    settings = Settings(out="s3://b/runs/x/")
    assert settings.folder.is_relative_to(tmp_path / "cache" / "runs")
    assert settings.folder.name == "x"
    assert settings.folder == Settings(out="s3://b/runs/x").folder
    assert settings.name_of(settings.folder / "a" / "b.json") == "s3://b/runs/x/a/b.json"
    assert Settings(out="runs/x").name_of(Path("runs/x/a")) == "runs/x/a"
    assert MirrorLayout(Path("x")).index == Path("x/objects.json")
