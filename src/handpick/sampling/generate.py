"""Answers drawn from a model, many prompts at a time, token ids kept (transformers' ``generate``).

The same prompts, settings and seed give the same samples: prompts are grouped by length, and each group draws from a
generator seeded by what is in it.

Legend: P prompts of a group, K samples per prompt, T tokens of the longest prompt.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from handpick.fingerprint import Fingerprint, digest
from handpick.gradients.forward import causal_of
from handpick.model.mixing import mixing_of
from handpick.progress import log
from handpick.sampling.cache import CacheBytes, cache_bytes
from handpick.sampling.decode import Company, company, decode

# Sequences that are generated at a time, and bytes of their keys and values, at most. Not what happens to be free: what
# is drawn together decides the draw.
ROWS = {"cpu": 128, "cuda": 512}
_CACHE = {"cpu": 1 << 31, "cuda": 1 << 32}


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
        """Return what decides the samples, besides model, prompts and seed."""
        return asdict(self) | {"stop": list(self.stop)}


class Group(NamedTuple):
    """Which prompts were answered together, and the K answers of each."""

    prompts: list[int]
    samples: list[list[Sample]]


def groups(
    lengths: Sequence[int],
    samples: int,
    fits: Callable[[int], int],
    together: Callable[[int, int], bool] = lambda shorter, longer: True,
) -> list[list[int]]:
    """Group prompts of like length, as many as may be answered together, and at least one.

    Args:
        lengths: of the prompts.
        samples: answers each.
        fits: how many sequences of a prompt of that length, with their answers, may be generated at a time.
        together: says of two lengths whether prompts of them may be answered together.
    """
    found: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        room = bool(found) and (len(found[-1]) + 1) * samples <= fits(lengths[i])
        if room and together(lengths[found[-1][0]], lengths[i]):
            found[-1].append(i)
        else:
            found.append([i])
    return found


def end_ids(model: nn.Module, also: Collection[int] = ()) -> list[int]:
    """Return the tokens that end an answer: those that the model's generation settings name, and others."""
    named = causal_of(model).generation_config.eos_token_id
    return sorted({*also, *(named if isinstance(named, list) else [named])} - {None})


