"""Words as a reader of the language sees them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.data.words import words_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't say snake_case, say 3 things!", ["don", "t", "say", "snake", "case", "say", "3", "things"]),
        ("हिन्दी भाषा में।", ["हिन्दी", "भाषा", "में"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("বাংলা_ভাষা", ["বাংলা", "ভাষা"]),
        ("Cafe\u0301 CAFÉ", ["café", "café"]),
        ("我喜欢 pandas。", ["我", "喜", "欢", "pandas"]),
        ("Straße — ΟΔΟΣ", ["strasse", "οδοσ"]),
        ("", []),
        ("\u0301 _ !", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    assert words_of(text) == found


@given(st.text(st.characters(codec="latin-1")))
def test_without_marks_they_are_runs_of_letters_and_digits(text: str) -> None:
    assert words_of(text) == re.findall(r"[^\W_]+", text.casefold())
