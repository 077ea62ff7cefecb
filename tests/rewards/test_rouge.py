import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.errors import SettingsError
from handpick.rewards import rouge
from handpick.rewards.rouge import RougeL, rouge_l


@pytest.mark.parametrize(
    ("completion", "reference", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004, section 3.1: three of four
        ("the gunman kill police", "police kill the gunman", 0.5),  # two in the same order
        ("the cat", "the cat sat down", 2 * 1 * 0.5 / 1.5),
        ("The CAT!", "the cat", 1.0),
        ("", "the cat", 0.0),
        ("столица России", "Столица России.", 1.0),
        ("столица Чехии", "столица России", 0.5),
        ("北京市", "北京", 0.8),
        ("हिन्दी", "हिन्दी", 1.0),
        ("café", "cafe", 0.0),
    ],
)
def test_rouge_l(completion: str, reference: str, expected: float) -> None:
    assert rouge_l(completion, reference) == pytest.approx(expected)


@given(one=st.text(alphabet="abc 1_-.'"), other=st.text(alphabet="abc 1_-.'"))
def test_on_ascii_it_is_the_packages_own(one: str, other: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    assert rouge_l(one, other) == RougeScorer(["rougeL"]).score(other, one)["rougeL"].fmeasure


def test_the_best_reference_counts() -> None:
    assert RougeL()([[]], ["the cat"], [{"answers": ["a dog", "the cat"]}]) == [1.0]


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    rouge._scorer.cache_clear()
    with pytest.raises(SettingsError, match=r"rouge-l needs rouge-score: pip install 'handpick\[rouge\]'"):
        RougeL()
