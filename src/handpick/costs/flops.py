"""Floating-point operations, by formula; a multiplication and an addition are two.

    a token read          2·(P + D) + 2·A·T      P weights of the decoder's linear layers, D of the adapter's, A the sum
                                                 over layers of 2 · heads · head size, T tokens of its sequence
                                                 (costs/traced.py finds them)
    its way back          2·P + 4·D + 4·A·T      the frozen weights' own gradient is left out: 4·P in all, not 6·P
    a position of head    2·V·H, twice with its way back
    a row projected       2·D·K where the projection is a dense matrix; signs that are only added are not counted

The head counts at labelled positions where the engine computes it (at every position in training). Of a mixture of
experts the active share counts. Embeddings, norms, softmax, Adam and what stands below the first trainable layer are
small, and are left in or out as is simplest: within a tenth of FlopCounterMode (tests/costs/test_flops.py).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from handpick.costs.traced import trace
from handpick.data.render import Rendered
from handpick.errors import ModelError
from handpick.gradients.forward import causal_of, decoder_of


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a model the formulas take: P, D, A, V·H, and what share of the decoder a backward pass goes through."""

    linear: float
    adapter: int
    attention: int
    head: int
    way_back: float = 1.0

    def read(self, lengths: Iterable[int], positions: int = 0) -> float:
        """Return the operations of a forward pass over sequences, with logits at so many positions."""
        tokens, pairs = _tokens_and_pairs(lengths)
        return 2 * (self.linear + self.adapter) * tokens + 2 * self.attention * pairs + 2 * self.head * positions

    def gradient(self, lengths: Iterable[int], positions: int) -> float:
        """Return the operations of forward and backward with the base frozen, with logits at so many positions."""
        lengths = list(lengths)
        tokens, pairs = _tokens_and_pairs(lengths)
        decoder = (2 * self.linear + 4 * self.adapter) * tokens + 4 * self.attention * pairs
        return self.read(lengths, positions) + self.way_back * decoder + 2 * self.head * positions


def _tokens_and_pairs(lengths: Iterable[int]) -> tuple[int, int]:
    tokens = pairs = 0
    for length in lengths:
        tokens += length
        pairs += length * length
    return tokens, pairs


def shape_of(model: nn.Module) -> Shape:
    """Return the shape of a causal language model, with an adapter or without, found by a pass over a few tokens.

    Raises:
        ModelError: its decoder is not to be found.
    """
    causal = causal_of(model)
    decoder = decoder_of(causal)
    head = causal.get_output_embeddings()
    if decoder is None:
        raise ModelError(f"{type(causal).__name__} has no decoder apart from a language-model head")
    seen = trace(causal, decoder)
    return Shape(
        linear=seen.linear,
        adapter=round(seen.adapter),
        attention=seen.attention,
        head=head.weight.shape[0] * head.weight.shape[1],
    )


def count_labelled(sequences: Iterable[Rendered]) -> int:
    """Count the positions with a label."""
    return sum(sequence.n_labels for sequence in sequences)
