"""No representation: every candidate is like every other, and only a random draw can choose."""

import numpy as np
from numpy.typing import NDArray

from handpick.scorers.direct_scorer import DirectScorer
from handpick.scorers.finished_run import FinishedRun, Reopened
from handpick.scorers.stages import Stage


class Nothing(DirectScorer):
    """Zero for every candidate."""

    def stages(self) -> list[Stage]:
        """Return none: there is nothing to compute."""
        return []

    def scores(self, rows_N: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return zeros, float32 (N,), that take no memory."""
        return np.broadcast_to(np.zeros(1, np.float32), (len(rows_N),))

    @classmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return why there is nothing to show."""
        return f"the method {run.settings.method} looks at no similarity"
