"""A check before work: the engine's rows of a padded batch are plain autograd's of each sequence alone.

``handpick.model.check`` has shown that what a model makes of a sequence does not hang on the rest of a batch; this
shows the same of gradients, with the adapter that is used, on the machine and in the precision that it is used in.

Legend: B sequences, T positions, V vocabulary, D coordinates of the gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn

from handpick.data.batching import collate
from handpick.data.render import IGNORED, Rendered
from handpick.errors import HandpickError, ModelError, first_line
from handpick.fingerprint import digest
from handpick.gradients.engine import GradientEngine
from handpick.gradients.experts import as_here
from handpick.gradients.forward import causal_of, eval_mode
from handpick.gradients.layers import canonical_name
from handpick.model.check import is_exact, try_lengths
from handpick.model.tokens import plain_tokens
from handpick.model.tried import try_once

_EXACT = 1e-4  # relative error in float32
# In 16 bits one less the cosine: nothing, or no more than a few times what copies of a sequence beside it make of it. A
# router near a tie may send a token to another expert in the one and not in the other; a row that is another example's
# is off by far more than that, and the doctor looks in float32.
_ALIKE, _FLIPPED, _TIMES, _AT_MOST = 1e-3, 0.05, 4, 0.3


def check_rows(engine: GradientEngine) -> None:
    """Refuse a model whose rows in a padded batch are not the gradients of its sequences.

    A short batch goes through the engine and one of its sequences through plain autograd; in 16 bits the latter once
    more where they differ. Of the rows nothing is held but of one a copy. Tried once for a model that was loaded by its
    name and an adapter's places on it (``handpick.model.tried``).

    Raises:
        ModelError: they are not, or no gradient can be taken.
    """
    causal = causal_of(engine.model)
    attempt = f"rows of {digest([[layer.name, *layer.module.weight.shape] for layer in engine.layers])}"
    try_once(causal, attempt, lambda: _try_rows(engine, causal))


def _try_rows(engine: GradientEngine, causal: Any) -> bool:
    length, longest = try_lengths(causal)
    ids_T = plain_tokens(causal, length + longest)
    own_T, other_T = ids_T[:length].tolist(), ids_T[length:].tolist()
    sequences = [Rendered(ids, [IGNORED, *ids[1:]], len(ids)) for ids in (own_T, other_T)]
    batch = collate(sequences, pad_id=other_T[0])
    weight_B = torch.tensor([1 / max(1, len(ids) - 1) for ids in (own_T, other_T)], dtype=torch.float64)
    kind = type(causal).__name__
    try:
        want_D = autograd_row(engine, sequences[0])
        got = _FirstRow(want_D)
        engine.features(batch, weight_B, got)
        exact = is_exact(engine.model)
        wrong = got.relative_error > _EXACT if exact else got.from_cosine > _ALIKE
        if wrong and not exact:
            again = _FirstRow(want_D)
            again.add(want_D, autograd_row(engine, sequences[0], copies=3)[None], 0)
            wrong = got.from_cosine > min(_AT_MOST, max(_FLIPPED, _TIMES * again.from_cosine))
    except (HandpickError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # of any kind: it is the model's own code
        raise ModelError(f"no gradient of {kind} can be taken here: {first_line(error)}") from error
    if wrong:
        raise ModelError(
            f"the rows of {kind} would be wrong: in a padded batch a sequence's gradient is {got.relative_error:.1g} "
            "off (relative error) from plain autograd's of it alone; name other layers for the adapter, or another "
            "model"
        )
    return True


def autograd_row(engine: GradientEngine, sequence: Rendered, copies: int = 1) -> Tensor:
    """Compute the gradient of one sequence's mean loss, (D,), as anybody would write it; copies change nothing."""
    model: Any = engine.model
    device = next(model.parameters()).device
    model.zero_grad()
    rounding = [] if is_exact(model) else engine.experts.fused
    with eval_mode(model), as_here(rounding, (copies, len(sequence.input_ids))):
        ids_BT = torch.tensor([sequence.input_ids] * copies, device=device)
        labels_BT = torch.tensor([sequence.labels] * copies, device=device)
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1].float()
        nn.functional.cross_entropy(
            logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=IGNORED
        ).backward()
    gradients = {canonical_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    weights = [gradients[layer.name] for layer in engine.layers]
    row_D = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in weights])
    model.zero_grad()
    return row_D


class _FirstRow:
    """A projection to nothing: it compares the first row that comes with one that is known, and forgets it.

    Args:
        want_D: the known row.
    """

    dim = 0

    def __init__(self, want_D: Tensor) -> None:
        self._want_D = want_D
        self._error = self._got = self._want = self._product = 0.0
        self._is_first, self._has_begun = True, False

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        """Return nothing to add to."""
        self._is_first, self._has_begun = not self._has_begun, True  # the engine may take each sequence alone
        return like.new_empty((n_examples, 0))

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        """Compare some coordinates."""
        if not self._is_first:
            return
        got_P = rows_BP[0].double()
        want_P = self._want_D[offset : offset + len(got_P)].double()
        self._error += float((got_P - want_P).square().sum())
        self._got += float(got_P.square().sum())
        self._want += float(want_P.square().sum())
        self._product += float(got_P @ want_P)

    def finish(self, sums: Tensor) -> Tensor:
        """Return rows of nothing."""
        return sums

    @property
    def relative_error(self) -> float:
        """How far the row was off; nothing where either is not finite, which is found row by row."""
        return (self._error / self._want) ** 0.5 if self._want > 0 else 0.0

    @property
    def from_cosine(self) -> float:
        """One less the cosine of the two."""
        norms = (self._got * self._want) ** 0.5
        return 1 - self._product / norms if norms > 0 else 0.0
