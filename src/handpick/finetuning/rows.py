"""The rows that a fine-tuning's steps are made of, and their order: the same on one process and on several.

A row is one example, or several that are packed. Where the rows of an epoch's last step do not divide among the
processes, blank rows without any label fill it up, so that every process has as many forward passes as the others and
no example counts twice.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from handpick.data.render import IGNORED, Rendered
from handpick.training.warmup import SortedInBatch

if TYPE_CHECKING:
    from datasets import Dataset


def rows_of(sequences: Sequence[Rendered], pad_id: int, pack_to: int | None) -> "Dataset":
    """Make columns ``input_ids`` and ``labels``, the renderer's own; the last row is a blank one.

    Args:
        sequences: what to train on.
        pad_id: the token of the blank row.
        pack_to: tokens of a packed row (best fit decreasing, as TRL packs; no example is cut in two); None for a row
            an example. ``seq_lengths`` then has the lengths of the examples in a row.
    """
    from datasets import Dataset

    columns = {"input_ids": [s.input_ids for s in sequences], "labels": [s.labels for s in sequences]}
    blank = {"input_ids": [pad_id] * 2, "labels": [IGNORED] * 2}
    if pack_to is None:
        return Dataset.from_dict({name: [*column, blank[name]] for name, column in columns.items()})
    packed = _pack_rows(Dataset.from_dict(columns), pack_to).to_dict()
    return Dataset.from_dict(
        {name: [*column, [2] if name == "seq_lengths" else blank[name]] for name, column in packed.items()}
    )


def lengths_of(rows: "Dataset", column: str) -> list[int]:
    """Return how many values each row has in a column of lists."""
    import pyarrow.compute

    lengths: list[int] = pyarrow.compute.list_value_length(rows.data.column(column)).to_pylist()
    return lengths


def _pack_rows(rows: "Dataset", pack_to: int) -> "Dataset":
    from trl.data_utils import pack_dataset

    with no_progress_bars():
        return pack_dataset(rows, pack_to, "bfd")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Let the ``datasets`` library show none while open."""
    import datasets

    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


class Order(torch.utils.data.Sampler[int]):
    """A random order per epoch, sorted by length inside each batch, filled up with the blank row.

    Args:
        lengths: tokens of each row; the blank row is the one after them.
        batch: rows per step, on all processes.
        seed: of the order.
        fill_to: the number that an epoch's rows must be a multiple of.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, fill_to: int) -> None:
        self._order = SortedInBatch(lengths, batch, seed)
        self._n_blank = -len(lengths) % fill_to

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._order) + self._n_blank

    def __iter__(self) -> Iterator[int]:
        yield from self._order
        yield from [len(self._order)] * self._n_blank
