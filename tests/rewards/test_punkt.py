"""Sentences are cut as nltk's punkt cuts them."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handpick import bundled
from handpick.rewards.punkt import sentences
from tests.rewards.nltks_punkt import NLTKS_PUNKT

_KNOWN = [
    "Mr",
    "u.s",
    "p.m",
    "e.g",
    "J",
    "12",
    "-3,000.5",
    "1",
    "the",
    "The",
    "he",
    "Bach",
    "inc",
    "co",
    "a",
    "A",
    "...",
]
_WORDS = st.tuples(
    st.sampled_from(["", "", "", "(", '"', "“", "*", "-"]),
    st.sampled_from(_KNOWN) | st.text(alphabet="abTHeé1一", min_size=1, max_size=4),
    st.sampled_from([".", ".", ".", "!", "?", "?!", "..", "...", ". . .", ",", ":", "--", ""]),
    st.sampled_from(["", "", "", '"', "”", ")", ")]", "'", "»--", "*"]),
    st.sampled_from([" ", " ", " ", "  ", "\n", "\n\n", "\t", "\xa0", ""]),
).map("".join)


@settings(deadline=None, max_examples=400)
@given(st.lists(_WORDS, max_size=9).map("".join) | st.text(alphabet="aT. \n!?\"')1-,"))
def test_sentences_are_nltks(text: str) -> None:
    assert sentences(text) == NLTKS_PUNKT.tokenize(text)


def test_sentences_of_real_records_are_nltks() -> None:
    turns = 0
    for path in bundled.pool_paths():
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in list(lines)[:150]:
                for turn in json.loads(line)["messages"]:
                    turns += 1
                    assert sentences(turn["content"]) == NLTKS_PUNKT.tokenize(turn["content"])
    assert turns == 600


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("1. Wash the rice.\n2. Cook it.", ["1.", "Wash the rice.", "2.", "Cook it."]),
        ("He said (well.) It is so.", ["He said (well.)", "It is so."]),
        ("Mr. J. Bach came at 5 p.m. on Nov. 3. He left.", ["Mr. J. Bach came at 5 p.m. on Nov. 3.", "He left."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences_of_hand_made_texts(text: str, cut: list[str]) -> None:
    assert sentences(text) == cut
