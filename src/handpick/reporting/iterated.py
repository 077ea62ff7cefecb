"""What ``handpick iterselect`` leaves beside its picks: its rounds, what the judge was asked, how each pick was taken.

The files are plain JSON, so that a page can be made where neither judge nor classifier can be run.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from handpick.documents import DAMAGED, as_kind
from handpick.errors import StoreError
from handpick.iterselecttune.round_files import read_round_seconds
from handpick.iterselecttune.settings import READS_UNSAID, RULE
from handpick.layout import IterSelectLayout
from handpick.methods import ITERSELECT

HOW = {"judged": "judged hard", "inferred": "inferred", "easy": "judged easy"}  # as explained.jsonl says it, in words

Found = TypeVar("Found")


@dataclass(frozen=True)
class Bin:
    """Held-out examples of like probability: the mean of it, the share that is hard, how many. None of an empty bin."""

    predicted: float | None
    hard: float | None
    n: int


@dataclass(frozen=True)
class Round:
    """One round. ``missing`` of the ``judged`` have no verdict, ``ties`` and ``flipped`` are easy; ``train`` and
    ``held_out`` count the labelled examples of all rounds until then. A metric is None where it has no value."""

    round: int
    judged: int
    hard: int
    easy: int
    ties: int
    flipped: int
    missing: int
    train: int
    held_out: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    auc: float | None
    ece: float | None
    reliability: list[Bin]
    seconds: float


@dataclass(frozen=True)
class JudgingSummary:
    """What was asked of the judge, and the ``whole_pool_calls`` that judging everything would have taken.

    ``cost`` is None where no prices were given. A rule is asked by no call at all.
    """

    judge: str
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    whole_pool_calls: int

    @property
    def share(self) -> float:
        """Of the calls for the whole pool; nan where there are none."""
        return self.calls / self.whole_pool_calls if self.whole_pool_calls else float("nan")


@dataclass(frozen=True)
class TakenPick:
    """How a pick was taken: ``judged`` hard, ``inferred`` to be, or judged ``easy`` and taken when nothing was left.

    ``score`` is Q = α·M + (1 − α)·R of then, with M ``hardness`` and R ``similarity`` to ``nearest``, a hard example by
    its id; None where there was no classifier yet, or no hard example. ``round`` is None of what was inferred.
    """

    how: Literal["judged", "inferred", "easy"]
    round: int | None
    hardness: float | None
    similarity: float | None
    score: float
    nearest: str | None

    @property
    def said(self) -> str:
        """In words."""
        return HOW[self.how] if self.round is None else f"{HOW[self.how]}, round {self.round}"


@dataclass(frozen=True)
class Iterated:
    """All of it. ``taken`` by the pick's id. What is not in the folder is empty, and None for ``judging``."""

    settings: Mapping[str, Any]
    rounds: Sequence[Round]
    judging: JudgingSummary | None
    taken: Mapping[str, TakenPick]

    def n_taken(self, how: str) -> int:
        """Count the picks that were taken so."""
        return sum(each.how == how for each in self.taken.values())

    @property
    def by_rule(self) -> bool:
        """Whether a metric stood in for a judge."""
        return str(self.settings.get("judge", "")).startswith(RULE)


def read_iterated(folder: Path, settings: Mapping[str, Any], missing: list[str]) -> Iterated:
    """Read what stands beside a selection. A file that is not there leaves a sentence in ``missing``.

    Raises:
        StoreError: a file is damaged.
    """

    def read(path: Path, made: Callable[[bytes], Found], without: Found) -> Found:
        try:
            return made(path.read_bytes())
        except FileNotFoundError:
            missing.append(f"{path.name} is not in the folder.")
            return without
        except DAMAGED as error:
            raise StoreError(
                f"{path} cannot be read ({error}); remove it, or run `handpick {ITERSELECT}` again"
            ) from error

    layout = IterSelectLayout(folder)
    return Iterated(
        {"reads": READS_UNSAID, **settings},
        read(layout.figures, lambda data: [_parse_round(each, layout) for each in json.loads(data)], []),
        read(layout.judging, lambda data: _known_fields(JudgingSummary, json.loads(data)), None),
        read(layout.explained, lambda data: dict(_parse_taken(json.loads(line)) for line in data.splitlines()), {}),
    )


def _parse_round(values: dict[str, Any], layout: IterSelectLayout) -> Round:
    bins = [Bin(*each) for each in values["reliability"] or []]
    # of before, the figures hold the seconds themselves
    seconds = values["seconds"] if "seconds" in values else read_round_seconds(layout.round(values["round"]))
    return _known_fields(Round, values | {"reliability": bins, "seconds": sum(seconds.values())})


def _parse_taken(values: dict[str, Any]) -> tuple[str, TakenPick]:
    return values["id"], _known_fields(TakenPick, values)


def _known_fields(kind: type[Found], values: dict[str, Any]) -> Found:
    """Return the fields that are known here: a later handpick may write more."""
    return as_kind(kind, {field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]
