from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from handpick.errors import DataError, SettingsError
from handpick.rewards import score
from handpick.rewards.protocol import Prompt, Record

COMPLETIONS = ["a", "bb", "ccc"]
PROMPTS: list[Prompt] = [[{"role": "user", "content": "Say something."}]] * 3
RECORDS: list[Record] = [{"id": "r1"}, {"id": "r2"}, {"id": "r3"}]
IDS = ["r1", "r2", "r3"]


def returning(value: Any) -> Callable[..., Any]:
    def politeness(prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record]) -> Any:
        return value

    return politeness


@pytest.mark.parametrize(
    "scores",
    [
        [0, 0.5, 1],
        (0, 0.5, 1),
        np.array([0, 0.5, 1]),
        np.array([0, 0.5, 1], dtype=np.float16),
        torch.tensor([0, 0.5, 1]),
        torch.tensor([0, 0.5, 1], dtype=torch.bfloat16, requires_grad=True),
        [torch.tensor(0.0), np.float32(0.5), np.int64(1)],
        iter([0, 0.5, 1]),
    ],
)
def test_takes_whatever_holds_numbers(scores: Any) -> None:
    assert score(returning(scores), PROMPTS, COMPLETIONS, RECORDS, IDS) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("scores", [[True, False, True], np.array([True, False, True]), torch.tensor([1, 0, 1]) == 1])
def test_takes_bools(scores: Any) -> None:
    assert score(returning(scores), PROMPTS, COMPLETIONS, RECORDS, IDS) == [1.0, 0.0, 1.0]


def test_nothing_to_score_calls_nothing() -> None:
    def unwilling(*_: Any) -> list[float]:
        raise AssertionError

    assert score(unwilling, [], [], [], []) == []


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([0, 1], r"returned 2 scores for 3 completions, the first of them of the record r1; it must return one number"),
        (0.5, "did not return a list of scores for the record r1; it must return one number a completion"),
        (None, "did not return a list of scores for the record r1"),
        ("good", "did not return a list of scores"),
        ({"a": 1}, "did not return a list of scores"),
        (np.float32(1.0), "did not return a list of scores"),
        ([0, float("nan"), 1], "gave nan to the record r2; a score must be a finite number"),
        (np.array([0, 0, np.inf]), "gave inf to the record r3; a score must be a finite number"),
        ([0, "1", 1], "gave '1' to the record r2; a score must be a finite number"),
        ([None, 0, 1], "gave None to the record r1"),
        (np.zeros((3, 2)), r"gave \[0.0, 0.0\] to the record r1"),
        ([0, 10**400, 1], "to the record r2; a score must be a finite number"),
        ([0, torch.zeros(2), 1], "to the record r2; a score must be a finite number"),
    ],
)
def test_what_is_no_score_is_an_error_that_names_the_record(scores: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as error:
        score(returning(scores), PROMPTS, COMPLETIONS, RECORDS, IDS)
    assert "politeness" in str(error.value)


def test_what_a_function_raises_is_told_with_the_record_it_raised_on() -> None:
    def tone(prompts: Any, completions: Sequence[str], records: Sequence[Record]) -> list[float]:
        return [{"a": 1.0, "ccc": 2.0}[completion] for completion in completions]

    with pytest.raises(SettingsError, match=r"tone raised KeyError: 'bb' on the record r2; mend it and start again"):
        score(tone, PROMPTS, COMPLETIONS, RECORDS, IDS)


def test_what_is_raised_while_scores_are_read_counts_too() -> None:
    def lazy(prompts: Any, completions: Sequence[str], records: Sequence[Record]) -> Any:
        return (1 / (len(completion) - 2) for completion in completions)

    with pytest.raises(SettingsError, match=r"lazy raised ZeroDivisionError: .* on the record r2"):
        score(lazy, PROMPTS, COMPLETIONS, RECORDS, IDS)


def test_many_samples_of_one_record_name_it_without_asking_again() -> None:
    calls = []

    def broken(prompts: Any, completions: Sequence[str], records: Any) -> list[float]:
        calls.append(len(completions))
        raise RuntimeError("out of\nluck")

    with pytest.raises(SettingsError, match="raised RuntimeError: out of luck on the record r1"):
        score(broken, PROMPTS, COMPLETIONS, [RECORDS[0]] * 3, ["r1"] * 3)
    assert calls == [3]


def test_a_failure_of_the_whole_batch_alone_names_the_first_and_last() -> None:
    def greedy(prompts: Any, completions: Sequence[str], records: Any) -> list[float]:
        if len(completions) > 1:
            raise MemoryError
        return [0.0]

    with pytest.raises(SettingsError, match="raised MemoryError on the records r1 to r3, though on none of them alone"):
        score(greedy, PROMPTS, COMPLETIONS, RECORDS, IDS)


def test_an_error_of_handpicks_own_passes_as_it_is() -> None:
    def strict(*_: Any) -> list[float]:
        raise DataError("no reference answer in the record r2")

    with pytest.raises(DataError, match=r"^no reference answer in the record r2$"):
        score(strict, PROMPTS, COMPLETIONS, RECORDS, IDS)
