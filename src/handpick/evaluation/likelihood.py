"""How likely a model finds given answers: the log-probability of labelled tokens, many sequences at a time.

The labels come from data/render.py, as everywhere.

Legend: S sequences.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from handpick.data.batching import collate, token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.gradients.forward import causal_of
from handpick.gradients.likelihood import log_likelihoods
from handpick.model.mixing import mixing_of


class LogLikelihood(NamedTuple):
    """Of each sequence: log-probability (nats, float64) of its labelled tokens, summed, and how many they are."""

    sum_S: NDArray[np.float64]
    tokens_S: NDArray[np.int64]

    @property
    def mean_S(self) -> NDArray[np.float64]:
        """A token's, on average."""
        return self.sum_S / self.tokens_S


def log_likelihood(
    model: nn.Module,
    sequences: Sequence[Rendered],
    *,
    pad_id: int,
    batch_tokens: int,
    side: Literal["right", "left"] = "right",
    advance: Callable[[int], None] = lambda n: None,
) -> LogLikelihood:
    """Compute log π(labelled tokens | what stands before them) of every sequence.

    Args:
        model: a causal language model, with an adapter or without.
        sequences: each with a labelled token behind its first.
        pad_id: fills batches up.
        batch_tokens: padded tokens of a batch, at most.
        side: where the padding goes; the result is the same.
        advance: told how many more sequences are done.

    Raises:
        ModelError: the model has no decoder apart from its head.
    """
    sum_S, tokens_S = np.empty(len(sequences)), np.empty(len(sequences), dtype=np.int64)
    mixing = mixing_of(causal_of(model).config)
    for members in token_batches([len(s.input_ids) for s in sequences], batch_tokens, mixing):
        batch = collate([sequences[i] for i in members], pad_id, side)
        sum_S[members] = log_likelihoods(model, batch).numpy()
        tokens_S[members] = (batch.targets_BT != IGNORED).sum(1).numpy()
        advance(len(members))
    return LogLikelihood(sum_S, tokens_S)
