"""Two selections on one page: what both have, what each has alone, query by query."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import handpick
from handpick.compare import compare
from handpick.errors import DataError, SettingsError
from handpick.reporting.comparison import write_comparison
from handpick.reporting.write import write_report
from handpick.selection import Selection
from tests.reporting.conftest import Page, record
from tests.reporting.test_hostile_text import SCRIPT

Read = Callable[[Path], Page]


@pytest.fixture(scope="module")
def two(files: dict[str, Path], by_words: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Twenty by words in turn, and thirty by the mean."""
    other = tmp_path_factory.mktemp("other") / "mean"
    given = {"method": "bm25", "algorithm": "mean-max", "budget": 30, "out": str(other)}
    handpick.select(str(files["pool"]), str(files["query"]), **given)
    return by_words, other


def test_its_numbers_are_those_of_the_command(two: tuple[Path, Path], page: Read) -> None:
    found = page(write_comparison(*two))
    a, b = (Selection.open(folder) for folder in two)
    expected = compare(a, b)
    figures = dict(zip(found.all("dt"), found.all("dd"), strict=True))
    assert figures["in both"] == str(expected.common)
    assert figures["in A alone"] == str(len(expected.only_a.ids))
    assert figures["in B alone"] == str(len(expected.only_b.ids))
    assert float(figures["Jaccard index"]) == pytest.approx(expected.jaccard, abs=1e-3)
    text = " ".join(found.all("main"))
    assert all(each in text for each in (*expected.only_a.ids, *expected.only_b.ids))
    assert "mean-max" in text
    assert found.all("h1") == ["words and mean"]


def test_ranks_move_from_one_to_the_other(two: tuple[Path, Path], page: Read) -> None:
    found = page(write_comparison(*two))
    a, b = (Selection.open(folder).ids for folder in two)
    moves = sorted((a.index(each) - b.index(each) for each in a if each in b), key=abs, reverse=True)
    start = next(n for n, each in enumerate(found.elements) if each[1].get("id") == "moved")
    end = next(n for n, each in enumerate(found.elements) if each[1].get("id") == "only-a")
    cells = [attributes["data-value"] for tag, attributes, _ in found.elements[start:end] if "data-value" in attributes]
    shown = [[int(value or "") for value in cells[at : at + 3]] for at in range(0, len(cells), 3)]
    assert [abs(moved) for _, _, moved in shown] == [abs(each) for each in moves]
    assert all(in_a - in_b == moved and a[in_a - 1] == b[in_b - 1] for in_a, in_b, moved in shown)


def test_a_selection_beside_itself(by_words: Path, tmp_path: Path, page: Read) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(by_words, copy)
    out = tmp_path / "out"
    found = page(write_report(by_words, copy, out=out))
    assert (out / "comparison.html").exists()
    assert found.all("p", class_="note").count("Nothing.") == 2
    assert {each.split(":")[0] for each in found.all("h4")} == {"Picked for it by both"}
    assert write_comparison(by_words, copy, out).read_bytes() == (out / "comparison.html").read_bytes()


def test_hostile_text_stays_text(chosen_from: Callable[..., Path], tmp_path: Path, page: Read) -> None:
    pool = [record(n, f"word {n} {SCRIPT}", SCRIPT, source=SCRIPT) for n in range(4)]
    folder = chosen_from(pool, [record(9, f"word {SCRIPT}", "b")], budget=3)
    other = tmp_path / "other"
    handpick.select(str(tmp_path / "p.jsonl"), method="random", budget=2, out=str(other))
    found = page(write_comparison(folder, other))
    assert not [tag for tag, _, _ in found.elements if tag == "img"]
    assert len([tag for tag, _, _ in found.elements if tag == "script"]) == 1


def test_what_does_not_go_together_is_refused(by_words: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no selection"):
        write_report(by_words, tmp_path)
    with pytest.raises(SettingsError, match="leave --test and --published out"):
        write_report(by_words, by_words, tests=["x.jsonl"])
