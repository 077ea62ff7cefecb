"""A batch of prompts continued by transformers' ``generate``, and what of a batch a model's answers bear.

A prompt is padded on the left, and read once for all of its answers. Not every model's answers are then its own, and no
list says whose: a short answer is tried, alone and so.

Legend: P prompts of a batch, R = P · n rows, T tokens of the longest prompt, L of the longest row with its answer.
"""

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from handpick.errors import ModelError, first_line
from handpick.gradients.forward import causal_of, decoder_of, eval_mode, takes_positions
from handpick.gradients.kernels import fast_exact_float32
from handpick.model.check import errors, is_rounding, try_lengths
from handpick.model.tokens import plain_tokens
from handpick.model.tried import try_once
from handpick.progress import log_once
from handpick.sampling.cache import cache_bytes

_STEPS = 3  # tokens of a tried answer
_TOGETHER, _REPEATED = "what may be answered together", "what is remembered of a prompt can be repeated"  # attempts
_NEW, _OLD = "cache", "past_key_values"  # what a model remembers: so from transformers 5.24 on, and before
# found once for each model
_COMPANY: "WeakKeyDictionary[nn.Module, Company]" = WeakKeyDictionary()
_SHARED: "WeakKeyDictionary[nn.Module, bool]" = WeakKeyDictionary()


def decode(model: nn.Module, ids_PT: Tensor, mask_PT: Tensor, n: int, config: Any, stopping: Any = None) -> Any:
    """Continue every prompt n times, and return what ``generate`` gives: the rows (R, L), or more where asked.

    Args:
        model: a causal language model, with an adapter or without.
        ids_PT: the prompts, padded on the left.
        mask_PT: 1 where a token is, 0 where padding is.
        n: answers to each.
        config: transformers' settings of the generation.
        stopping: transformers' criteria that end an answer.

    Raises:
        ModelError: the model fails.
    """
    return _decode(model, ids_PT, mask_PT, n, config, stopping, shared=n > 1 and _shares_prompts(model))


@torch.no_grad()
def _decode(
    model: nn.Module, ids_PT: Tensor, mask_PT: Tensor, n: int, config: Any, stopping: Any, *, shared: bool
) -> Any:
    """Do it, each prompt read once for all of its answers where ``shared``."""
    with fast_exact_float32(), eval_mode(model), _settings(model, config):
        try:
            if cache_bytes(model) is None:
                config.use_cache = False
            cache = _prefill(model, ids_PT, mask_PT, n) if shared else None
            ids_RT, mask_RT = (each.repeat_interleave(n, dim=0) for each in (ids_PT, mask_PT))
            return model.generate(  # type: ignore[operator]
                input_ids=ids_RT,
                attention_mask=mask_RT,
                generation_config=config,
                stopping_criteria=stopping,
                **({} if cache is None else {_cache_of_generate(): cache}),
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of any kind: it is the model's own code
            raise ModelError(
                f"{type(causal_of(model)).__name__} cannot write answers here: {first_line(error)}"
            ) from error


@contextmanager
def _settings(model: nn.Module, config: Any) -> Iterator[None]:
    """Put what was asked for in the place of what a model brings along (a repetition penalty); routers keep still."""
    causal = causal_of(model)
    text, own = causal.config.get_text_config(), causal.generation_config
    routers = getattr(text, "output_router_logits", None)
    causal.generation_config = config
    if routers:  # a loss of theirs would be computed, which fails on a mask of what was read before
        text.output_router_logits = False
    try:
        yield
    finally:
        causal.generation_config = own
        if routers:
            text.output_router_logits = routers


def _prefill(model: nn.Module, ids_PT: Tensor, mask_PT: Tensor, n: int) -> Any:
    """Compute what the model remembers of all but each prompt's last token, ``n`` times: once per prompt.

    None where that gains nothing, or the model remembers in a form that cannot be repeated (linear attention).
    """
    from transformers import DynamicCache

    causal = causal_of(model)
    decoder = decoder_of(causal)
    if ids_PT.shape[1] == 1 or decoder is None or cache_bytes(model) is None:
        return None
    cache = DynamicCache(config=causal.config)
    if not all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers):
        return None
    position_PT = (mask_PT.cumsum(1) - 1).clamp_min(0)
    positions = {"position_ids": position_PT[:, :-1]} if takes_positions(decoder) else {}
    name = _NEW if _NEW in inspect.signature(decoder.forward).parameters else _OLD
    output = decoder(  # without the head, whose logits nobody reads
        input_ids=ids_PT[:, :-1], attention_mask=mask_PT[:, :-1], use_cache=True, **{name: cache}, **positions
    )
    cache = getattr(output, name)
    cache.batch_repeat_interleave(n)
    return cache


