"""The rounds of an audition, by successive halving: the better half of the candidates goes on, and learns more each.

Halving is Jamieson and Talwalkar's (AISTATS 2016, arXiv 1502.07943); what a round is made of is ours. Random draws are
in every round. The last round has two candidates at most, all repeats, and decides.
"""

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from handpick.auditions.folds import HALVES

FEW_QUERIES = 64  # up to so many are split again and again
_LEAST = 16  # examples that a candidate is trained on


@dataclass(frozen=True, slots=True)
class AuditionRound:
    """One round: how many candidates are in it, how many examples each teaches, how often the queries are split, and
    how many random draws there are."""

    candidates: int
    examples: int
    repeats: int
    draws: int

    def trainings_of(self, targets: int) -> int:
        """Return how many fine-tunings it takes with so many targets; the draws serve all."""
        return self.candidates * self.repeats * HALVES * targets + self.draws

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_rounds(candidates: int, budget: int, share: float, repeats: int, draws: int) -> list[AuditionRound]:
    """Return the rounds.

    Args:
        candidates: how many there are, random draws not counted.
        budget: examples that are to be chosen in the end.
        share: of the budget, that a candidate is trained on in the last round; half of it in the round before, and so
            on.
        repeats: how often the queries are split in the last round; once in the others.
        draws: random draws in the last round; two in the others.
    """
    left = [candidates]
    while left[-1] > 2:
        left.append(ceil(left[-1] / 2))
    rounds = []
    for number, n in enumerate(left):
        is_last = number == len(left) - 1
        part = share / 2 ** (len(left) - 1 - number)
        examples = min(budget, max(_LEAST, round(budget * part)))
        rounds.append(AuditionRound(n, examples, repeats if is_last else 1, draws if is_last else min(2, draws)))
    return rounds


def repeats_of(queries: int) -> int:
    """Return how often so many queries are split in the last round, where the user does not say."""
    return 2 if queries <= FEW_QUERIES else 1
