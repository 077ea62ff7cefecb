"""Ids that occur more than once, found among millions without holding them all."""

from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np


def repeated_ids(all_ids: Callable[[], Iterable[str]]) -> list[str]:
    """Find the ids that occur more than once, in the order of their first occurrence.

    Args:
        all_ids: gives a fresh pass over the ids; it is called a second time only where some may repeat.
            The first pass keeps 8 bytes an id.
    """
    hashes = np.sort(np.fromiter((hash(id_) for id_ in all_ids()), np.int64))
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not suspects:
        return []
    counts = Counter(id_ for id_ in all_ids() if hash(id_) in suspects)
    return [id_ for id_, count in counts.items() if count > 1]
