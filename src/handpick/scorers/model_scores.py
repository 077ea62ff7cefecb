"""Scores that a base model gives an example, with no query: the perplexity of its answer, and how much the prompt helps
with it (IFD, Li et al. 2024, arXiv 2308.12032, section 2.2). Each is a row of one value.

The answer is what the loss stands on everywhere else (data/render.py): the assistant's turns with their ends of turn,
cut to the length limit.

Legend: N examples, B sequences of a batch.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from handpick.costs.flops import Shape, count_labelled
from handpick.data.batching import Batch
from handpick.data.examples import Example
from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.gradients.likelihood import log_likelihoods
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.model_reader import ReadEncoder, Reader


def mean_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Compute the mean negative log-likelihood of each sequence's labelled tokens, float64 (B,), on the CPU.

    Args:
        model: a causal language model.
        batch: on the CPU; every sequence has a labelled token behind its first.
    """
    return -log_likelihoods(model, batch) / (batch.targets_BT != IGNORED).sum(1)


def _losses(reader: Reader, sequences: Sequence[Rendered], advance: Callable[[int], None]) -> NDArray[np.float64]:
    """Compute the mean loss of every sequence; ``advance`` is told how many more are done."""
    losses = np.empty(len(sequences))
    for members, batch in reader.batches(sequences):
        losses[members] = mean_losses(reader.model, batch).numpy()
        advance(len(members))
    return losses


class Perplexity(ReadEncoder):
    """The exponential of the mean loss of an example's answer, its prompt before it.

    Args:
        reader: the model.
    """

    dim = 1

    def space(self) -> Fingerprint:
        return {"representation": "perplexity", **self.reader.space}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare a sequence per record; refused is one that has no answer, or none within the length limit."""
        reader = self.reader
        return prepare_each(examples, lambda example: reader.renderer(example.messages, reader.max_length))

    def encode(
        self, items: Sequence[Rendered], advance: Callable[[float], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Compute perplexities (N, 1), float32, from 1 up.

        Raises:
            ModelError: as ``Reader.model``.
        """
        return np.exp(_losses(self.reader, items, advance)).astype(np.float32)[:, None]

    def flops(self, shape: Shape, item: Rendered) -> float:
        """Return the operations of reading an example, with logits at its labels."""
        return shape.read([self.size(item)], item.n_labels)


class AnswerSequences(NamedTuple):
    """An answer behind its prompt, and by itself; labelled are the same tokens in both."""

    prompted: Rendered
    alone: Rendered


class IFD(ReadEncoder):
    """Instruction-following difficulty: the mean loss of an answer behind its prompt, over that of the answer alone.

    Alone it stands right behind the begin-of-sequence token, where the tokenizer has one; no role is written. Where
    there is none, nothing predicts the answer's first token, and that token counts on neither side. Several answers of
    a conversation stand behind each other. Under 1 the prompt helps; at 1 or more it does not, and the paper leaves
    such examples out. Among the others, it takes the largest. (The authors' code writes "### Response:" before the
    answer alone.)

    Args:
        reader: the model.
    """

    dim = 1

    def space(self) -> Fingerprint:
        return {"representation": "ifd", **self.reader.space}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare two sequences per record.

        Refused is one that has no answer, none within the length limit, or one too short.
        """
        return prepare_each(examples, self._answer)

    def _answer(self, example: Example) -> AnswerSequences:
        rendered = self.reader.renderer(example.messages, self.reader.max_length)
        places = [i for i, label in enumerate(rendered.labels) if label != IGNORED]
        ids = [rendered.input_ids[i] for i in places]
        begin = self.reader.renderer.tokenizer.bos_token_id
        first = 0 if begin is not None and places[0] > 0 else 1  # of the answer's tokens with something before them
        if first == len(places):
            raise DataError("the answer is a single token, which by itself nothing predicts")
        before = [] if begin is None else [begin]
        labels = [IGNORED] * len(rendered.labels)
        for i in places[first:]:
            labels[i] = rendered.input_ids[i]
        return AnswerSequences(
            Rendered(rendered.input_ids, labels, rendered.full_length),
            Rendered(before + ids, [IGNORED] * (len(before) + first) + ids[first:], len(before) + len(ids)),
        )

    def encode(
        self, items: Sequence[AnswerSequences], advance: Callable[[float], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Compute ratios (N, 1), float32, from 0 up.

        1 where the answer is certain even alone, so that no prompt can help.

        Raises:
            ModelError: as ``Reader.model``.
        """
        sequences = [sequence for answer in items for sequence in answer]
        losses = _losses(self.reader, sequences, lambda n: advance(n / 2))
        prompted_N, alone_N = losses[0::2], losses[1::2]
        ratio_N = np.divide(prompted_N, alone_N, where=alone_N > 0, out=np.ones_like(alone_N))
        return ratio_N.astype(np.float32)[:, None]

    def rank(self, rows_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the ratios; those of 1 or more, where the prompt does not help and the paper leaves out, come last."""
        ratio_N = rows_ND[:, 0]
        return np.where(ratio_N < 1, ratio_N, 1 - ratio_N)

    def size(self, item: AnswerSequences) -> int:
        """Return the tokens of both sequences."""
        return len(item.prompted.input_ids) + len(item.alone.input_ids)

    def flops(self, shape: Shape, item: AnswerSequences) -> float:
        """Return the operations of reading both, with logits at their labels."""
        return shape.read([len(sequence.input_ids) for sequence in item], count_labelled(item))
