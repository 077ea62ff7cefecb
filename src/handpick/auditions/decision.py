"""Who goes on after a round, and who is taken after the last: by what the other half of the queries says, and what each
candidate costs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.auditions.estimate import Floats, Gain, Judges, can_move, gain_over_other, gain_over_random
from handpick.auditions.rounds import AuditionRound
from handpick.auditions.values import RoundValues
from handpick.errors import DataError
from handpick.evaluation.metrics import larger_is_better

LOSS = "loss"
_TAIL = 0.05  # that one of the intervals is wrong
_SAME_COST = 1.25  # times as many seconds: two probes of the same work may differ by it
_SAME_SECONDS = 5.0  # and by these, however little the work: probes of bm25 in half a second differed by a third


@dataclass(frozen=True, slots=True)
class Placing:
    """A candidate in a round: its gain over random draws by the metric that judges, and by the loss where the queries
    have answers."""

    candidate: str
    value: float
    random: float
    gain: Gain
    loss_gain: Gain | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RoundResult:
    """What a round has found. ``metric`` is what judges, the loss where the metric that was asked for cannot move;
    ``lines`` go by gain, the best first; ``kept`` go on."""

    round: AuditionRound
    metric: str
    lines: list[Placing]
    kept: list[str]
    failed: dict[str, str]
    queries: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Decision:
    """Who is taken (None: nobody beat random) and why, in a sentence."""

    winner: str | None
    why: str


def judge_round(
    round_: AuditionRound, values: RoundValues, judges: Judges, metric: str, n_candidates: int, keep: int
) -> RoundResult:
    """Hold every candidate against the random draws, and keep the best.

    Args:
        round_: which.
        values: what was found.
        judges: of the queries.
        metric: that was asked for.
        n_candidates: of the whole audition: each interval is as much wider.
        keep: how many go on.

    Raises:
        DataError: no query has a value on every model.
    """
    by_loss = _values_in(LOSS, values, judges)
    has_loss = len(by_loss.judges.group_Q) > 0
    used = LOSS if metric == LOSS or (has_loss and not _moves(metric, values)) else metric
    by_used = by_loss if used == LOSS else _values_in(used, values, judges)
    seen = len(by_used.judges.group_Q)
    if not seen:
        raise DataError(f"no query has a value in {used}, so that nothing can be judged: look at the queries' answers")
    lines = [_place(name, by_used, by_loss if has_loss else None, 1 - _TAIL / n_candidates) for name in by_used.own]
    lines.sort(key=lambda line: -line.gain.mean)
    return RoundResult(round_, used, lines, [line.candidate for line in lines[:keep]], dict(values.failed), seen)


@dataclass(frozen=True)
class _InMetric:
    """The values in one metric, of the queries alone that have one of every candidate and draw."""

    own: dict[str, Floats]
    draws: Floats
    judges: Judges
    sign: int

    def gain(self, name: str, confidence: float) -> Gain:
        """Return a candidate's gain over the random draws."""
        return gain_over_random(self.own[name], self.draws, self.judges, self.sign, confidence)


def _values_in(metric: str, values: RoundValues, judges: Judges) -> _InMetric:
    has_Q: NDArray[np.bool_] = np.all(np.isfinite(values.draws[metric]), axis=0)
    for value_JQ in values.own[metric].values():
        has_Q = has_Q & np.isfinite(value_JQ).any(axis=0)
    own = {name: value_JQ[:, has_Q] for name, value_JQ in values.own[metric].items()}
    return _InMetric(own, values.draws[metric][:, has_Q], judges.among(has_Q), 1 if larger_is_better(metric) else -1)


def _moves(metric: str, values: RoundValues) -> bool:
    return can_move([*values.own[metric].values(), values.draws[metric]])


def _place(name: str, by_used: _InMetric, by_loss: _InMetric | None, confidence: float) -> Placing:
    weight_Q = by_used.judges.weight_Q
    return Placing(
        name,
        float(np.nanmean(by_used.own[name], axis=0) @ weight_Q),
        float(by_used.draws.mean(axis=0) @ weight_Q),
        by_used.gain(name, confidence),
        None if by_loss is None else by_loss.gain(name, confidence),
    )


def decide(
    result: RoundResult, values: RoundValues, judges: Judges, seconds: Mapping[str, float], n_candidates: int
) -> Decision:
    """Take the best of those that clearly beat random, or one that is as good as it and clearly cheaper.

    Of several that cost about the least of all that are level, it is the best of them.

    Args:
        result: of the last round.
        values: what it found.
        judges: of the queries.
        seconds: that a choice by each candidate takes, as planned.
        n_candidates: of the whole audition.
    """
    clear = [line for line in result.lines if line.gain.is_clear]
    confidence = f"{1 - _TAIL / n_candidates:.1%} interval"
    draws = f"{result.round.draws} random draws"
    if not _moves(result.metric, values):
        return Decision(
            None,
            f"nothing beat random here: {result.metric} is the same on every query for every model that was trained, "
            "and there is nothing else to judge by",
        )
    if not clear:
        return Decision(None, f"nothing beat random here: {_said(result.lines, result.metric, draws, confidence)}")
    best = clear[0]
    found = _values_in(result.metric, values, judges)

    def is_as_good(line: Placing) -> bool:
        own, others = found.own[best.candidate], found.own[line.candidate]
        return not gain_over_other(own, others, found.draws, found.judges, found.sign, 1 - _TAIL).is_clear

    level = [line for line in clear if line is best or is_as_good(line)]
    least = min(seconds[line.candidate] for line in level)
    most = max(_SAME_COST * least, least + _SAME_SECONDS)
    taken = next(line for line in level if seconds[line.candidate] <= most)
    why = f"{taken.candidate} is taken: {_describe_gain(taken.gain, result.metric)} than {draws} ({confidence})"
    if taken is not best:
        more = best.gain.mean - taken.gain.mean
        why += f"; {best.candidate} did {more:.3g} better, which is within the noise, and costs more"
    return Decision(taken.candidate, why)


def _said(lines: Sequence[Placing], metric: str, draws: str, confidence: str) -> str:
    if not lines:
        return "no candidate could be measured"
    best = lines[0]
    return f"the best, {best.candidate}, was {_describe_gain(best.gain, metric)} than {draws} ({confidence})"


def _describe_gain(gain: Gain, metric: str) -> str:
    side = "better" if gain.mean >= 0 else "worse"
    return f"{abs(gain.mean):.3g} {side} in {metric} ({gain.low:+.3g} to {gain.high:+.3g})"
