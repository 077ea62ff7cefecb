"""The rounds: halved candidates, doubled examples."""

import pytest

from handpick.auditions.plan import CandidateCost, bill, cost_of
from handpick.auditions.rounds import AuditionRound, plan_rounds, repeats_of
from handpick.costs.cost import Amount, StageCost, StageKind


@pytest.mark.parametrize(
    ("candidates", "found"),
    [(1, [(1, 500)]), (2, [(2, 500)]), (3, [(3, 250), (2, 500)]), (8, [(8, 125), (4, 250), (2, 500)])],
)
def test_half_of_them_go_on_and_learn_twice_as_much(candidates: int, found: list[tuple[int, int]]) -> None:
    rounds = plan_rounds(candidates, 1000, 0.5, 2, 4)
    assert [(each.candidates, each.examples) for each in rounds] == found
    assert [each.repeats for each in rounds] == [1] * (len(found) - 1) + [2]
    assert [each.draws for each in rounds] == [2] * (len(found) - 1) + [4]


def test_a_small_budget_is_never_passed() -> None:
    assert [each.examples for each in plan_rounds(8, 10, 0.5, 1, 2)] == [10, 10, 10]
    assert [each.examples for each in plan_rounds(8, 20, 1, 1, 2)] == [16, 16, 20]


def test_few_queries_are_split_twice() -> None:
    assert [repeats_of(n) for n in (8, 64, 65, 1000)] == [2, 2, 1, 1]


def test_a_bill_has_every_choice_training_and_evaluation() -> None:
    costs = {"cheap": CandidateCost(1, 2), "dear": CandidateCost(10, 20), "middle": CandidateCost(3, 5)}
    rounds = [AuditionRound(3, 16, 1, 2), AuditionRound(2, 32, 2, 4)]
    chosen = 2 * (2 + 20 + 5) + 4 * (20 + 5)  # each half chooses, and the dearest two stay in
    trained = (3 * 2 + 2) * 7 + (2 * 4 + 4) * 11
    evaluated = (3 * 2 + 2 + 2 * 4 + 4) * 0.5
    assert bill(costs, rounds, [7, 11], 0.5, 1, 1) == pytest.approx(14 + 20 + chosen + trained + evaluated)
    assert bill(costs, rounds, [7, 11], 0.5, 1, 2) == pytest.approx(14 + 20 + chosen + (trained + evaluated) / 2)
    if_none_wins = bill(costs, rounds, [7, 11], 0.5, 1, 1, all_choose=True)  # then all three choose in the end
    assert if_none_wins == pytest.approx(14 + 27 + chosen + trained + evaluated)
    assert AuditionRound(3, 16, 2, 4).trainings_of(2) == 3 * 2 * 2 * 2 + 4


@pytest.mark.parametrize(("per_query", "found"), [(False, CandidateCost(1 + 20, 3)), (True, CandidateCost(1, 20 + 3))])
def test_what_choices_share_is_paid_once_and_a_pass_for_each_choice_by_each(
    per_query: bool, found: CandidateCost
) -> None:
    took = {StageKind.WARMUP: 1.0, StageKind.QUERY: 3.0, StageKind.POOL: 20.0, StageKind.CHOICE: None}
    stages = [
        StageCost(kind.value, seconds=None if each is None else Amount.exactly(each), kind=kind)
        for kind, each in took.items()
    ]
    assert cost_of(stages, per_query=per_query) == found
