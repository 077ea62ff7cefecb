"""Scores that a base model gives an example, with no query: the perplexity of its answer, and how much the prompt helps
with it (IFD, Li et al. 2024, arXiv 2308.12032, section 2.2). Each is a row of one value.

The answer is what the loss stands on everywhere else (data/render.py): the assistant's turns with their ends of turn,
cut to the length limit.

Legend: N examples, B sequences of a batch, T positions, H hidden size, M positions of the whole batch that predict a
labelled token, C of them in a chunk, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from handpick.data.batching import Batch
from handpick.data.examples import Example
from handpick.data.render import IGNORED, Rendered
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint
from handpick.gradients.forward import decoder_of, evaluating, forward_is
from handpick.gradients.kernels import fast_exact_float32
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.represent.base_model import Reader

# Logits that are made at a time: few enough to stay in a CPU's cache.
_CPU_LOGITS = 1 << 22
_GPU_LOGITS = 1 << 27


@torch.no_grad()
def mean_losses(model: nn.Module, batch: Batch) -> Tensor:
    """The mean negative log-likelihood of each sequence's labelled tokens, float64 (B,), on the CPU.

    Logits are made at the positions that predict such a token and nowhere else.

    Args:
        model: a causal language model.
        batch: on the CPU, padded on the right; every sequence has a labelled token behind its first.
    """
    causal: Any = model
    decoder: Any = decoder_of(model)
    device = next(model.parameters()).device
    n_sequences, width = batch.input_ids_BT.shape
    target_N = batch.targets_BT.flatten()
    position_M = (target_N != IGNORED).nonzero()[:, 0]
    target_M = target_N[position_M].to(device)
    loss_M = torch.empty(len(position_M), dtype=torch.float64, device=device)
    no_tokens = torch.zeros(1, 1, dtype=torch.int64, device=device)
    step = max(1, (_CPU_LOGITS if device.type == "cpu" else _GPU_LOGITS) // causal.config.get_text_config().vocab_size)
    with fast_exact_float32(), evaluating(model):
        output = decoder(input_ids=batch.input_ids_BT.to(device), use_cache=False)
        hidden_MH = output.last_hidden_state.flatten(0, 1)[position_M.to(device)]
        for start in range(0, len(position_M), step):
            chunk = slice(start, start + step)
            held = type(output)(last_hidden_state=hidden_MH[None, chunk])
            # the model's own forward, so that whatever it does to logits (soft-capping, scaling) is done
            with forward_is(decoder, lambda *_args, held=held, **_kwargs: held):
                logits_CV = causal(input_ids=no_tokens, use_cache=False).logits[0]
            wide = torch.promote_types(logits_CV.dtype, torch.float32)
            loss_M[chunk] = cross_entropy(logits_CV.to(wide), target_M[chunk], reduction="none").double()
    row_M = position_M // width
    sum_B = torch.zeros(n_sequences, dtype=torch.float64).index_add_(0, row_M, loss_M.cpu())
    return sum_B / torch.bincount(row_M, minlength=n_sequences)


def _losses(reader: Reader, sequences: Sequence[Rendered], advance: Callable[[int], None]) -> NDArray[np.float64]:
    """The mean loss of every sequence; ``advance`` is told how many more are done."""
    losses = np.empty(len(sequences))
    for members, batch in reader.batches(sequences):
        losses[members] = mean_losses(reader.model, batch).numpy()
        advance(len(members))
    return losses


class Perplexity:
    """The exponential of the mean loss of an example's answer, its prompt before it.

    Args:
        reader: the model.
    """

    dim = 1

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def space(self) -> Fingerprint:
        return {"representation": "perplexity", **self._reader.space}

    def build(self) -> Fingerprint:
        return self._reader.build

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """A sequence a record; refused is one that has no answer, or none within the length limit."""
        reader = self._reader
        return prepare_each(examples, lambda example: reader.renderer(example.messages, reader.max_length))

    def encode(
        self, items: Sequence[Rendered], advance: Callable[[float], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Perplexities (N, 1), float32, from 1 up.

        Raises:
            ModelError: as ``Reader.model``.
        """
        return np.exp(_losses(self._reader, items, advance)).astype(np.float32)[:, None]


class Answer(NamedTuple):
    """An answer behind its prompt, and by itself; labelled are the same tokens in both."""

    prompted: Rendered
    alone: Rendered


class IFD:
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

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def space(self) -> Fingerprint:
        return {"representation": "ifd", **self._reader.space}

    def build(self) -> Fingerprint:
        return self._reader.build

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Two sequences a record; refused is one that has no answer, none within the length limit, or one too short."""
        return prepare_each(examples, self._answer)

    def _answer(self, example: Example) -> Answer:
        rendered = self._reader.renderer(example.messages, self._reader.max_length)
        places = [i for i, label in enumerate(rendered.labels) if label != IGNORED]
        ids = [rendered.input_ids[i] for i in places]
        begin = self._reader.renderer.tokenizer.bos_token_id
        first = 0 if begin is not None and places[0] > 0 else 1  # of the answer's tokens with something before them
        if first == len(places):
            raise DataError("the answer is a single token, which by itself nothing predicts")
        before = [] if begin is None else [begin]
        labels = [IGNORED] * len(rendered.labels)
        for i in places[first:]:
            labels[i] = rendered.input_ids[i]
        return Answer(
            Rendered(rendered.input_ids, labels, rendered.full_length),
            Rendered(before + ids, [IGNORED] * (len(before) + first) + ids[first:], len(before) + len(ids)),
        )

    def encode(self, items: Sequence[Answer], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        """Ratios (N, 1), float32, from 0 up; 1 where the answer is certain even alone, so that no prompt can help.

        Raises:
            ModelError: as ``Reader.model``.
        """
        sequences = [sequence for answer in items for sequence in answer]
        losses = _losses(self._reader, sequences, lambda n: advance(n / 2))
        prompted_N, alone_N = losses[0::2], losses[1::2]
        ratio_N = np.divide(prompted_N, alone_N, where=alone_N > 0, out=np.ones_like(alone_N))
        return ratio_N.astype(np.float32)[:, None]