@functools.cache
def _cache_of_generate() -> str:
    """Return the name under which ``generate`` takes what a model remembers."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    return _NEW if _NEW in BaseModelOutputWithPast.__dataclass_fields__ else _OLD


class Company(Enum):
    """What may stand beside a prompt without changing its answer."""

    ANY = "padding before a prompt leaves its answer as it is"
    EQUAL = "padding before a prompt changes its answer: only prompts of one length are answered together"
    NONE = "what stands beside a prompt changes its answer: answers are drawn one at a time"


def company(model: nn.Module) -> Company:
    """Return what may be answered together; found once, by trying, and said where it is not any prompts.

    Raises:
        ModelError: the model cannot write answers, or not from the logits that it has when it reads them.
    """
    causal = causal_of(model)
    if causal not in _COMPANY:
        _COMPANY[causal] = found = Company[try_once(causal, _TOGETHER, lambda: _try_company(model).name)]
        if found is not Company.ANY:
            log_once(f"{type(causal).__name__}: {found.value}")
    return _COMPANY[causal]


def _try_company(model: nn.Module) -> Company:
    """Compare a prompt's answer alone with what it is read as, beside another prompt, and behind padding."""
    length, longest = try_lengths(causal_of(model))
    ids_T = plain_tokens(causal_of(model), length + longest).to(next(model.parameters()).device)
    own_T, other_T = ids_T[:length], ids_T[length:]
    alone = _first_steps(model, own_T[None], torch.ones_like(own_T)[None])
    with torch.no_grad(), eval_mode(model):
        read_1T = torch.cat([own_T, alone.tokens[:-1]])[None]
        logits_TV = model(input_ids=read_1T, use_cache=False).logits[0, length - 1 :]
    if not _same_answer(model, _Steps(logits_TV, alone.tokens), alone):
        raise ModelError(
            f"{type(causal_of(model)).__name__} cannot write answers here: transformers' generate gives it other "
            "logits than reading the same tokens does; take another model, or what needs no answers"
        )
    ones_PT = torch.ones(2, longest, dtype=torch.int64, device=ids_T.device)
    before_T = other_T[:1].expand(longest - length)  # padding: any token, and masked
    beside = (torch.stack([own_T, other_T[:length]]), ones_PT[:, :length])
    padded = (torch.stack([torch.cat([before_T, own_T]), other_T]), ones_PT.clone())
    padded[1][0, : longest - length] = 0
    for (ids_PT, mask_PT), otherwise in ((beside, Company.NONE), (padded, Company.EQUAL)):
        try:
            if not _same_answer(model, _first_steps(model, ids_PT, mask_PT), alone):
                return otherwise
        except ModelError:  # alone it writes
            return otherwise
    return Company.ANY


def _shares_prompts(model: nn.Module) -> bool:
    """Return whether what a model remembers of a prompt can be repeated for its answers; found once, by trying."""
    causal = causal_of(model)
    if causal not in _SHARED:
        _SHARED[causal] = try_once(causal, _REPEATED, lambda: _try_repeating(model))
    return _SHARED[causal]


def _try_repeating(model: nn.Module) -> bool:
    causal = causal_of(model)
    length, _ = try_lengths(causal)
    ids_PT = plain_tokens(causal, length).to(next(model.parameters()).device)[None]
    alone = _first_steps(model, ids_PT, torch.ones_like(ids_PT))
    try:
        return _same_answer(model, _first_steps(model, ids_PT, torch.ones_like(ids_PT), shared=True), alone)
    except ModelError:  # transformers repeats keys and values, and of some layers not the states beside them
        return False


class _Steps(NamedTuple):
    """The first steps of a greedy answer: the logits (steps, V) it comes from, and its tokens (steps,)."""

    logits: Tensor
    tokens: Tensor


def _first_steps(model: nn.Module, ids_PT: Tensor, mask_PT: Tensor, *, shared: bool = False) -> _Steps:
    """Answer the first prompt, the second time where the prompt is ``shared`` by two answers."""
    from transformers import GenerationConfig

    config = GenerationConfig(
        do_sample=False, max_new_tokens=_STEPS, output_logits=True, return_dict_in_generate=True, pad_token_id=0
    )
    row = int(shared)
    made = _decode(model, ids_PT, mask_PT, 1 + row, config, None, shared=shared)
    return _Steps(torch.stack([logits_RV[row] for logits_RV in made.logits]), made.sequences[row, -_STEPS:])


def _same_answer(model: nn.Module, got: _Steps, want: _Steps) -> bool:
    """Compare two answers as far as they follow the same tokens."""
    same = 1 + int((got.tokens == want.tokens)[:-1].cumprod(0).sum())
    return is_rounding(causal_of(model), errors(got.logits[:same], want.logits[:same]))
