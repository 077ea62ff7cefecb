"""Representations that give scores or a similarity themselves, with no store of features.

Shapes: N candidates, Q queries.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from handpick.algorithms import Similarity
from handpick.algorithms.matrix import Matrix
from handpick.costs.cost import Extent, StageKind, Work
from handpick.costs.probe import Probing
from handpick.data.plain_text import contents, has_response, no_response
from handpick.data.pool import Pool
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.scorers.finished_run import FinishedRun, InMemory, Reopened
from handpick.scorers.scorer import Scorer
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.scorers.stages import Stage
from handpick.store.codec import Floats
from handpick.store.manifest import contents_of

READ_TOGETHER = 1024  # records
_READ_AGAIN = 50_000  # examples of a pool that are read again for a report


class DirectScorer(Scorer):
    """A score a candidate, the same for every query, computed when it is asked for."""

    @abstractmethod
    def scores(self, rows_N: NDArray[np.int64]) -> Floats:
        """Return the score of every candidate, float32 (N,), largest best.

        Args:
            rows_N: the candidates' rows in the pool: those with a response to learn from.
        """

    def fingerprint(self) -> Fingerprint:
        """Return what decides the scores, besides the records."""
        return {}

    def stages(self) -> list[Stage]:
        """Return the one stage."""
        return [Stage(StageKind.INDEX, self._stage_inputs, self.work, lambda executor: self.similarity)]

    def _stage_inputs(self) -> Fingerprint:
        query = self.inputs.query
        return {
            "representation": self.settings.used_representation,
            "files": contents_of(self.pool.pool.files),
            "query": None if query is None else contents_of(query.pool.files),
        }

    @cached_property
    def rows_N(self) -> NDArray[np.int64]:
        """The pool's rows that there is something to learn from; the others are set aside.

        Raises:
            DataError: there is none, or more are set aside than the quarantine's limit.
        """
        if self.inputs.query is not None:
            self.inputs.query.quarantine.report()
        rows = self.usable_rows()
        self.pool.quarantine.report()
        if not rows:
            names = ", ".join(file.name for file in self.pool.pool.files)
            raise DataError(f"no record of {names} has a response to learn from")
        return np.array(rows, dtype=np.int64)

    def usable_rows(self) -> list[int]:
        """Return the rows that can be chosen from, and set the others aside with their reasons."""
        rows: list[int] = []
        pool = self.pool.pool
        for start in range(0, len(pool), READ_TOGETHER):
            for row, example in enumerate(pool.examples(start, start + READ_TOGETHER), start):
                if has_response(example.messages):
                    rows.append(row)
                else:
                    self.set_aside(row, no_response(example.messages))
        return rows

    def set_aside(self, row: int, reason: str) -> None:
        """Put a record of the pool into quarantine."""
        self.pool.pool.set_aside(row, reason, self.pool.quarantine)

    @cached_property
    def similarity(self) -> Similarity:
        """What there is to choose by; computed once."""
        return Matrix(self.scores(self.rows_N)[None])

    def problem(self) -> ScoringProblem:
        """Return the scores as a similarity to all queries at once."""
        return ScoringProblem(self.similarity, self.rows_N, self.fingerprints())

    def fingerprints(self) -> Fingerprint:
        """Return what the choice is made from."""
        found: Fingerprint = {"pool": {"files": contents_of(self.pool.pool.files)}}
        if self.inputs.query is not None:
            found["query"] = {"files": contents_of(self.inputs.query.pool.files)}
        own = self.fingerprint()
        return found | ({"representation": own} if own else {})

    def work(self, probing: Probing) -> Work:
        """Return what the scores will take: next to nothing, where nothing else is said."""
        return Work([], extent=Extent(len(self.pool.pool), 0, 1, 1))

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return why the scores cannot be had again."""
        return f"the scores by {run.settings.used_representation} are not kept"


class TextScorer(DirectScorer):
    """Reads the words of queries and pool."""

    @cached_property
    def query_texts(self) -> list[str]:
        """What every query says."""
        query = self.inputs.queries.pool
        return [contents(example.messages) for example in query.examples(0, len(query))]

    @classmethod
    @abstractmethod
    def reopen_texts(
        cls, run: FinishedRun, pool_texts: Iterable[str], query_texts: Sequence[str]
    ) -> tuple[str, Floats]:
        """Return what the scores are, in words, and of every candidate the largest over the queries, (N,)."""

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return the scores, computed again from the words, where the pool is not large."""
        if run.pool is None or run.query_texts is None:
            return "the words of pool and queries are needed, and not both can be read"
        if len(run.pool) > _READ_AGAIN:
            return f"the pool has more than {_READ_AGAIN:,} examples, whose words would have to be read again"
        what, scores_N = cls.reopen_texts(run, Texts(run.pool), run.query_texts)
        examples = run.pool.examples(0, len(run.pool))
        ids = [example.id for example in examples if has_response(example.messages)]
        return Reopened(what, InMemory(scores_N[None]), {example_id: column for column, example_id in enumerate(ids)})


class Texts:
    """What every example of a pool with a response says, read again at every pass."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self._pool), READ_TOGETHER):
            for example in self._pool.examples(start, start + READ_TOGETHER):
                if has_response(example.messages):
                    yield contents(example.messages)
