"""Sequences of random tokens, and their rows: what benchmarks of the engine time."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from handpick.data.batching import Batch, collate, token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.gradients.engine import GradientEngine
from handpick.gradients.projection import projection

VOCAB = 8192


def draw(n_examples: int) -> list[Batch]:
    """Return sequences of 30 to 400 tokens, half of them labelled, in batches of 1,024 tokens."""
    torch.manual_seed(0)
    lengths = torch.randint(30, 400, (n_examples,)).tolist()
    sequences = []
    for length in lengths:
        ids = torch.randint(3, VOCAB, (length,)).tolist()
        sequences.append(Rendered(ids, [IGNORED] * (length // 2) + ids[length // 2 :], length))
    return [collate([sequences[i] for i in members], 0) for members in token_batches(lengths, 1024)]


def rows_of(engine: GradientEngine, batches: Sequence[Batch]) -> Callable[[], Tensor]:
    """Return what computes all rows, projected to 8192, without Adam."""
    project = projection("sparse", engine.n_coordinates, 8192, 0)

    def compute() -> Tensor:
        rows = []
        for batch in batches:
            weight_B = 1 / (batch.targets_BT != IGNORED).sum(1).double()
            rows.append(engine.features(batch, weight_B, project))
        return torch.cat(rows)

    return compute
