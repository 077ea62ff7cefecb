"""Vectors that were made elsewhere, such as embeddings of another encoder: a file of them by id, of pool and queries.

A file is Parquet with the columns ``id`` and ``vector``, or ``NAME.npy``, (R, D), with its ids in ``NAME.ids``.
"""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.render import Renderer
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.id_table import IdTable
from handpick.scorers.row_scorer import RowEncoder
from handpick.settings import Settings


class Vectors(RowEncoder):
    """The vector of every record, as its file has it; they are compared by their cosine.

    Args:
        table: the file.
    """

    cost_note = "they are read from a file"

    def __init__(self, table: IdTable) -> None:
        self._table = table

    @classmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        """Return the reader of the file behind the colon."""
        return cls(IdTable.of(settings.used_representation, "vector", dims=2))

    @property
    def dim(self) -> int:
        """D, of the file."""
        return int(self._table.values.shape[1])

    def space(self) -> Fingerprint:
        """Return the bytes of the file.

        Raises:
            DataError: it holds no vectors by id.
        """
        self._table.check()  # a run asks for the space before all else
        return {"representation": "vectors", **self._table.fingerprint}

    def build(self) -> Fingerprint:
        """Return nothing: the file decides."""
        return {}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Return the ids; refused is a record that the file has no vector of."""
        return prepare_each(examples, self._check_known)

    def _check_known(self, example: Example) -> str:
        if example.id not in self._table.row_of:
            raise DataError(f"no vector: {self._table.path} has none of the id {example.id!r}")
        return example.id

    def encode(self, items: Sequence[Any], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        """Return the vectors, float32 (N, D); one that is not finite is its store's to leave out."""
        advance(len(items))
        return self._table.take(items)
