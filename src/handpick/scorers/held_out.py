"""How well a ridge foretells landmarks that it was not shown, query by query: R² and Spearman's rank correlation.

Shapes: L landmarks, Q queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata  # type: ignore[import-untyped]

from handpick.scorers.ridge import Doubles

POOR = 0.5  # a median rank correlation below this is warned about; ours


@dataclass(frozen=True, eq=False)
class HeldOutFit:
    """Of every query; NaN where the landmarks are all alike to it, so that there is nothing to foretell."""

    query_ids: Sequence[str]
    r2_Q: Doubles
    rank_correlation_Q: Doubles

    @property
    def is_poor(self) -> bool:
        """Whether what is spread orders candidates poorly, or nothing can be said of it."""
        median = _median(self.rank_correlation_Q)
        return not median >= POOR

    def sentence(self) -> str:
        """Return medians and the worst query, in one line."""
        if np.isnan(self.rank_correlation_Q).all():
            return "every landmark is as similar to a query as any other: nothing can be said of what is spread"
        worst = int(np.nanargmin(self.rank_correlation_Q))
        n, known = len(self.query_ids), int((~np.isnan(self.rank_correlation_Q)).sum())
        of = f"{n:,}" if known == n else f"{known:,} of {n:,}"  # to the others all landmarks are alike
        return (
            f"held-out landmarks are foretold with R² {_median(self.r2_Q):.2f} and rank correlation "
            f"{_median(self.rank_correlation_Q):.2f} (medians over {of} queries), worst for the "
            f"query {self.query_ids[worst]!r}: {self.r2_Q[worst]:.2f} and {self.rank_correlation_Q[worst]:.2f}"
        )

    def to_json(self) -> dict[str, object]:
        """Return medians and every query's own; null where there is nothing to foretell."""
        each = zip(self.query_ids, _or_none(self.r2_Q), _or_none(self.rank_correlation_Q), strict=True)
        (r2,), (rank_correlation,) = (
            _or_none(np.array([_median(values_Q)])) for values_Q in (self.r2_Q, self.rank_correlation_Q)
        )
        return {
            "r2": r2,
            "rank_correlation": rank_correlation,
            "queries": {query: {"r2": r2, "rank_correlation": rank} for query, r2, rank in each},
        }


def measure_held_out(query_ids: Sequence[str], exact_LQ: Doubles, left_out_LQ: Doubles) -> HeldOutFit:
    """Compare what was foretold of each landmark by all others with what it is."""
    spread_Q = np.square(exact_LQ - exact_LQ.mean(axis=0)).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        r2_Q = 1 - np.square(exact_LQ - left_out_LQ).sum(axis=0) / spread_Q
    r2_Q[spread_Q == 0] = np.nan
    return HeldOutFit(query_ids, r2_Q, rank_correlations(exact_LQ, left_out_LQ))


def rank_correlations(exact_LQ: Doubles, foretold_LQ: Doubles) -> Doubles:
    """Return Spearman's rank correlation of each query, (Q,): 0 where all is foretold the same, NaN where all is so."""
    exact_LQ, foretold_LQ = (rankdata(each_LQ, axis=0) for each_LQ in (exact_LQ, foretold_LQ))
    exact_LQ -= exact_LQ.mean(axis=0)
    foretold_LQ -= foretold_LQ.mean(axis=0)
    norms_Q = np.sqrt(np.square(exact_LQ).sum(axis=0) * np.square(foretold_LQ).sum(axis=0))
    found_Q: Doubles = (exact_LQ * foretold_LQ).sum(axis=0) / np.where(norms_Q > 0, norms_Q, 1)
    found_Q[~exact_LQ.any(axis=0)] = np.nan
    return found_Q


def _median(values_Q: Doubles) -> float:
    known = values_Q[~np.isnan(values_Q)]
    return float(np.median(known)) if len(known) else float("nan")


def _or_none(values_Q: Doubles) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values_Q.tolist()]
