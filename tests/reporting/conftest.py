"""Selections to report on, and a way to read a page as a browser would."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import handpick
from tests.conftest import write_jsonl

VOID = {"meta", "br", "input", "link", "hr", "img"}


class Page(HTMLParser):
    """The elements of a page in order, each with its attributes and all text within it."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said: list[str] = []
        self.elements.append((tag, dict(attrs), said))
        if tag not in VOID:
            self._open.append((tag, said))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        name, _ = self._open.pop()
        assert name == tag, f"</{tag}> closes <{name}>"

    def handle_data(self, data: str) -> None:
        for _, said in self._open:
            said.append(data)

    def all(self, tag: str, **attributes: str) -> list[str]:
        """The text of every element of that name with these attributes, ``class_`` for class."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [
            "".join(said)
            for name, found, said in self.elements
            if name == tag and all(found.get(key) == value for key, value in wanted.items())
        ]

    def data(self) -> Any:
        """What the table of picks is made of."""
        (found,) = self.all("script", id="picks-data")
        return json.loads(found)


@pytest.fixture
def page() -> Callable[[Path], Page]:
    return lambda path: Page(path.read_text(encoding="utf-8"))


Select = Callable[..., Path]


@pytest.fixture(scope="session")
def files(
    pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    return {
        "pool": write_jsonl(folder / "pool.jsonl", pool_records),
        "query": write_jsonl(folder / "query.jsonl", query_records),
    }


@pytest.fixture(scope="session")
def by_words(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty chosen by BM25; read only but for the report."""
    out = tmp_path_factory.mktemp("runs") / "words"
    handpick.select(str(files["pool"]), str(files["query"]), budget=20, method="bm25", out=str(out))
    return out


@pytest.fixture
def chosen_from(tmp_path: Path) -> Select:
    """Chooses from records by BM25, or as is said, and gives the folder."""

    def choose(pool: list[dict[str, Any]], query: list[dict[str, Any]], **settings: Any) -> Path:
        out = tmp_path / "run"
        files = [str(write_jsonl(tmp_path / f"{name}.jsonl", each)) for name, each in (("p", pool), ("q", query))]
        handpick.select(*files, out=str(out), **({"method": "bm25", "budget": len(pool)} | settings))
        return out

    return choose


def record(n: int, prompt: str, answer: str, **fields: Any) -> dict[str, Any]:
    """A record with an id of its own."""
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return {"id": f"r{n}", **fields, "messages": messages}
