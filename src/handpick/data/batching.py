"""Batches of rendered conversations: which go together, and how they become tensors.

Shapes: B sequences of a batch, T tokens of the longest of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from handpick.data.render import IGNORED, Rendered
from handpick.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded sequences. Padding has label ``IGNORED``, mask False and position 0."""

    input_ids_BT: torch.Tensor
    labels_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    position_ids_BT: torch.Tensor

    @property
    def targets_BT(self) -> torch.Tensor:
        """The labelled token that each position predicts, the one after it; else ``IGNORED``."""
        target_BT = torch.full_like(self.labels_BT, IGNORED)
        # nothing predicts a sequence's first token, least of all padding before it
        target_BT[:, :-1] = self.labels_BT.masked_fill(self.position_ids_BT == 0, IGNORED)[:, 1:]
        return target_BT

    @property
    def is_padded_left(self) -> bool:
        """Whether padding stands before some sequence."""
        return not bool(self.attention_mask_BT[:, 0].all())


@dataclass(frozen=True, slots=True)
class Mixing:
    """Which lengths a model may read in one batch: nearly every model any.

    ``switch``: what has at most so many tokens is not read with what has more. ``alone``: what has more than so many
    tokens is read by itself.
    """

    switch: int | None = None
    alone: int | None = None

    def allows(self, length: int, other: int) -> bool:
        """Return whether two sequences of these lengths may be in one batch."""
        if self.alone is not None and max(length, other) > self.alone:
            return False
        return self.switch is None or (length > self.switch) == (other > self.switch)


ANY_LENGTHS = Mixing()


def token_batches(lengths: Sequence[int], max_tokens: int, mixing: Mixing = ANY_LENGTHS) -> list[list[int]]:
    """Group sequences of like length so that a padded batch holds at most ``max_tokens`` tokens.

    Args:
        lengths: the tokens of each sequence.
        max_tokens: the bound on the longest sequence times the number of sequences. A sequence that is
            longer by itself makes a batch alone.
        mixing: which lengths the model may read together.

    Returns:
        Indices into ``lengths``, each once, from short to long and ties in the order given.

    Raises:
        SettingsError: ``max_tokens`` is under 1.
    """
    if max_tokens < 1:
        raise SettingsError(f"a batch must hold at least one token, not {max_tokens}")
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        fits = bool(batches) and lengths[i] * (len(batches[-1]) + 1) <= max_tokens
        if fits and mixing.allows(lengths[batches[-1][0]], lengths[i]):
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def collate(rendered: Sequence[Rendered], pad_id: int, side: Literal["right", "left"] = "right") -> Batch:
    """Pad sequences to the longest of them.

    Args:
        rendered: at least one sequence.
        pad_id: the token to pad with; it is masked, so any will do.
        side: where the padding goes. Positions count from 0 at the first real token on either side.
    """
    shape = (len(rendered), max(len(r.input_ids) for r in rendered))
    input_ids_BT = torch.full(shape, pad_id, dtype=torch.long)
    labels_BT = torch.full(shape, IGNORED, dtype=torch.long)
    attention_mask_BT = torch.zeros(shape, dtype=torch.bool)
    position_ids_BT = torch.zeros(shape, dtype=torch.long)
    for row, sequence in enumerate(rendered):
        n = len(sequence.input_ids)
        real = slice(0, n) if side == "right" else slice(shape[1] - n, shape[1])
        input_ids_BT[row, real] = torch.tensor(sequence.input_ids)
        labels_BT[row, real] = torch.tensor(sequence.labels)
        attention_mask_BT[row, real] = True
        position_ids_BT[row, real] = torch.arange(n)
    return Batch(input_ids_BT, labels_BT, attention_mask_BT, position_ids_BT)
