"""What a forward pass multiplies, seen in one over a few tokens: which layers run, how often, how wide attention is.

No configuration is read: what of a mixture's experts a token takes, which layers attend and which convolve, and what a
text leaves out (the towers of a multimodal model) is what the pass itself does.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from handpick.gradients.forward import eval_mode
from handpick.model.tokens import plain_tokens

_TOKENS = 13  # of the pass; no other dimension of a layer is as long
_PRODUCTS = (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.default)


class Multiplied(NamedTuple):
    """By how many weights a token is multiplied, the adapter's apart, and by how many numbers of each other token."""

    linear: float
    adapter: float
    attention: int


@dataclass
class _Calls:
    """The calls of a module: rows that it was given, over all of them, and experts that a row goes through."""

    n: int = 0
    rows: int = 0
    experts: int = 1

    def add(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        rows = next(
            (each.numel() // max(1, each.shape[-1]) for each in given if each.is_floating_point() and each.ndim), 0
        )
        chosen = [each for each in given if each.dtype in (torch.int32, torch.int64) and each.ndim == 2]
        self.n += 1
        self.rows += rows
        self.experts = next((each.shape[1] for each in chosen if len(each) == rows), 1)


@torch.no_grad()
def trace(causal: Any, decoder: nn.Module) -> Multiplied:
    """Return what of a decoder's weights a text multiplies a token by.

    Args:
        causal: the causal language model, which may carry an adapter.
        decoder: what of it stands below its head.
    """
    calls: dict[nn.Module, _Calls] = {module: _Calls() for module in decoder.modules()}
    ids_1T = plain_tokens(causal, _TOKENS)[None].to(next(causal.parameters()).device)
    with ExitStack() as stack:
        for module, own in calls.items():
            hook = module.register_forward_pre_hook(
                lambda _module, args, kwargs, own=own: own.add(args, kwargs), with_kwargs=True
            )
            stack.callback(hook.remove)
        attention = stack.enter_context(_Attention())
        stack.enter_context(eval_mode(causal))
        causal(input_ids=ids_1T, use_cache=False)
    linear = adapter = 0.0
    for name, module, weight, size in _weights(decoder):
        share = _share(decoder, name, module, weight, calls)
        if ".lora_" in name:
            adapter += size * share
        else:
            linear += size * share
    return Multiplied(linear, adapter, attention.width)


def _weights(decoder: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor, int]]:
    """Yield every weight of two dimensions and more, but of embeddings: its module's name, that, itself, its size."""
    for name, module in decoder.named_modules():
        if isinstance(module, nn.Embedding):
            continue
        for kind, weight in module.named_parameters(recurse=False):
            if kind == "weight" and isinstance(module, nn.Linear):  # a quantized weight is packed
                yield f"{name}.{kind}", module, weight, module.in_features * module.out_features
            elif weight.ndim >= 2:
                yield f"{name}.{kind}", module, weight, weight.numel()


def _share(decoder: nn.Module, name: str, module: nn.Module, weight: Tensor, calls: dict[nn.Module, _Calls]) -> float:
    """Return how often a token is multiplied by a weight: a layer once a call, an expert where it is chosen."""
    own = calls[module]
    above = decoder.get_submodule(name.rpartition(".")[0].rpartition(".")[0])
    if isinstance(module, nn.modules.conv._ConvNd):  # whose weight a kernel may be handed without the module
        return float((own.n or calls[above].n) > 0)
    if isinstance(module, nn.Linear):
        if not own.n and ".lora_" in name:  # of a layer that adds it to its weights, as peft does for fused experts
            adapted = decoder.get_submodule(name[: name.index(".lora_")])
            return calls[adapted].rows * calls[adapted].experts / (_TOKENS * getattr(adapted, "num_experts", 1))
        return own.rows / _TOKENS
    if weight.ndim == 3:
        return own.rows * own.experts / (_TOKENS * weight.shape[0])
    # one call a layer, on every row; or one an expert, on the rows that chose it, of a weight that holds all of them
    return min(1.0, own.rows / (_TOKENS * own.n)) if own.n > 1 and own.rows else float(own.n)


class _Attention(TorchDispatchMode):
    """Adds up, over products of every token with every other, the numbers each pair takes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.width = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count a product, and do it."""
        if func in _PRODUCTS:
            left_BMK, right_BKN = args[-2:]
            sizes = [*left_BMK.shape[1:], right_BKN.shape[2]]
            if sizes.count(_TOKENS) >= 2:
                self.width += left_BMK.shape[0] * math.prod(sizes) // _TOKENS**2
        elif "scaled_dot_product" in func.__name__:
            query_BHTD, _, value_BHTD = args[:3]
            self.width += math.prod(query_BHTD.shape[:-2]) * (query_BHTD.shape[-1] + value_BHTD.shape[-1])
        return func(*args, **(kwargs or {}))
