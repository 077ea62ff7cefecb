"""What a model remembers of the tokens it has read, in bytes: measured, since configurations do not agree on it."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from handpick.gradients.forward import causal_of, eval_mode
from handpick.model.tokens import plain_tokens

_FEW, _MORE = 8, 16  # tokens
# Models whose cache is not what they read, once a prompt is longer than their attention's window (transformers 5.23).
# No short try shows it.
_FORGETFUL = {"moshi"}


class CacheBytes(NamedTuple):
    """Bytes of a sequence, whatever its length (the state of linear attention), and of each of its tokens."""

    sequence: int
    token: int

    def of(self, length: int) -> int:
        """Return the bytes of a sequence of so many tokens, at least one."""
        return max(1, self.sequence + self.token * length)


_MEASURED: "WeakKeyDictionary[nn.Module, CacheBytes | None]" = WeakKeyDictionary()  # once for each model


def cache_bytes(model: nn.Module) -> CacheBytes | None:
    """Return the bytes of what a causal language model remembers: keys and values, states of layers without them.

    None where it had better remember nothing: its forward pass fails then, or remembers otherwise than it reads. Two
    short passes tell; a window of attention that is longer than they are is taken for none.
    """
    causal = causal_of(model)
    if causal not in _MEASURED:
        _MEASURED[causal] = _measure(causal)
    return _MEASURED[causal]


@torch.no_grad()
def _measure(causal: Any) -> CacheBytes | None:
    if causal.config.model_type in _FORGETFUL:
        return None
    device = next(causal.parameters()).device
    ids_T = plain_tokens(causal, _MORE).to(device)
    try:
        with eval_mode(causal):
            few, more = (_count_held(causal(input_ids=ids_T[None, :n], use_cache=True)) for n in (_FEW, _MORE))
    except Exception:  # what goes wrong in there has no kind: BLT's configuration lacks what its cache asks for
        return None
    token = max(0, (more - few) // (_MORE - _FEW))
    return CacheBytes(max(0, few - token * _FEW), token)


def _count_held(output: Any) -> int:
    """Return the bytes of all numbers of a model's output but the logits, each storage once; counters are none."""
    remembered = {name: value for name, value in output.items() if name not in ("logits", "loss", "hidden_states")}
    tensors = (each for each in _tensors(remembered, set()) if each.is_floating_point())
    return sum({each.data_ptr(): each.nbytes for each in tensors}.values())


def _tensors(held: Any, seen: set[int]) -> Iterator[Tensor]:
    """Yield the tensors in nested containers and objects."""
    if isinstance(held, Tensor):
        yield held
    elif id(held) not in seen and not isinstance(held, str | bytes | int | float | type | nn.Module):
        seen.add(id(held))
        inside = held.values() if isinstance(held, dict) else held if isinstance(held, list | tuple) else None
        for each in (vars(held).values() if hasattr(held, "__dict__") else ()) if inside is None else inside:
            yield from _tensors(each, seen)
