"""How a run's method was found: the audition's rounds as its remark holds them, for the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from handpick.reporting.page import number
from handpick.reporting.plots import FAINT, NEUTRAL, SERIES, Plot, panels, style
from handpick.scorers.scoring_problem import Remark


@dataclass(frozen=True, slots=True)
class AuditionedCandidate:
    """A candidate in a round: how much better than random draws it was, with the ends of the interval (None: nowhere),
    what its choice takes in seconds, and what became of it."""

    round: int
    name: str
    value: float
    random: float
    gain: float
    low: float | None
    high: float | None
    seconds: float
    became: str


@dataclass(frozen=True, slots=True)
class Auditioned:
    """The rounds; ``examples`` and ``metrics`` are those of each. ``failed`` says of candidates why they were not
    judged."""

    candidates: list[AuditionedCandidate]
    examples: list[int]
    metrics: list[str]
    left_out: dict[str, str]
    failed: dict[str, str]


def read_audition(remarks: Sequence[Remark]) -> Auditioned | None:
    """Return the audition behind a run; None where its method was given."""
    found: dict[str, Any] | None = next((r.detail["audition"] for r in remarks if "audition" in r.detail), None)
    if found is None:
        return None
    rounds = found["rounds"]
    candidates = [
        AuditionedCandidate(
            place,
            line["candidate"],
            line["value"],
            line["random"],
            line["gain"]["mean"],
            line["gain"]["low"],
            line["gain"]["high"],
            found["choice_seconds"][line["candidate"]],
            _became(line["candidate"], each["kept"], found["winner"], is_last=place == len(rounds)),
        )
        for place, each in enumerate(rounds, 1)
        for line in each["lines"]
    ]
    examples, metrics = [each["round"]["examples"] for each in rounds], [each["metric"] for each in rounds]
    failed = {name: why for each in rounds for name, why in each["failed"].items()}
    return Auditioned(candidates, examples, metrics, found["left_out"], failed)


def _became(name: str, kept: Sequence[str], winner: str | None, *, is_last: bool) -> str:
    if is_last:
        return "taken" if name == winner else ""
    return "went on" if name in kept else "dropped"


def audition_plot(found: Auditioned | None) -> Plot | None:
    """Plot every candidate's gain over random with its interval, a panel a round; None without an audition."""
    if found is None or not found.candidates:
        return None
    rounds = range(1, len(found.examples) + 1)
    most = max(sum(each.round == place for each in found.candidates) for place in rounds)
    with style():
        figure, every = panels(len(found.examples), height=1.2 + 0.4 * most)
        for place, axes in zip(rounds, every, strict=True):
            own = [each for each in found.candidates if each.round == place]
            axes.axvline(0, color=NEUTRAL, linewidth=1.2)
            for row, each in enumerate(own):
                colour = SERIES[0] if each.became in ("taken", "went on") else FAINT
                if each.low is not None and each.high is not None:
                    axes.plot([each.low, each.high], [row, row], color=colour, linewidth=2)
                axes.plot([each.gain], [row], color=colour, marker="o")
            axes.set_yticks(range(len(own)), [each.name for each in own])
            axes.set_ylim(len(own) - 0.4, -0.6)
            axes.set_title(f"round {place}: {found.examples[place - 1]:,} examples")
            axes.set_xlabel(f"better than random in {found.metrics[place - 1]}")
    columns = ["round", "candidate", "value", "random", "gain", "low", "high", "seconds", "became"]
    rows = [[e.round, e.name, e.value, e.random, e.gain, e.low, e.high, e.seconds, e.became] for e in found.candidates]
    best = max(found.candidates, key=lambda each: (each.round, each.gain))
    return Plot(
        "audition",
        "How much better than random draws",
        "Each candidate chose by one half of the queries and was judged by the other, after an adapter had been "
        "trained on what it chose. The line at 0 is the mean of the random draws; intervals are 95% for all "
        "candidates together. "
        f"The best of the last round, {best.name}: {number(best.gain)}.",
        figure,
        columns,
        rows,
    )
