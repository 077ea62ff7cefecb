from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.errors import DataError
from handpick.rewards.squad import SquadEM, SquadF1, f1, record_language, same_words, words


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        # SQuAD: lower case, ASCII punctuation goes without leaving a space, then the articles.
        ("The U.S. Army's an  A-team", None, ["us", "armys", "ateam"]),
        ("“quoted”", None, ["“quoted”"]),
        # MLQA
        ("“The quoted” – word", "en", ["quoted", "word"]),
        ("¿El perro y las casas?", "es", ["perro", "y", "casas"]),
        ("Der Hund und eines Tages", "de", ["hund", "und", "tages"]),
        ("những con chó", "vi", ["con", "chó"]),
        ("المدينة", "ar", ["مدينة"]),
        ("北京，2008年 Olympics", "zh", ["北", "京", "2008", "年", "olympics"]),
        # the rest: no articles, and characters where nothing else can be told
        ("The Санкт-Петербург", "ru", ["the", "санктпетербург"]),
        ("東京タワー", "ja", ["東", "京", "タ", "ワ", "ー"]),
        ("ไทย", "th", ["ไ", "ท", "ย"]),
        ("北京", "ko", ["北京"]),
        ("a été", "fr", ["a", "été"]),
    ],
)
def test_words(text: str, language: str | None, expected: list[str]) -> None:
    assert words(text, language) == expected


@pytest.mark.parametrize(
    ("completion", "reference", "language", "expected"),
    [
        ("the cat sat", "a cat sat down", None, 2 * (2 / 2) * (2 / 3) / (2 / 2 + 2 / 3)),  # {cat sat} {cat sat down}
        ("Denver Broncos", "The Denver Broncos!", None, 1.0),
        ("Broncos", "Denver Broncos", None, 2 * 1 * 0.5 / 1.5),
        ("b b b", "b b c", None, 2 / 3),  # two of three each
        ("b b b", "b c", None, 0.4),  # one of three, one of two
        ("Panthers", "Broncos", None, 0.0),
        ("", "Broncos", None, 0.0),
        ("the", "a", None, 0.0),  # no word on either side: 0 in the script of version 1.1, 1 in that of 2.0
        ("", "", "es", 0.0),
        ("北京市", "北京", "zh", 0.8),  # two of three, two of two
        ("北京市", "北京", None, 0.0),
    ],
)
def test_f1_by_hand(completion: str, reference: str, language: str | None, expected: float) -> None:
    assert f1(completion, reference, language) == pytest.approx(expected)


texts = st.text(alphabet="abcthe .,北京ال") | st.text()
languages = st.sampled_from([None, "en", "zh", "ar", "es", "th"])


@given(one=texts, other=texts, language=languages)
def test_f1_is_symmetric_and_from_0_to_1(one: str, other: str, language: str | None) -> None:
    value = f1(one, other, language)
    assert value == f1(other, one, language)
    assert 0.0 <= value <= 1.0
    assert f1(one, one, language) == float(bool(words(one, language)))
    assert same_words(one, one, language) == 1.0
    if words(one, language) or words(other, language):
        assert same_words(one, other, language) <= value


@pytest.mark.parametrize(
    ("record", "language"),
    [
        ({"subtask": "zh"}, "zh"),
        ({"subtask": "chinese"}, "zh"),
        ({"subtask": "Finnish"}, "fi"),
        ({"language": "zh-CN"}, "zh"),
        ({"lang": "fr"}, "fr"),
        ({"language": "es", "subtask": "de"}, "es"),
        ({"language": "eng"}, "en"),
        ({"language": "eng_Latn"}, "en"),
        ({"lang": "zho-Hant"}, "zh"),
        ({"language": "Jpn"}, "ja"),
        ({"language": "fra_Latn"}, "fra"),
        ({"subtask": "deu_Latn"}, "de"),
        ({"subtask": "fin"}, None),
        ({"subtask": "arc_easy"}, None),
        ({"subtask": "abstract_algebra"}, None),
        ({"subtask": "el_nino"}, None),
        ({"subtask": 3}, None),
        ({}, None),
    ],
)
def test_the_record_says_its_language(record: dict[str, Any], language: str | None) -> None:
    assert record_language(record) == language


def test_the_best_reference_counts() -> None:
    record = {"answers": {"text": ["Denver", "Denver Broncos"]}}
    assert SquadF1()([[]] * 2, ["the Denver Broncos", "Panthers"], [record] * 2) == [1.0, 0.0]
    assert SquadEM()([[]] * 2, ["the Denver Broncos", "Broncos"], [record] * 2) == [1.0, 0.0]


def test_language_comes_from_the_record_unless_it_is_given() -> None:
    record = {"answer": "北京", "subtask": "zh"}
    assert SquadF1()([[]], ["北京市"], [record]) == [0.8]
    assert SquadF1("Chinese")([[]], ["北京市"], [{"answer": "北京"}]) == [0.8]
    assert SquadF1("en")([[]], ["北京市"], [record]) == [0.0]


@pytest.mark.parametrize("language", ["en", "eng", "eng_Latn", "EN-gb", "English"])
def test_every_way_to_name_a_language_has_its_articles(language: str) -> None:
    assert SquadF1(language)([[]], ["the cat"], [{"answer": "a cat"}]) == [1.0]
    assert SquadF1()([[]], ["the cat"], [{"answer": "a cat", "language": language}]) == [1.0]


@pytest.mark.parametrize("language", ["zho", "zho_Hans", "chi", "jpn", "jpn_Jpan"])
def test_every_way_to_name_a_language_without_spaces_cuts_it(language: str) -> None:
    assert SquadF1(language)([[]], ["北京市"], [{"answer": "北京"}]) == [0.8]


def test_no_reference_is_an_error() -> None:
    with pytest.raises(DataError, match="the record x1"):
        SquadF1()([[]], ["a"], [{"id": "x1", "messages": [{"role": "user", "content": "?"}]}])
