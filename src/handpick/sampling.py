"""Answers drawn from a model, many prompts at a time, token ids kept (transformers' ``generate``).

The same prompts, settings and seed give the same samples: prompts are grouped by length, and each group draws from a
generator seeded by what is in it.

Legend: P prompts of a group, K samples a prompt, T tokens of the longest prompt.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from handpick.fingerprint import Fingerprint, digest
from handpick.gradients.forward import evaluating
from handpick.gradients.kernels import fast_exact_float32

_ROWS_ON_CPU, _ROWS_ON_GPU = 128, 512  # sequences that are generated at a time


class Sample(NamedTuple):
    """One answer: the tokens as they were drawn, the one that ended it among them, and the text without that one."""

    ids: list[int]
    text: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How answers are drawn.

    ``temperature`` 0 takes the likeliest token every time. An answer ends at the model's end-of-sequence token, after
    a ``stop`` text (which is left out of its text) or at ``max_new_tokens``.
    """

    samples: int = 1
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.95
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()

    def fingerprint(self) -> Fingerprint:
        """What decides the samples, besides model, prompts and seed."""
        return asdict(self) | {"stop": list(self.stop)}


class Group(NamedTuple):
    """Which prompts were answered together, and the K answers of each."""

    prompts: list[int]
    samples: list[list[Sample]]


def groups(lengths: Sequence[int], sampling: Sampling, rows: int) -> list[list[int]]:
    """Prompts of like length, as many as give ``rows`` sequences at most, and at least one."""
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    size = max(1, rows // sampling.samples)
    return [by_length[i : i + size] for i in range(0, len(by_length), size)]


def sample(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    pad_id: int,
    rows: int | None = None,
    skip: Callable[[list[int]], bool] = lambda members: False,
) -> Iterator[Group]:
    """Draw ``sampling.samples`` answers to every prompt; a group comes as soon as it is done.

    Args:
        model: a causal language model, with an adapter or without.
        tokenizer: the model's.
        prompts: token ids, none of them empty.
        sampling: how to draw.
        seed: of the draw.
        pad_id: fills groups up, on the left.
        rows: sequences at a time; None: 128 on a CPU, 512 on a GPU.
        skip: says of a group's prompts whether they are answered already.
    """
    device = next(model.parameters()).device
    rows = rows or (_ROWS_ON_CPU if device.type == "cpu" else _ROWS_ON_GPU)
    for members in groups([len(prompt) for prompt in prompts], sampling, rows):
        if skip(members):
            continue
        own = [list(prompts[i]) for i in members]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(int(digest({"seed": seed, "prompts": own}), 16) >> 1)
            drawn = _draw(model, tokenizer, own, sampling, pad_id)
        yield Group(members, drawn)


@torch.no_grad()
def _draw(
    model: nn.Module, tokenizer: Any, prompts: list[list[int]], sampling: Sampling, pad_id: int
) -> list[list[Sample]]:
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    longest = max(map(len, prompts))
    ids_PT = torch.tensor([[pad_id] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask_PT = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    ends = _end_ids(causal, tokenizer)
    greedy = sampling.temperature == 0
    drawing = {} if greedy else {
        "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p,
    }  # fmt: skip
    config = GenerationConfig(
        do_sample=not greedy, max_new_tokens=sampling.max_new_tokens, eos_token_id=ends or None, pad_token_id=pad_id,
        stop_strings=list(sampling.stop) or None, **drawing,
    )  # fmt: skip
    own_config = causal.generation_config
    causal.generation_config = config  # what a model would bring along (a repetition penalty) is not what was asked for
    try:
        with fast_exact_float32(), evaluating(model):
            cache = _prefilled(model, ids_PT, mask_PT, sampling.samples)
            ids_RT, mask_RT = (each.repeat_interleave(sampling.samples, dim=0) for each in (ids_PT, mask_PT))
            out_RL = model.generate(  # type: ignore[operator]
                input_ids=ids_RT, attention_mask=mask_RT, generation_config=config, past_key_values=cache,
                tokenizer=tokenizer if sampling.stop else None,
            )  # fmt: skip
    finally:
        causal.generation_config = own_config
    answers = [_sample(row, ends, sampling.stop, tokenizer) for row in out_RL[:, longest:].tolist()]
    return [answers[i : i + sampling.samples] for i in range(0, len(answers), sampling.samples)]


def _prefilled(model: nn.Module, ids_PT: Tensor, mask_PT: Tensor, samples: int) -> Any:
    """What the model remembers of all but each prompt's last token, once a sample: computed once a prompt."""
    from transformers import DynamicCache

    if ids_PT.shape[1] == 1 or samples == 1:
        return None
    position_PT = (mask_PT.cumsum(1) - 1).clamp_min(0)
    cache = model(
        input_ids=ids_PT[:, :-1], attention_mask=mask_PT[:, :-1], position_ids=position_PT[:, :-1], use_cache=True,
        past_key_values=DynamicCache(config=model.config),  # type: ignore[arg-type]
    ).past_key_values  # fmt: skip
    cache.batch_repeat_interleave(samples)
    return cache


def _end_ids(causal: Any, tokenizer: Any) -> list[int]:
    """Tokens that end an answer: the generation settings' of the model, and the tokenizer's."""
    named = causal.generation_config.eos_token_id
    found = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return sorted(found - {None})


def _sample(ids: list[int], ends: list[int], stop: Sequence[str], tokenizer: Any) -> Sample:
    end = next((place for place, token in enumerate(ids) if token in ends), None)
    said = ids if end is None else ids[:end]
    kept = ids if end is None else ids[: end + 1]
    text = tokenizer.decode(said, skip_special_tokens=True)
    stops = [place for word in stop if (place := text.find(word)) >= 0]
    if stops:
        kept = _up_to(said, text, min(stops), stop, tokenizer)
        text = text[: min(stops)]
    return Sample(kept, text)


def _up_to(ids: list[int], text: str, place: int, stop: Sequence[str], tokenizer: Any) -> list[int]:
    """The tokens up to the one that completes the stop text; what follows is a group's filling."""
    for n in range(1, len(ids) + 1):
        so_far = tokenizer.decode(ids[:n], skip_special_tokens=True)
        if any(word in so_far for word in stop):
            return ids[:n]
    return ids
