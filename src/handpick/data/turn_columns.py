"""Conversations as Arrow has them, counted without making a Python object of any turn.

Shapes: N records of a batch, T turns of all of them.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

BETWEEN_ROLES = " → "


@dataclass(frozen=True, slots=True)
class TurnColumns:
    """The turns of a batch's conversations: ``lengths_N`` per record, ``record_T`` is the record of each turn."""

    lengths_N: NDArray[np.int64]
    record_T: NDArray[np.int64]
    role_T: pa.Array
    content_T: pa.Array
    extra_T: pa.Array
    loss_T: pa.Array
    no_loss_T: pa.Array

    @classmethod
    def of(cls, conversations: pa.Array) -> "TurnColumns":
        """Take the column ``messages`` or ``rejected`` of a parsed table apart; a null is a conversation of no turn."""
        lengths_N = pc.fill_null(pc.list_value_length(conversations), 0).to_numpy(zero_copy_only=False)
        turns_T = conversations.flatten()
        return cls(
            lengths_N.astype(np.int64),
            pc.list_parent_indices(conversations).to_numpy().astype(np.int64),
            *(pc.struct_field(turns_T, name) for name in ("role", "content", "extra", "loss", "no_loss")),
        )

    def joined(self, column_T: pa.Array, between: str) -> pa.Array:
        """Return one text a record: what a column has of its turns, put together."""
        offsets = pa.array(np.concatenate([[0], np.cumsum(self.lengths_N)]), pa.int32())
        return pc.binary_join(pa.ListArray.from_arrays(offsets, column_T), between)

    @property
    def roles_N(self) -> pa.Array:
        """The roles of each record in order, as "user → assistant"."""
        return self.joined(self.role_T, BETWEEN_ROLES)

    def any_of(self, which_T: pa.Array) -> NDArray[np.bool_]:
        """Return which records have such a turn."""
        any_N = np.zeros(len(self.lengths_N), dtype=bool)
        any_N[self.record_T[which_T.to_numpy(zero_copy_only=False)]] = True
        return any_N

    def characters(self, which_T: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the characters of each record's turns, or of those that are named."""
        of_turn_T = pc.utf8_length(self.content_T).to_numpy(zero_copy_only=False)
        if which_T is not None:
            of_turn_T = of_turn_T * which_T
        # a sum of doubles, which is exact: no record has 2**53 characters
        return np.bincount(self.record_T, weights=of_turn_T, minlength=len(self.lengths_N)).astype(np.int64)
