"""Whitened hidden states and embeddings: their rows as they are, the queries' side through the inverse of the pool's
second moment (whitened.py). Forward passes alone; ours."""

from typing import ClassVar

from handpick.executors import Executor
from handpick.scorers.embedding import Embedding
from handpick.scorers.hidden_states import HiddenStates
from handpick.scorers.inputs import Inputs
from handpick.scorers.row_scorer import RowEncoder, RowScorer
from handpick.scorers.whitened import WhitenedQueries, check_room


class WhitenedRows(WhitenedQueries, RowScorer):
    """Compares rows of an encoder as the pool's second moment has them."""

    rows: ClassVar[type[RowEncoder]]

    def __init__(self, inputs: Inputs) -> None:
        super().__init__(inputs, self.rows)

    def keep_covariance(self, executor: Executor) -> None:
        """Compute the second moment; how many features there are only the rows say, and they stay where it is refused.

        Raises:
            SettingsError: it does not fit in memory.
        """
        check_room(self.pool_features().dim, "compare the rows as they are")
        super().keep_covariance(executor)


class WhitenedHiddenStates(WhitenedRows):
    """RDS+, whitened."""

    rows = HiddenStates


class WhitenedEmbedding(WhitenedRows):
    """Sentence embeddings, whitened."""

    rows = Embedding
