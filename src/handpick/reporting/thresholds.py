"""From which on a check warns. The thresholds are ours, set where a look is worth its time; none is a verdict."""

from dataclasses import dataclass
from typing import Literal

from handpick.pipeline.missed import TOLD
from handpick.reporting.page import replace_unprintable


@dataclass(frozen=True)
class Thresholds:
    """From which on a check warns."""

    length_ratio: float = 2.0  # of the median lengths of chosen and pool, either way
    source_share: float = 0.8  # of the picks, from one source of several
    score_spread: float = 0.01  # less than this between the 5th and the 95th percentile, as a part of the largest
    queries_served: float = 0.5  # less than this part of the queries that could be
    same_answer: float = 0.5  # of the picks, with the very same response
    set_aside: float = 0.1  # of the records of pool or queries
    recall: float = TOLD  # the least that a prefilter's may be, at the low end of its interval
    flipped: float = 0.2  # of the verdicts, that change with the order of the answers
    no_verdict: float = 0.1  # of the examples that were judged
    one_kind: float = 0.95  # of the verdicts, all hard or all easy
    auc: float = 0.6  # less than this, of the last classifier on what was held out


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class SelectionCheck:
    """``state``: "warn", "fine", or "open" where it could not be made. ``said`` names numbers and threshold."""

    name: str
    state: Literal["warn", "fine", "open"]
    said: str


def conclude(name: str, said: str, warns: bool, warning: str, fine: str) -> SelectionCheck:
    """Return a check that could be made: what was found, and behind it the warning, or why there is none."""
    return SelectionCheck(name, "warn", said + warning) if warns else SelectionCheck(name, "fine", said + fine)


def quote(text: str) -> str:
    """Quote a name or a short text of the user's, cut where it is long."""
    folded = " ".join(str(replace_unprintable(text)).split())
    return f"“{folded if len(folded) <= 80 else folded[:79] + '…'}”"
