"""A check at load: what a model makes of a sequence is the same alone and in a batch, or the model is refused by name.

Everything here rests on it. Batches are filled up behind their sequences and no mask is given, since a causal model
never looks there. An encoder that was loaded as a language model does look, half of an encoder–decoder may, and a model
that reads a prefix in both directions; nothing in their outputs says so.

Legend: B sequences, T positions, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from handpick.errors import HandpickError, ModelError, first_line
from handpick.model.mixing import mixing_of
from handpick.model.positions import position_tables
from handpick.model.tokens import plain_tokens
from handpick.model.tried import try_once

_LONGER = 21  # tokens of the longer of the two sequences; three of them are read at a time
_EXACT = 1e-4  # relative error of logits in float32, where a batch of another shape moves them by 1e-6
# In 16 bits. Where the shape is the same, nothing moves but by what is added up in no fixed order: no more than a few
# times what another neighbour makes of it.
_UNMOVED, _TIMES, _AT_MOST = 0.005, 4, 0.3
# Another shape rounds otherwise, by up to 0.015, and sends some tokens to other experts: the median position tells.
_ALIKE = 0.045  # a cosine of .999

_ATTEMPT = "a sequence reads the same in company"
_passed: set[tuple[str, torch.dtype, str]] = set()


def check_reading(model: nn.Module, name: str, how: str = "") -> None:
    """Refuse a model whose logits depend on what stands behind a sequence or beside it; tried once (``tried.py``).

    Args:
        model: a causal language model without an adapter, in evaluation mode.
        name: of the model, for messages.
        how: what else tells two models of one name and type apart.

    Raises:
        ModelError: they do, or it cannot read text by itself; the message says which, and what to do.
    """
    key = (name, next(model.parameters()).dtype, how)
    if key in _passed:
        return
    try_once(model, _ATTEMPT, lambda: _require_passing(model, name))
    _passed.add(key)


def _require_passing(model: nn.Module, name: str) -> bool:
    if (found := refusal(model)) is not None:
        raise ModelError(f"{name} ({type(model).__name__}) {found}")
    return True


def refusal(model: Any) -> str | None:
    """Return why a model cannot be used, as the end of a sentence that begins with it; None where it can.

    Two short passes tell, in 16 bits a third where they differ.
    """
    length, longest = try_lengths(model)
    ids_T = plain_tokens(model, 3 * longest)
    own_T, other_T, third_T = ids_T[:length], ids_T[longest : 2 * longest], ids_T[2 * longest :]
    behind_T = ids_T[length:longest]
    filled_T = torch.full_like(behind_T, _filling(model))
    batch_BT = torch.stack([torch.cat([own_T, behind_T]), torch.cat([own_T, filled_T]), other_T])
    try:
        alone_TV = _logits(model, own_T[None])[0]
        together_BTV = _logits(model, batch_BT)[:2, :length]
    except Exception as error:  # it is transformers' own, and may be of any kind
        return cannot_read(model, error)
    moved = float(errors(together_BTV[0], together_BTV[1]).max())
    far_BT = torch.stack([errors(each_TV, alone_TV) for each_TV in together_BTV])
    exact = is_exact(model)
    if not exact and moved > _UNMOVED:
        batch_BT[2] = third_T
        beside = float(errors(_logits(model, batch_BT)[0, :length], together_BTV[0]).max())
        moved = 0.0 if moved < min(_AT_MOST, _TIMES * beside) else moved
    if moved <= (_EXACT if exact else _UNMOVED) and all(is_rounding(model, far_T) for far_T in far_BT):
        return None
    far_B = far_BT.max(dim=1).values if exact else far_BT.median(dim=1).values
    return _looks_ahead(model, max(moved, float(far_B.max())))


def try_lengths(model: Any) -> tuple[int, int]:
    """Return two lengths to try a model with, which it may read together: neither is beyond what it can."""
    mixing = mixing_of(model.config)
    limits = [limit for limit in (*position_tables(model), mixing.switch, mixing.alone) if limit is not None]
    longest = max(2, min([_LONGER, *limits]))
    return max(1, longest * 4 // 7), longest


def errors(got_TV: Tensor, want_TV: Tensor) -> Tensor:
    """Return the relative error of logits at each position, (T,), float64.

    The height that all logits of a position have in common is left out; what is not finite has no error.
    """
    got_TV, want_TV = (each.double() - each.double().mean(dim=-1, keepdim=True) for each in (got_TV, want_TV))
    error_T: Tensor = (got_TV - want_TV).norm(dim=-1) / want_TV.norm(dim=-1)
    return error_T.nan_to_num(0.0, 0.0, 0.0)


def is_rounding(model: nn.Module, error_T: Tensor) -> bool:
    """Return whether errors are no more than the rounding of batches of unlike shapes: the largest in float32.

    In 16 bits the median, since some tokens are sent to other experts.
    """
    return bool(error_T.max() <= _EXACT if is_exact(model) else error_T.median() <= _ALIKE)


def is_exact(model: nn.Module) -> bool:
    """Return whether a model computes in no less than float32."""
    return all(p.dtype not in (torch.bfloat16, torch.float16) for p in model.parameters())


def cannot_read(model: Any, error: Exception) -> str:
    """Return the end of a sentence on a model that fails where it is given nothing but text."""
    if isinstance(error, HandpickError):
        raise error
    other = "" if is_exact(model) else "; it computes in 16 bits: try --dtype float32"
    return f"cannot read text by itself: {first_line(error)}{other}"


def _looks_ahead(model: Any, far: float) -> str:
    remedy = "name a causal language model"
    if getattr(model.config.get_text_config(), "is_decoder", None) is False:
        remedy = 'say "is_decoder": true in its config.json if it was trained as a decoder, else ' + remedy
    return (
        f"is no causal language model: what stands behind a sequence, or beside it in a batch, changes its logits by "
        f"{100 * far:.2g}%, so that losses, gradients and answers would be those of a batch and not of an example; "
        f"{remedy}"
    )


def _filling(model: Any) -> int:
    """Return the token that fills batches up where the configuration names one that the model has."""
    text, n_tokens = model.config.get_text_config(), model.get_input_embeddings().weight.shape[0]
    named = (getattr(text, name, None) for name in ("pad_token_id", "eos_token_id"))
    return next((i for i in named if isinstance(i, int) and 0 <= i < n_tokens), 0)


@torch.no_grad()
def _logits(model: nn.Module, ids_BT: Tensor) -> Tensor:
    device = next(model.parameters()).device
    logits_BTV: Tensor = model(input_ids=ids_BT.to(device), use_cache=False).logits
    return logits_BTV
