"""What a representation of examples by themselves is: each becomes one row, at no checkpoint but the model's own.

The gradient representation has checkpoints and two sides, and stands apart (gradient.py).

Shapes: N examples, D features.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Prepared


class Representation(Protocol):
    """One row an example. What ``prepare`` makes of a record only the representation itself knows."""

    @property
    def dim(self) -> int:
        """D."""

    def space(self) -> Fingerprint:
        """What two sets of rows must share to be compared."""

    def build(self) -> Fingerprint:
        """What else decides the rows, besides the records."""

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """What can be done without the model, in another thread; with the reasons of those that cannot be used."""

    def encode(self, items: Sequence[Any], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        """Rows (N, D), float32, of what was prepared, in its order; ``advance`` is told how many more are done."""
