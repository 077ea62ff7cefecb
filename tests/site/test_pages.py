"""Every block of Start, the tutorials and the how-tos runs as it stands, on what ships with handpick."""

import gzip
import socket
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import yaml

from handpick import bundled
from tests.site.pages import DOCS, Reader, blocks_of, check_said

PAGES = sorted(path.name for path in DOCS.glob("*.md") if path.name.startswith(("start", "tutorial_", "how_to_")))
ELSEWHERE = ("start.md", "tutorial_bucket.md")  # by tests of their own: the latter needs an S3 server
PORT = "8765"  # of the servers that pages start


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cut(path: Path, folder: Path, count: int) -> Path:
    """The first lines of a file that ships."""
    part = folder / path.name
    with gzip.open(path, "rt", encoding="utf-8") as lines, gzip.open(part, "wt", encoding="utf-8") as written:
        written.writelines(islice(lines, count))
    return part


def test_all_are_found() -> None:
    assert {"start.md", "tutorial_train.md", "tutorial_method.md", "tutorial_report.md"} <= set(PAGES)
    assert sum(name.startswith("how_to_") for name in PAGES) == 3


@pytest.mark.timeout(900)  # a busy machine is no fault of a page
@pytest.mark.parametrize("page", [name for name in PAGES if name not in ELSEWHERE])
def test_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # as python has it where a page writes modules of its own
    port = str(free_port())
    with Reader(page) as reader:
        for block in blocks_of(page):
            reader.follow(replace(block, text=block.text.replace(PORT, port)))


@pytest.mark.timeout(900)
def test_start_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo on what a test has time for; `test_the_demo_as_it_is` takes the whole of it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    reader = Reader("start.md")
    demo, *others = blocks_of("start.md")
    assert demo.text.startswith("$ handpick demo")
    pool = [cut(path, tmp_path, count) for path, count in zip(bundled.pool_paths(), (112, 6), strict=True)]
    query = cut(bundled.target_path("gsm8k"), tmp_path, 6)
    with monkeypatch.context() as patch:
        patch.setattr(bundled, "pool_paths", lambda: pool)
        patch.setattr(bundled, "target_path", lambda name: query)
        reader.follow(demo, any_number=True)
    for block in others:
        reader.follow(block)


@pytest.mark.slow  # three minutes: a warmup and the gradients of 2,500 examples
@pytest.mark.timeout(1800)
def test_the_demo_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Reader("start.md").follow(blocks_of("start.md")[0])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a\nb 3\n", ["a"]),  # more is said
        ("a\nb 3\n", ["…", "b 4"]),  # another number
        ("a\nx\nb\n", ["a", "b"]),  # a line between
        ("a\nb\n", ["…", "b", "a", "…"]),  # another order
    ],
)
def test_a_transcript_that_is_wrong_is_noticed(said: str, expected: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_said(said, expected, "x")


def test_a_transcript_that_is_right_passes() -> None:
    check_said("a 1.5\nb 3 took 2 s\n\nc\n", ["a 1.7", "…", "c"], "x")
    check_said("a 1.5\nb 3 took 2 s\n", ["…", "b 3 took 9 s"], "x")


def test_every_page_has_a_place_in_the_site() -> None:
    text = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    nav = yaml.safe_load(text)["nav"]

    def names(part: object) -> set[str]:
        if isinstance(part, str):
            return {part}
        parts = part.values() if isinstance(part, dict) else part
        return set().union(*map(names, parts))  # type: ignore[call-overload]

    assert {path.name for path in DOCS.glob("*.md")} <= names(nav)
