"""The reference answers of the real dev sets get full marks from the reward that fits."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handpick.rewards import find_reward, score
from handpick.rewards.reference import reference_answers
from tests.conftest import records

DATA = Path(os.environ.get("HANDPICK_DATA") or Path(__file__).parents[3] / "shared" / "data")


# The answer alone, and the assistant's turn, which may be a worked solution: not everything is made to read both.
BY_ANSWER = [
    ("gsm8k", "exact-match:last-number"), ("gsm8k", "rouge-l"), ("boolq", "exact-match:true-false"),
    ("boolq", "choice"), ("mmlu", "exact-match:choice"), ("mmlu", "choice"), ("ag_news", "exact-match"),
    ("dbpedia", "exact-match"), ("rotten_tomatoes", "exact-match"), ("bbh", "exact-match"), ("xquad", "squad-f1"),
    ("xquad", "squad-em"), ("xquad", "rouge-l"), ("tydiqa", "squad-f1"), ("tydiqa", "squad-em"),
    ("tydiqa", "rouge-l"),
]  # fmt: skip
BY_TURN = [
    ("gsm8k", "exact-match:last-number"), ("gsm8k", "exact-match:hash"), ("boolq", "exact-match:true-false"),
    ("boolq", "choice"), ("mmlu", "exact-match:choice"), ("mmlu", "choice"), ("ag_news", "exact-match"),
    ("dbpedia", "exact-match"), ("rotten_tomatoes", "exact-match"), ("xquad", "squad-f1"), ("tydiqa", "squad-f1"),
]  # fmt: skip


def not_full_marks(target: str, spec: str, completion: Callable[[dict[str, Any]], str]) -> list[str]:
    path = DATA / "targets" / target / "dev.jsonl.gz"
    if not path.exists():
        pytest.skip(f"no {path}; set HANDPICK_DATA to the folder of the full data set")
    queries = records(path, 10_000)
    prompts, ids = [query["messages"][:-1] for query in queries], [query["id"] for query in queries]
    scores = score(find_reward(spec), prompts, [completion(query) for query in queries], queries, ids)
    return [id_ for id_, value in zip(ids, scores, strict=True) if value != 1.0]


@pytest.mark.data
@pytest.mark.parametrize(("target", "spec"), BY_ANSWER)
def test_the_answer_of_a_record_is_right(target: str, spec: str) -> None:
    assert not_full_marks(target, spec, lambda query: reference_answers(query)[0]) == []


@pytest.mark.data
@pytest.mark.parametrize(("target", "spec"), BY_TURN)
def test_the_turn_of_a_record_is_right(target: str, spec: str) -> None:
    assert not_full_marks(target, spec, lambda query: str(query["messages"][-1]["content"])) == []
