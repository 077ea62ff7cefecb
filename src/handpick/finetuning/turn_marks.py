"""What a conversation says of its own turns' loss, as axolotl reads it beside their text."""

from itertools import pairwise
from typing import Any

from handpick.data.examples import Message


def marks_of(turn: Message) -> dict[str, Any]:
    """Return ``train`` of a turn that is not learnt, ``train_detail`` of one that is learnt in part; else nothing.

    The stretches cover the whole text; ``end_offset`` is the last character of each.
    """
    if not turn.loss:
        return {"train": False}
    if not turn.no_loss:
        return {}
    edges = sorted({0, len(turn.content), *(edge for span in turn.no_loss for edge in span)})
    left_out = {start for start, _ in turn.no_loss}
    return {
        "train_detail": [
            {"begin_offset": start, "end_offset": end - 1, "train": start not in left_out}
            for start, end in pairwise(edges)
        ]
    }
