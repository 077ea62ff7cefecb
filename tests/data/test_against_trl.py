"""Tokens and labels of 300 varied records under ten of TRL's training templates, held to TRL's own collator."""

from collections import Counter
from pathlib import Path

import pytest

from tests.data.against_trl import KNOWN, Compared, compare_family, make_records, training_families


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[Compared]:
    scratch: Path = tmp_path_factory.mktemp("trl")
    return [each for family in training_families() for each in compare_family(family, make_records(30), scratch)]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tokens_and_labels_are_those_of_trl(compared: list[Compared]) -> None:
    assert len(compared) == 300
    assert sum(each.equal for each in compared) >= 285
    others = [each for each in compared if not each.equal and each.kind not in KNOWN]
    assert not others


def test_the_differences_are_of_the_kinds_that_are_named(compared: list[Compared]) -> None:
    kinds = Counter(each.kind for each in compared if not each.equal)
    assert kinds == {"weights": 10, "call": 4}
    assert {each.why for each in compared if each.kind == "weights" and not each.equal} == {"labels"}
