"""One model against another: both answer the same prompts, and each pair of answers has a winner.

A judge is asked in both orders, since it may prefer a place: a win is both orders, or one and a tie in the other
(``handpick.judge.verdicts``). A rule, such as a reward, knows no order. Winning score: (wins − losses)/n + 1, so 1 is
even (as IterSelectTune, Song et al. 2024, arXiv 2410.13464, reports its comparisons).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handpick.errors import DataError
from handpick.evaluation.estimate import Estimate, mean
from handpick.judge.verdicts import Verdict, tally
from handpick.rewards import Reward
from handpick.rewards.protocol import Prompt, Record, score_or_none

_POINTS = {"a": 1.0, "b": -1.0, "tie": 0.0}


@dataclass(frozen=True)
class Match:
    """What came of it for the first model.

    ``flipped`` are the ties in which the two orders named different winners; ``missing`` have no verdict and count
    nowhere else. ``winning_score`` is from 0 (all lost) to 2 (all won).
    """

    wins: int
    ties: int
    losses: int
    flipped: int
    missing: int
    winning_score: Estimate

    def to_json(self) -> dict[str, Any]:
        return {
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "flipped": self.flipped,
            "missing": self.missing,
            "winning_score": self.winning_score.to_json(),
        }


def match(verdicts: Sequence[Verdict], examples: Sequence[str]) -> Match:
    """Count verdicts, with the 95% interval of the winning score over examples.

    Args:
        verdicts: one a prompt.
        examples: what each prompt is a repetition of.

    Raises:
        DataError: not one prompt has a verdict.
    """
    counted = tally(verdicts)
    judged = [(_POINTS[v.outcome], e) for v, e in zip(verdicts, examples, strict=True) if v.outcome is not None]
    if not judged:
        raise DataError(
            f"none of the {len(verdicts):,} prompts has a verdict in both orders; look into the judge's answers"
        )
    found = mean([points for points, _ in judged], [example for _, example in judged])
    winning = Estimate(found.value + 1, found.low + 1, found.high + 1, found.n)
    return Match(counted.a, counted.tie, counted.b, counted.flipped, counted.missing, winning)


def judge_by_rule(
    reward: Reward,
    prompts: Sequence[Prompt],
    answers_a: Sequence[str],
    answers_b: Sequence[str],
    records: Sequence[Record],
    ids: Sequence[str],
) -> list[Verdict]:
    """Let the answer with the higher score win; scores that are the same but for rounding tie.

    A judge that grades may give an answer no grade, and then that prompt has no verdict.

    Raises:
        SettingsError, DataError: as ``handpick.rewards.score``.
        JudgeError: as ``JudgeReward``.
    """
    scores_a, scores_b = (score_or_none(reward, prompts, answers, records, ids) for answers in (answers_a, answers_b))
    verdicts = []
    for a, b in zip(scores_a, scores_b, strict=True):
        if a is None or b is None:
            verdicts.append(Verdict(None, None))
        elif math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12):
            verdicts.append(Verdict("tie", "tie"))
        else:
            verdicts.append(Verdict("a", "a") if a > b else Verdict("b", "b"))
    return verdicts
