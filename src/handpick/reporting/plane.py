"""The plane in which rows differ most: their first two principal components (Pearson, Philosophical Magazine 1901).

The eigenvectors of the sample's inner products are those of its covariance, so that features of any number are read a
checkpoint at a time, and what is held grows with the points alone.

Shapes: S rows of the sample, P points of a group, D features of a checkpoint.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handpick.store.codec import Floats

Places = NDArray[np.float64]


@dataclass(frozen=True)
class PrincipalPlane:
    """``places`` has the coordinates of every group's points, float64 (P, 2); ``shares`` are the parts of the sample's
    variance that the two directions have. A direction's largest coordinate in the sample is positive."""

    places: list[Places]
    shares: tuple[float, float]


def principal_plane(read: Callable[[int], Sequence[Floats]], n_checkpoints: int) -> PrincipalPlane | None:
    """Project groups of rows on the first two principal components of the first group, the sample.

    Args:
        read: gives, for a checkpoint, the rows (P, D) of every group, each time the same; the features of all
            checkpoints stand side by side.
        n_checkpoints: how many there are.

    Returns:
        The plane, or None where the sample's rows are all alike.
    """
    from scipy.linalg import eigh  # type: ignore[import-untyped]

    gram_SS: Places = np.zeros(())
    for t in range(n_checkpoints):
        sample_SD = np.asarray(read(t)[0], dtype=np.float64)
        centred_SD = sample_SD - sample_SD.mean(axis=0)
        gram_SS = gram_SS + centred_SD @ centred_SD.T
    total = float(np.trace(gram_SS))
    if len(gram_SS) < 2 or not total > 1e-12 * max(1, len(gram_SS)):
        return None
    values, vectors_S2 = eigh(gram_SS, subset_by_index=[len(gram_SS) - 2, len(gram_SS) - 1])
    values, vectors_S2 = np.maximum(values[::-1], 0), vectors_S2[:, ::-1]
    at = np.abs(vectors_S2).argmax(axis=0)
    vectors_S2 = vectors_S2 * np.sign(vectors_S2[at, [0, 1]])
    # of rows on a line the second direction is none, and not what rounding makes of it
    scale_2 = np.where(values > 1e-12 * total, 1 / np.sqrt(np.maximum(values, 1e-300)), 0)
    places: list[Places] = []
    for t in range(n_checkpoints):
        groups = [np.asarray(group, dtype=np.float64) for group in read(t)]
        mean_D = groups[0].mean(axis=0)
        axes_D2 = (groups[0] - mean_D).T @ (vectors_S2 * scale_2)
        found = [(group - mean_D) @ axes_D2 for group in groups]
        places = found if not places else [before + more for before, more in zip(places, found, strict=True)]
    return PrincipalPlane(places, (float(values[0]) / total, float(values[1]) / total))
