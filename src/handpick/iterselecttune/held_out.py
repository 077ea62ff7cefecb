"""How well a classifier tells hard from easy, on examples that it was not trained on.

Legend: N examples.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handpick.errors import DataError, SettingsError
from handpick.fingerprint import JSON, digest

_BINS = 10
_SAID_HARD = 0.5  # a probability from which on an example is said to be hard


@dataclass(frozen=True)
class HeldOutMetrics:
    """How a classifier does on examples that it was not trained on. What is not defined there is None.

    Args:
        n: examples.
        accuracy: share told right, where a probability of 1/2 or more says hard.
        precision: share of hard among those said to be.
        recall: share said to be hard among the hard.
        auc: area under the ROC curve; None where all are of one kind.
        ece: expected calibration error: Σ over bins of n_bin/n · |mean predicted − share hard|.
        reliability: of 10 bins of equal width, (mean predicted, share hard, n); None, None, 0 for an empty one.
    """

    n: int
    accuracy: float | None
    precision: float | None
    recall: float | None
    auc: float | None
    ece: float | None
    reliability: list[tuple[float | None, float | None, int]]

    def to_json(self) -> dict[str, JSON]:
        """Return plain JSON, without any nan."""
        return {**asdict(self), "reliability": [list(a_bin) for a_bin in self.reliability]}


def held_out_metrics(probabilities: ArrayLike, hard: Sequence[bool] | NDArray[np.bool_]) -> HeldOutMetrics:
    """Measure how probabilities of being hard agree with what is.

    Args:
        probabilities: (N,), from 0 to 1; N may be 0.
        hard: (N,).

    Raises:
        DataError: there are not as many labels as probabilities, or one is no probability.
        SettingsError: scikit-learn is not installed.
    """
    try:
        from sklearn import metrics  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError("the classifier's metrics need scikit-learn: pip install 'handpick[iterselect]'") from error

    predicted_N = np.asarray(probabilities, dtype=np.float64)
    hard_N = np.asarray(hard, dtype=bool)
    if predicted_N.shape != hard_N.shape or predicted_N.ndim != 1:
        raise DataError(f"probabilities of shape {predicted_N.shape} do not go with labels of shape {hard_N.shape}")
    if not ((predicted_N >= 0) & (predicted_N <= 1)).all():
        raise DataError("a held-out probability is not between 0 and 1; train the classifier again")
    said_N = predicted_N >= _SAID_HARD
    n = len(hard_N)
    ece, reliability = _calibration(predicted_N, hard_N)
    one_kind = hard_N.all() or not hard_N.any()
    return HeldOutMetrics(
        n=n,
        accuracy=accuracy(predicted_N, hard_N) if n else None,
        precision=float(metrics.precision_score(hard_N, said_N)) if said_N.any() else None,
        recall=float(metrics.recall_score(hard_N, said_N)) if hard_N.any() else None,
        auc=None if one_kind else float(metrics.roc_auc_score(hard_N, predicted_N)),
        ece=ece if n else None,
        reliability=reliability,
    )


def accuracy(probabilities: ArrayLike, hard: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the share that is told right, of one example or more."""
    return float(np.mean((np.asarray(probabilities, dtype=np.float64) >= _SAID_HARD) == np.asarray(hard, dtype=bool)))


def is_held_out(text: str, share: float, seed: int) -> bool:
    """Return whether a text tests the classifier, and never trains it: the same in every round, and for equal texts."""
    return int(digest(["held out", text, seed]), 16) < share * 2**64


def _calibration(
    predicted_N: NDArray[np.float64], hard_N: NDArray[np.bool_]
) -> tuple[float, list[tuple[float | None, float | None, int]]]:
    bin_N = np.digitize(predicted_N, np.arange(1, _BINS) / _BINS)  # an edge is in the bin above it, 1 in the last
    ece, reliability = 0.0, list[tuple[float | None, float | None, int]]()
    for b in range(_BINS):
        inside_N = bin_N == b
        n = int(inside_N.sum())
        if n:
            predicted, share = float(predicted_N[inside_N].mean()), float(hard_N[inside_N].mean())
            ece += n / len(hard_N) * abs(predicted - share)
            reliability.append((predicted, share, n))
        else:
            reliability.append((None, None, 0))
    return ece, reliability
