"""Scores that were made elsewhere: a file of them by id, the largest best.

A file is Parquet with the columns ``id`` and ``score``, or ``NAME.npy``, (R,), with its ids in ``NAME.ids``.
"""

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from handpick.fingerprint import Fingerprint
from handpick.scorers.direct_scorer import DirectScorer
from handpick.scorers.finished_run import FinishedRun, InMemory, Reopened
from handpick.scorers.id_table import IdTable


class Scores(DirectScorer):
    """The score of every record, as its file has it."""

    @cached_property
    def table(self) -> IdTable:
        """The file behind the colon."""
        return _table(self.settings.used_representation)

    def preflight(self) -> None:
        """Refuse a file that cannot be read."""
        self.table.check()

    def fingerprint(self) -> Fingerprint:
        """Return the bytes of the file."""
        return {"kind": "scores", **self.table.fingerprint}

    def usable_rows(self) -> list[int]:
        """Return the rows with a response and a score that is finite."""
        ids, table = self.pool.pool.ids(), self.table
        rows = []
        for row in super().usable_rows():
            if _has_score(table, ids[row]):
                rows.append(row)
            elif ids[row] in table.row_of:
                self.set_aside(row, f"its score in {table.path} is not finite")
            else:
                self.set_aside(row, f"no score: {table.path} has none of the id {ids[row]!r}")
        return rows

    def scores(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores, float32 (N,)."""
        ids = self.pool.pool.ids()
        return self.table.take(ids[row] for row in rows_N.tolist())

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return the scores of the pool's records, if the file is still what it was."""
        table = _table(run.settings.used_representation)
        wanted = run.fingerprints.get("representation")
        if not table.is_there or {"kind": "scores", **table.fingerprint} != wanted:
            return f"{table.path} is not there any more, or has changed"
        if run.pool is None:
            return "the pool cannot be read, and the file may have scores of others too"
        ids = [example_id for example_id in run.pool.ids() if _has_score(table, example_id)]
        column_of = {example_id: column for column, example_id in enumerate(ids)}
        return Reopened(f"score in {table.path.name}", InMemory(table.take(ids)[None]), column_of)


def _has_score(table: IdTable, example_id: str) -> bool:
    row = table.row_of.get(example_id)
    return row is not None and bool(table.finite_R[row])


def _table(representation: str) -> IdTable:
    return IdTable.of(representation, "score", dims=1)