def sample(
    model: nn.Module,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    pad_id: int,
    ends: Collection[int],
    rows: int | None = None,
    skip: Callable[[list[int]], bool] = lambda members: False,
) -> Iterator[Group]:
    """Draw ``sampling.samples`` answers to every prompt; a group comes as soon as it is done.

    Args:
        model: a causal language model, with an adapter or without.
        tokenizer: decodes.
        prompts: token ids, none of them empty.
        sampling: how to draw.
        seed: of the draw.
        pad_id: fills groups up.
        ends: the tokens that end an answer.
        rows: sequences at a time, at most; None: 128 on a CPU, 512 on a GPU. Fewer where they are long.
        skip: says of a group's prompts whether they are answered already.
    """
    device = next(model.parameters()).device
    beside = company(model)
    most = 1 if beside is Company.NONE else rows or ROWS[device.type]
    cache = cache_bytes(model) or CacheBytes(0, 0)
    mixing = mixing_of(causal_of(model).config)

    def fits(length: int) -> int:
        return max(1, min(most, _CACHE[device.type] // cache.of(length + sampling.max_new_tokens)))

    def together(shorter: int, longer: int) -> bool:
        if shorter == longer:
            return True
        return beside is Company.ANY and mixing.allows(shorter, longer + sampling.max_new_tokens)

    for members in groups([len(prompt) for prompt in prompts], sampling.samples, fits, together):
        if skip(members):
            continue
        own = [list(prompts[i]) for i in members]
        at_once = fits(max(map(len, own)))  # less than `samples` only where the prompt is alone
        drawn: list[list[Sample]] = [[] for _ in own]
        for start in range(0, sampling.samples, at_once):
            n = min(at_once, sampling.samples - start)
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(int(digest({"seed": seed, "prompts": own, "from": start}), 16) >> 1)
                for each, answers in zip(drawn, _draw(model, tokenizer, own, n, sampling, pad_id, ends), strict=True):
                    each += answers
        yield Group(members, drawn)


@torch.no_grad()
def _draw(
    model: nn.Module,
    tokenizer: Any,
    prompts: list[list[int]],
    n: int,
    sampling: Sampling,
    pad_id: int,
    ends: Collection[int],
) -> list[list[Sample]]:
    from transformers import GenerationConfig, StoppingCriteriaList

    device = next(model.parameters()).device
    longest = max(map(len, prompts))
    ids_PT = torch.tensor([[pad_id] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask_PT = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    greedy = sampling.temperature == 0
    drawing = (
        {}
        if greedy
        else {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
        }
    )
    config = GenerationConfig(
        do_sample=not greedy,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad_id,
        **drawing,
    )
    stopping = StoppingCriteriaList([_StopCriterion(tokenizer, sampling.stop, longest)] if sampling.stop else [])
    out_RL = decode(model, ids_PT, mask_PT, n, config, stopping)
    answers = [cut_sample(row, ends, sampling.stop, tokenizer) for row in out_RL[:, longest:].tolist()]
    return [answers[i : i + n] for i in range(0, len(answers), n)]


class _StopCriterion:
    """transformers' criterion for texts that end an answer, on what was drawn alone: neither prompt nor filling."""

    def __init__(self, tokenizer: Any, stop: Sequence[str], prompt_length: int) -> None:
        self._tokenizer, self._stop, self._start = tokenizer, stop, prompt_length

    def __call__(self, ids_RL: Tensor, scores: Any, **kwargs: Any) -> Tensor:
        ended = [_ends_in(ids, self._stop, self._tokenizer) for ids in ids_RL[:, self._start :].tolist()]
        return torch.tensor(ended, device=ids_RL.device)


def _ends_in(ids: list[int], stop: Sequence[str], tokenizer: Any) -> bool:
    """Return whether the last token completes a stop text; special tokens are text here."""
    tail = ids[-4 * max(map(len, stop)) :]  # a letter may take four tokens
    return any(word in tokenizer.decode(tail, skip_special_tokens=False) for word in stop)


def cut_sample(ids: list[int], ends: Collection[int], stop: Sequence[str], tokenizer: Any) -> Sample:
    """Cut what was drawn, without the filling behind it."""
    n = next((place + 1 for place, token in enumerate(ids) if token in ends), len(ids))
    if stop:
        n = next((k for k in range(1, n + 1) if _ends_in(ids[:k], stop, tokenizer)), n)
    return Sample(ids[:n], decode_answer(ids[:n], ends, stop, tokenizer))


def is_cut_off(ids: list[int], sampling: Sampling, ends: Collection[int], tokenizer: Any) -> bool:
    """Return whether an answer has as many tokens as it may have, and did not end with the last of them."""
    if len(ids) < sampling.max_new_tokens or ids[-1] in ends:
        return False
    return not (sampling.stop and _ends_in(ids, sampling.stop, tokenizer))


def say_cut_off(answers: Sequence[Sample], sampling: Sampling, ends: Collection[int], tokenizer: Any) -> None:
    """Say how many answers had no room to end; whoever scores them takes them as they stand."""
    n = sum(is_cut_off(answer.ids, sampling, ends, tokenizer) for answer in answers)
    if n:
        log(
            f"{n:,} of {len(answers):,} answers were cut off at {sampling.max_new_tokens} tokens, the most that an "
            "answer may have"
        )


def decode_answer(ids: Sequence[int], ends: Collection[int], stop: Sequence[str], tokenizer: Any) -> str:
    """Decode the text of an answer, without the token or the text that ended it."""
    kept = list(ids[:-1]) if ids and ids[-1] in ends else list(ids)
    text = str(tokenizer.decode(kept, skip_special_tokens=not stop))
    places = [place for word in stop if (place := text.find(word)) >= 0]
    return text[: min(places)] if places else text
