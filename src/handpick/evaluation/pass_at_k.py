"""pass@k: the chance that at least one of k answers passes (Chen et al. 2021, arXiv 2107.03374, section 2.1)."""

from math import comb


def pass_at_k(n: int, passed: int, k: int) -> float:
    """Return the unbiased estimate from ``n`` answers of which ``passed`` pass: 1 − C(n − passed, k) / C(n, k).

    It is the share of all sets of k of the n answers that have one that passes.

    Raises:
        ValueError: not 0 ≤ passed ≤ n, or not 1 ≤ k ≤ n.
    """
    if not (0 <= passed <= n and 1 <= k <= n):
        raise ValueError(f"pass@{k} of {n} answers of which {passed} pass")
    return 1 - comb(n - passed, k) / comb(n, k)
