"""From the rewards of a prompt's samples to what each sample counts in its policy gradient.

``raw`` is NICE's own (Wang et al. ICML 2025): the reward itself. The others take a baseline from the same prompt's
samples, which leaves the expected gradient's direction as it is and lowers its variance (ours): their mean
(``centered``), the mean of the others (``rloo``, Kool et al. 2019), or their mean, in units of their standard deviation
(``group_norm``, Shao et al. 2024).

Legend: K samples of a prompt.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from handpick.choices import Advantage, Variant

Floats = NDArray[np.float64]

BEST = 10  # samples that NICE's `topk` keeps


def _centered(reward_K: Floats) -> Floats:
    below_K: Floats = reward_K - reward_K.mean()
    return below_K


def _rloo(reward_K: Floats) -> Floats:
    n = len(reward_K)
    scale = n / (n - 1) if n > 1 else 0.0
    return scale * _centered(reward_K)


def _group_norm(reward_K: Floats) -> Floats:
    spread = reward_K.std()
    return _centered(reward_K) / spread if spread > 0 else np.zeros_like(reward_K)


_ADVANTAGES: dict[Advantage, Callable[[Floats], Floats]] = {
    "raw": lambda reward_K: reward_K,
    "centered": _centered,
    "rloo": _rloo,
    "group_norm": _group_norm,
}


def advantages(reward_K: Floats, kind: Advantage) -> Floats:
    """Return what each sample counts, (K,); all zero where a baseline leaves nothing: rewards that are all alike."""
    if kind != "raw" and (reward_K == reward_K[0]).all():  # their mean may differ from each by a rounding error
        return np.zeros_like(reward_K)
    return _ADVANTAGES[kind](reward_K)


def select_samples(reward_K: Floats, variants: Sequence[Variant], reference: float | None) -> list[int]:
    """Return which samples NICE's variants leave, in order; all, where none of them drops any.

    Args:
        reward_K: their rewards.
        variants: ``rejection`` drops rewards of zero and below, ``hard_rejection`` those below the reference answer's,
            ``topk`` all but the ten best, where ties go to the earlier sample; the others drop nothing.
        reference: the reward of the reference answer, for ``hard_rejection``.
    """
    kept = np.arange(len(reward_K))
    if "rejection" in variants:
        kept = kept[reward_K[kept] > 0]
    if "hard_rejection" in variants and reference is not None:
        kept = kept[reward_K[kept] >= reference]
    if "topk" in variants:
        best = np.argsort(-reward_K[kept], kind="stable")[:BEST]
        kept = np.sort(kept[best])
    return [int(k) for k in kept]
