"""What handpick ships is complete, unseen by its model, and allowed."""

import gzip
import hashlib
import importlib.util
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from handpick import bundled
from handpick.bundled.split import is_unseen, licence, may_train, normalise_messages
from handpick.data.examples import Message
from handpick.errors import DataError, ModelError, SettingsError

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("HANDPICK_DATA") or ROOT / ".." / "shared" / "data")


def read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def messages(record: dict[str, Any]) -> list[Message]:
    return [Message(m["role"], m["content"]) for m in record["messages"]]


def text_of(record: dict[str, Any]) -> str:
    return normalise_messages(messages(record))


def prompt_of(record: dict[str, Any]) -> str:
    return normalise_messages([m for m in messages(record) if m.role == "user"])


@pytest.fixture(scope="module")
def make_pool() -> ModuleType:
    """The script that made the files."""
    spec = importlib.util.spec_from_file_location("make_pool", ROOT / "scripts" / "bundled" / "make_pool.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pool() -> list[dict[str, Any]]:
    return [record for path in bundled.pool_paths() for record in read(path)]


@pytest.fixture(scope="module")
def source_pool() -> list[dict[str, Any]]:
    path = DATA / "pool" / "pool.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the full pool is not at {path}; name its folder with HANDPICK_DATA")
    return read(path)


def test_the_pool_has_its_2500_records_once(pool: list[dict[str, Any]]) -> None:
    assert len(pool) == 2500
    assert len({record["id"] for record in pool}) == 2500
    assert len({text_of(record) for record in pool}) == 2500


def test_each_record_has_the_fields_of_the_source(pool: list[dict[str, Any]]) -> None:
    assert {tuple(record) for record in pool} == {("id", "source", "category", "license", "messages")}


def test_every_record_is_in_the_unseen_third(pool: list[dict[str, Any]]) -> None:
    assert all(is_unseen(messages(record)) for record in pool)


def test_every_licence_allows_shipping(pool: list[dict[str, Any]]) -> None:
    assert not [record["id"] for record in pool if licence(record) is None]


def test_share_alike_stands_in_a_file_of_its_own() -> None:
    permissive, share_alike = ([str(licence(record)) for record in read(p)] for p in bundled.pool_paths())
    assert set(permissive) == {"Apache-2.0", "MIT", "CC BY 4.0"}
    assert set(share_alike) == {"CC BY-SA 3.0", "CC BY-SA 4.0", "CDLA-Sharing-1.0"}


def test_the_licence_page_names_every_source_and_licence(pool: list[dict[str, Any]]) -> None:
    page = (Path(bundled.__file__).parent / "LICENSES.md").read_text(encoding="utf-8")
    assert not {record["source"] for record in pool if f"`{record['source']}`" not in page}
    assert not {licence(record) for record in pool if str(licence(record)) not in page}


@pytest.mark.parametrize("name", bundled.TARGETS)
def test_a_target_has_64_questions_with_answers(name: str) -> None:
    records = read(bundled.target_path(name))
    assert len(records) == 64
    assert len({record["id"] for record in records}) == 64
    assert all([m.role for m in messages(r)] == ["user", "assistant"] and messages(r)[1].content for r in records)


@pytest.mark.parametrize("name", bundled.TARGETS)
def test_no_question_of_a_target_is_in_the_pool(name: str, pool: list[dict[str, Any]]) -> None:
    questions = [prompt_of(record) for record in read(bundled.target_path(name))]
    prompts = [prompt_of(record) for record in pool]
    assert not [question for question in questions if any(question in prompt for prompt in prompts)]


def test_sizes() -> None:
    assert all(path.stat().st_size < 1_500_000 for path in bundled.pool_paths())
    assert all(bundled.target_path(name).stat().st_size < 100_000 for name in bundled.TARGETS)


def test_the_model_is_float16_and_at_most_16_mb() -> None:
    try:
        path = bundled.model_path() / "model.safetensors"
    except ModelError as error:
        pytest.skip(str(error))
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {tensor["dtype"] for name, tensor in header.items() if name != "__metadata__"} == {"F16"}
    assert path.stat().st_size <= 16_000_000


def test_gzip_headers_carry_neither_time_nor_name() -> None:
    for path in [*bundled.pool_paths(), *(bundled.target_path(name) for name in bundled.TARGETS)]:
        header = path.read_bytes()[:10]
        assert header[3] == 0, f"{path.name} carries a file name"
        assert header[4:8] == bytes(4), f"{path.name} carries a time"


def test_writing_twice_gives_the_same_bytes(make_pool: ModuleType, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_pool.write(tmp_path / name / "pool.jsonl.gz", [b'{"id": "1"}', b'{"id": "2"}'])
    first, second = ((tmp_path / name / "pool.jsonl.gz").read_bytes() for name in ("a", "b"))
    assert first == second
    assert gzip.decompress(first) == b'{"id": "1"}\n{"id": "2"}\n'


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(SettingsError, match="no bundled target 'bbh'; choose one of gsm8k, boolq, mbpp"):
        bundled.target_path("bbh")


def test_an_incomplete_installation_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundled, "_root", lambda: tmp_path)
    with pytest.raises(ModelError, match=r"the bundled model is missing from .*; reinstall handpick"):
        bundled.model_path()
    with pytest.raises(DataError, match=r"permissive\.jsonl\.gz is missing; reinstall handpick"):
        bundled.pool_paths()
    with pytest.raises(DataError, match=r"mbpp\.jsonl\.gz is missing; reinstall handpick"):
        bundled.target_path("mbpp")


@pytest.mark.data
def test_nothing_shipped_could_have_trained_the_model(
    pool: list[dict[str, Any]], source_pool: list[dict[str, Any]]
) -> None:
    trained = {text_of(r) for r in source_pool if may_train(r) and not is_unseen(messages(r))}
    assert len(trained) > 20_000
    assert not [record["id"] for record in pool if text_of(record) in trained]


@pytest.mark.data
def test_records_stand_as_in_the_source(pool: list[dict[str, Any]], source_pool: list[dict[str, Any]]) -> None:
    source = {record["id"]: record for record in source_pool}
    assert not [record["id"] for record in pool if source[record["id"]] != record]


@pytest.mark.data
def test_the_script_makes_the_same_files(
    make_pool: ModuleType, source_pool: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["make_pool.py", "--data", str(DATA), "--out", str(tmp_path)])
    make_pool.main()
    shipped = Path(bundled.__file__).parent
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.gz"))
    assert len(made) == 5
    for path in made:  # the text, not the gzip: zlib may differ between machines
        ours, theirs = (gzip.decompress((root / path).read_bytes()) for root in (tmp_path, shipped))
        assert hashlib.sha256(ours).digest() == hashlib.sha256(theirs).digest(), path
