"""The queries of an audition: opened, cut in two again and again, written as a study reads them, and looked through for
what would fool whoever judges by them."""

import json
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.auditions.estimate import Judges
from handpick.auditions.folds import HALVES, group_queries, split_queries
from handpick.data.examples import Example, before_answer
from handpick.data.own_record import record_of
from handpick.data.pool import Pool
from handpick.data.words import words_of
from handpick.errors import DataError
from handpick.evaluation.metrics import looks_at_answer
from handpick.files import atomic_write
from handpick.layout import AuditionLayout
from handpick.progress import progress

FEW = 16  # different queries; below, an interval is wide and depends on each of them
_READ = 1024  # records that are read together


@dataclass(frozen=True)
class TargetQueries:
    """The queries of one target. ``side_RQ`` is the side of every query in every repeat."""

    name: str
    pool: Pool
    examples: Sequence[Example]
    group_Q: NDArray[np.int64]
    side_RQ: NDArray[np.int64]

    @property
    def has_answers(self) -> bool:
        """Whether there is a loss to measure, of one query at least."""
        return any(example.messages[-1].role == "assistant" for example in self.examples)

    @property
    def only_answer(self) -> str | None:
        """The answer that all of several queries have; None where they differ, or one has none."""
        answers = {_answer(example) for example in self.examples}
        return answers.pop() if len(answers) == 1 < len(self.examples) else None

    def half(self, repeat: int, side: int) -> str:
        """Return what a study calls the target where this half is judged, and the other has chosen."""
        return f"{self.name}-{repeat + 1}{'ab'[side]}"

    def write(self, layout: AuditionLayout, repeats: int) -> None:
        """Write all queries to a file, and to one more for each half those that choose for it."""
        lines = [self.pool.raw(row) + b"\n" for row in range(len(self.pool))]
        layout.queries(self.name).parent.mkdir(parents=True, exist_ok=True)
        atomic_write(layout.queries(self.name), b"".join(lines))
        for repeat in range(repeats):
            for side in range(HALVES):
                choosing = np.flatnonzero(self.side_RQ[repeat] != side).tolist()
                atomic_write(layout.queries(self.half(repeat, side)), b"".join(lines[row] for row in choosing))


def open_queries(name: str, pool: Pool, repeats: int, seed: int, example_field: str | None = None) -> TargetQueries:
    """Cut a target's queries.

    Args:
        name: of the target.
        pool: the queries.
        repeats: how often they are cut.
        seed: of the cuts.
        example_field: the field that repetitions of one example share, which stay on one side; None: there is none.

    Raises:
        DataError: there are too few different ones.
    """
    examples = pool.examples(0, len(pool))
    same = None if example_field is None else [record_of(example).get(example_field) for example in examples]
    labels = None if same is None else [None if each is None else json.dumps(each, sort_keys=True) for each in same]
    group_Q = group_queries([_prompt(example) for example in examples], labels)
    try:
        side_RQ = split_queries(group_Q, pool.column("subtask"), repeats, seed)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return TargetQueries(name, pool, examples, group_Q, side_RQ)


def judges_of(targets: Sequence[TargetQueries]) -> Judges:
    """Return the queries of all targets, one target behind the other."""
    target_Q = np.concatenate([np.full(len(each.pool), place) for place, each in enumerate(targets)])
    group_Q = np.concatenate([each.group_Q for each in targets])
    return Judges(target_Q, group_Q)


def can_judge(targets: Sequence[TargetQueries], metric: str) -> list[bool]:
    """Return for each target whether its queries can tell what has learnt the task from what says one thing whatever it
    is asked: not where they all have one answer, and the metric looks at it."""
    return [target.only_answer is None or not looks_at_answer(metric) for target in targets]


def find_hazards(
    targets: Sequence[TargetQueries], pool: Pool, metric: str, left_out: Set[int] = frozenset()
) -> list[str]:
    """Return what would fool an audition by these queries and this metric, a sentence each.

    Args:
        targets: whose queries judge.
        pool: what is chosen from.
        metric: that judges.
        left_out: rows of the pool that nobody may choose.
    """
    found: list[str] = []
    in_pool = _prompts_in(pool, targets, left_out)
    for target, judges in zip(targets, can_judge(targets, metric), strict=True):
        n, n_groups = len(target.examples), int(target.group_Q.max()) + 1
        if n_groups < FEW:
            found.append(f"{target.name}: {n_groups} different queries are few to judge by")
        if n_groups < n:
            found.append(f"{target.name}: {n - n_groups:,} of {n:,} queries ask what another asks; they stay together")
        if target.only_answer is not None and not judges:
            found.append(
                f"{target.name}: all {n:,} queries have the answer {_shorten(target.only_answer)}: whatever makes the "
                "model always say that would look best, so that these queries do not judge"
            )
        repeated = sum(_key(_prompt(example)) in in_pool for example in target.examples)
        if repeated:
            found.append(
                f"{target.name}: {repeated:,} of {n:,} queries stand in the pool too: who finds them looks better than "
                "on new questions (--exclude-overlap with the file of the queries leaves them out)"
            )
    return found


def _prompts_in(pool: Pool, targets: Sequence[TargetQueries], left_out: Set[int]) -> set[tuple[str, ...]]:
    """Return what the queries ask and the pool asks too."""
    asked = {_key(_prompt(example)) for target in targets for example in target.examples}
    found: set[tuple[str, ...]] = set()
    with progress("queries in the pool", total=len(pool)) as advance:
        for start in range(0, len(pool), _READ):
            examples = pool.examples(start, start + _READ)
            rows = (row for row in enumerate(examples, start) if row[0] not in left_out)
            found |= asked & {_key(_prompt(example)) for _, example in rows}
            advance(len(examples))
    return found - {()}


def _key(prompt: str) -> tuple[str, ...]:
    return tuple(words_of(prompt))


def _prompt(example: Example) -> str:
    """Return all that stands before the answer."""
    return "\n".join(message.content for message in before_answer(example.messages))


def _answer(example: Example) -> str | None:
    last = example.messages[-1]
    return " ".join(last.content.split()) if last.role == "assistant" else None


def _shorten(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
