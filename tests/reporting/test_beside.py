"""The head of a page: each query with its picks, the words marked that they share, and how they were chosen."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import handpick
from handpick.data.words import words_of
from handpick.reporting.lead import lead_of
from handpick.reporting.run_folder import open_run
from handpick.reporting.selection import write_selection_report
from handpick.reporting.shared_words import TellingWords, mark_words
from tests.reporting.conftest import Page, record
from tests.reporting.test_hostile_text import SCRIPT

Read = Callable[[Path], Page]


@given(
    st.text(alphabet=st.sampled_from("aAbé́ß_ .-模型हिका7ก\U00020000<")),
    st.sets(st.sampled_from(["a", "b", "ab", "é", "模", "हि", "7", "ss"])),
)
def test_pieces_are_the_text_and_what_is_marked_is_a_word(text: str, words: set[str]) -> None:
    pieces = mark_words(text, words)
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)
    marked = [word for piece, is_marked in pieces if is_marked for word in words_of(piece)]
    assert set(marked) == set(words_of(text)) & words
    assert len(marked) == sum(word in words for word in words_of(text))


def test_a_word_is_marked_in_any_case_and_as_a_whole() -> None:
    assert mark_words("Cats, cat_s and CATS", {"cats"}) == [("Cats", True), (", cat_s and ", False), ("CATS", True)]
    assert mark_words("学模型。", {"模"}) == [("学", False), ("模", True), ("型。", False)]


def test_words_of_a_tenth_of_the_pool_are_telling() -> None:
    texts = ["the cow"] + ["the hen"] * 2 + ["the"] * 17
    words = TellingWords.count(texts)
    assert words.shared("the cow and the hen", "a HEN, the Cow") == {"cow", "hen"}
    assert TellingWords.count([*texts[:19], "hen"]).shared("hen cow", "cow hen") == {"cow"}
    assert TellingWords().shared("a cows cow", "cow cows a") == {"cows"}
    assert "10% of the pool" in words.rule
    assert "20 of its examples" in words.rule


def test_each_query_stands_with_its_picks(by_words: Path, page: Read) -> None:
    found, run = page(write_selection_report(by_words)), open_run(by_words)
    headings = [each for each in found.all("h3") if each.startswith("Query ")]
    assert headings == [f"Query {each}" for each in dict.fromkeys(pick.picked_for for pick in run.picks)]
    heads = found.all("p", class_="head")
    shown: dict[str | None, list[int]] = {}
    for pick in run.picks:
        shown.setdefault(pick.picked_for, []).append(pick.rank)
    expected = [rank for ranks in shown.values() for rank in ranks[:3]]
    assert [int(re.findall(r"\d+", head)[0]) for head in heads] == expected
    assert found.elements.index(next(e for e in found.elements if e[1].get("id") == "chosen")) < found.elements.index(
        next(e for e in found.elements if e[1].get("id") == "look")
    )


def test_shared_words_are_marked_and_markup_is_text(chosen_from: Callable[..., Path], page: Read) -> None:
    pool = [record(0, f"zebra crossing {SCRIPT}", "striped"), *(record(n, f"plain {n}", "b") for n in range(1, 30))]
    folder = chosen_from(pool, [record(50, f"Zebra? {SCRIPT}", "striped")], budget=1)
    found = page(write_selection_report(folder))
    marked = [each.casefold() for each in found.all("mark")]
    assert {"zebra", "striped", "alert"} <= set(marked)
    assert "crossing" not in marked
    assert not [tag for tag, _, _ in found.elements if tag == "img"]


def test_picks_for_no_query_stand_alone(files: dict[str, Path], tmp_path: Path, page: Read) -> None:
    handpick.select(str(files["pool"]), method="random", budget=15, out=str(tmp_path / "run"))
    found = page(write_selection_report(tmp_path / "run"))
    assert "For no single query" in found.all("h3")
    assert len(found.all("p", class_="head")) == 12
    assert not found.all("mark")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "by bm25 (bm25, round-robin)."),
        ({"algorithm": "mean-max"}, "by bm25 with mean-max."),
        ({"method": "less", "representation": "bm25"}, "by mean-max over bm25."),
    ],
)
def test_the_lead_names_what_chose(chosen_from: Callable[..., Path], settings: dict[str, Any], said: str) -> None:
    folder = chosen_from(
        [record(n, f"zebra {n}", "b") for n in range(5)], [record(50, "zebra", "b")], budget=2, **settings
    )
    assert lead_of(open_run(folder)) == f"2 of 5 examples, chosen for 1 query {said}"


def test_the_lead_of_a_pool_that_is_gone(by_words: Path, files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    pool = tmp_path / "pool.jsonl"
    pool.write_bytes(files["pool"].read_bytes())
    handpick.select(str(pool), method="random", budget=3, out=str(out))
    pool.unlink()
    assert lead_of(open_run(out)) == "3 examples, chosen by random (none, random)."
