"""How fast each worker is, and so whether it should begin what is left: a slow one would keep all others waiting.

Ours, after the earliest finish of Ibarra and Kim (1977), with what was measured in place of what they take as known.
"""

from collections.abc import Hashable
from statistics import median

_ALIKE = 1.5  # times the median's seconds a row: whoever needs no more takes whatever is there
_DOUBT = 1.25  # times its own seconds must a slow worker be done before the others: shards differ


class Pace:
    """Seconds a row of each worker."""

    def __init__(self) -> None:
        self._first: dict[Hashable, tuple[int, float]] = {}
        self._later: dict[Hashable, tuple[int, float]] = {}

    def note(self, worker: Hashable, n_rows: int, seconds: float) -> None:
        """Take note of a shard that a worker has finished; its first has the loading of the model in it."""
        if worker not in self._first:
            self._first[worker] = n_rows, seconds
        else:
            rows, spent = self._later.get(worker, (0, 0.0))
            self._later[worker] = rows + n_rows, spent + seconds

    def forget(self, worker: Hashable) -> None:
        """Start anew with a worker that is gone, and that may come back elsewhere."""
        self._first.pop(worker, None)
        self._later.pop(worker, None)

    def should_begin(self, worker: Hashable, n_in_hand: int, n_rows: int, n_waiting: int) -> bool:
        """Return whether a worker should take a shard.

        Of those with nothing in hand, whoever is no slower than the median always should, so that nothing is left over.

        Args:
            worker: who would take it; one of whom nothing is known yet should.
            n_in_hand: rows that it has to finish before.
            n_rows: of the shard.
            n_waiting: rows that nobody has begun, with these.
        """
        seconds = {each: self._seconds_a_row(each) for each in self._first}
        own = seconds.pop(worker, None)
        if own is None or not seconds:
            return True
        typical = median([own, *seconds.values()])
        if not n_in_hand and own <= _ALIKE * typical:
            return True
        of_others = n_waiting / sum(1 / each for each in seconds.values()) + typical * n_rows
        return _DOUBT * own * (n_in_hand + n_rows) <= of_others

    def _seconds_a_row(self, worker: Hashable) -> float:
        rows, seconds = self._later.get(worker, self._first[worker])
        return max(seconds, 1e-9) / rows
