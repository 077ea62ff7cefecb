"""What a study's cells say: means over seeds, differences from random, rank correlations, win counts.

Pure functions over cells. Only cells that are done and have the metric count; all others are passed over, so say
beside a number what is missing. A metric goes by its name in ``Cell.metrics``; "dev_loss" is the loss on the queries,
which TIS (Nayak et al. ICML 2026, arXiv 2602.14696) looks at first. Rows come in the order of the grid, which is the
order of the cells. All intervals are 95%; ``low`` and ``high`` are None where there is none, and no value is NaN.
"""

from handpick.studies.statistics.correlations import (
    Correlation,
    distance_correlation,
    loss_correlation,
    quantile_correlation,
)
from handpick.studies.statistics.means import Difference, Mean, Wins, against_random, by_seed, wins
from handpick.studies.statistics.ranks import rho_interval, spearman
from handpick.studies.statistics.values import DEV_LOSS, better_sign, metrics_of, value_of

__all__ = [
    "DEV_LOSS",
    "Correlation",
    "Difference",
    "Mean",
    "Wins",
    "against_random",
    "better_sign",
    "by_seed",
    "distance_correlation",
    "loss_correlation",
    "metrics_of",
    "quantile_correlation",
    "rho_interval",
    "spearman",
    "value_of",
    "wins",
]
