"""How many tokens a pool has: every record tokenised where that is quick, else those of a random sample.

Shapes: N records, n of them looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from handpick.costs import probe
from handpick.costs.cost import Amount
from handpick.data.pool import Pool
from handpick.executors.protocol import Preparer

ALL = 5_000  # records up to which every one is tokenised: a few seconds
SAMPLE = 2_000  # records that are looked at of a larger pool


@dataclass(frozen=True, slots=True)
class PoolSample:
    """Records that were looked at.

    ``items`` are what was prepared of those that can be used, in the pool's order; ``shards`` cuts them as the store
    will. ``seconds`` is what preparing took, per record.
    """

    n_records: int
    n_looked: int
    items: list[Any]
    shards: list[list[Any]]
    seconds: float

    @property
    def is_all(self) -> bool:
        return self.n_looked == self.n_records

    @property
    def scale(self) -> float:
        """N / n."""
        return self.n_records / self.n_looked

    @property
    def usable(self) -> int:
        """Records that can be used, of all; estimated where not all were looked at."""
        return round(len(self.items) * self.scale)

    def total(self, each: Sequence[float]) -> Amount:
        """Return the sum over all records of something that was found of every item; an unusable record counts 0."""
        return estimate_total(each, self.n_looked, self.n_records)

    def describe(self) -> str:
        """Describe how tokens were counted."""
        if self.is_all:
            return f"all {self.n_records:,} records were tokenised"
        return (
            f"{self.n_looked:,} of {self.n_records:,} records, drawn at random, were tokenised; the range of tokens is "
            "1.96 standard errors"
        )


def estimate_total(each: Sequence[float], n_looked: int, n_records: int) -> Amount:
    """Estimate the sum over N records from what was found of n, drawn without replacement.

    Those not in ``each`` count 0.

    N times the mean; the interval is 1.96 standard errors, √(1 − n/N) of those of a draw with replacement.
    """
    if n_looked == n_records:
        return Amount.exactly(sum(each))
    found_n = np.zeros(n_looked)
    found_n[: len(each)] = each
    mean = float(found_n.mean())
    error = float(found_n.std(ddof=1)) / math.sqrt(n_looked) * math.sqrt(1 - n_looked / n_records)
    return Amount(n_records * mean, n_records * (mean - 1.96 * error), n_records * (mean + 1.96 * error))


def sample_pool(
    pool: Pool, prepares: Preparer, *, shard_rows: int, seed: int, at_most: int = ALL, sample: int = SAMPLE
) -> PoolSample:
    """Prepare every record of a pool of up to ``at_most``, else ``sample`` of them drawn at random.

    Args:
        pool: what to look at.
        prepares: an objective or a representation.
        shard_rows: records whose batches are made together.
        seed: of the draw.
        at_most: the largest pool of which all are looked at.
        sample: how many of a larger one.
    """
    began = probe.clock()
    shards: list[list[Any]] = []
    if len(pool) <= at_most:
        n_looked, start = len(pool), 0
        for file in pool.files:  # a shard never spans two files
            for first in range(start, start + file.rows, shard_rows):
                last = min(first + shard_rows, start + file.rows)
                shards.append(prepares.prepare(pool.examples(first, last)).items)
            start += file.rows
    else:
        n_looked = min(sample, len(pool))
        rows = sorted(np.random.default_rng(seed).choice(len(pool), n_looked, replace=False).tolist())
        for first in range(0, n_looked, shard_rows):
            shards.append(prepares.prepare([pool[row] for row in rows[first : first + shard_rows]]).items)
    return PoolSample(
        len(pool),
        n_looked,
        [item for shard in shards for item in shard],
        shards,
        (probe.clock() - began) / max(1, n_looked),
    )
