"""A diverse subset of the pool: k-means on the sentence embeddings, then the clusters take turns.

Source: IterSelectTune (arXiv 2410.13464), its diversity module; how many of a cluster is ours.

Legend: N examples, D features, K clusters.
"""

import warnings

import numpy as np
from numpy.typing import NDArray

from handpick.errors import SettingsError
from handpick.store.array import FeatureArray
from handpick.store.codec import Floats
from handpick.work_memory import take_work_memory

_FITTED = 256  # rows a cluster that the centres are fitted on, at most
_ROWS = 1 << 14  # rows that are looked at together


def clusters(embeddings_ND: Floats | FeatureArray, k: int, seed: int) -> NDArray[np.int64]:
    """Find the cluster of every row, (N,), from 0 to K − 1; fewer clusters where there are fewer rows.

    Lloyd's algorithm from a k-means++ start (scikit-learn), on one thread, so that the same seed gives the same
    clusters; the centres are fitted on at most 256 K rows.

    Raises:
        SettingsError: scikit-learn is not installed.
        OSError: there is no memory to work in.
    """
    try:
        from sklearn.cluster import KMeans  # type: ignore[import-untyped]
        from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError as error:
        raise SettingsError("clusters need scikit-learn: pip install 'handpick[iterselect]'") from error
    take_work_memory()  # of the library that scikit-learn has just loaded
    n = len(embeddings_ND)
    k = min(k, n)
    rng = np.random.default_rng([seed, 0])
    some = np.sort(rng.choice(n, min(n, _FITTED * k), replace=False))
    found_N = np.empty(n, dtype=np.int64)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different rows than clusters
        means = KMeans(k, n_init=1, random_state=seed).fit(embeddings_ND[some])
        for start in range(0, n, _ROWS):
            found_N[start : start + _ROWS] = means.predict(embeddings_ND[start : start + _ROWS])
    return found_N


def interleave_clusters(cluster_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Order all rows, (N,), so that any beginning of them has as many of each cluster as can be.

    Every cluster is shuffled, and the clusters, in an order that is drawn too, give one row each in turn.
    """
    rng = np.random.default_rng([seed, 1])
    turn_K = rng.permutation(int(cluster_N.max()) + 1)
    shuffled_N = rng.permutation(len(cluster_N))
    by_cluster = shuffled_N[np.argsort(cluster_N[shuffled_N], kind="stable")]
    sizes_K = np.bincount(cluster_N, minlength=len(turn_K))
    starts_K = np.cumsum(sizes_K) - sizes_K
    place_N = np.arange(len(cluster_N)) - starts_K[cluster_N[by_cluster]]  # of a row among those of its cluster
    return by_cluster[np.lexsort((turn_K[cluster_N[by_cluster]], place_N))]
