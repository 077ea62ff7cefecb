"""The base model's own answers: greedy, many at a time, none generated twice; by this process, or by several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handpick.data.examples import Example
from handpick.data.plain_text import has_response
from handpick.data.render import Renderer
from handpick.errors import DataError, WorkerError
from handpick.evaluation.answers import WHOLE, DrawnAnswers, GroupShare, draw_answers, max_prompt_tokens, texts_of
from handpick.evaluation.run import reading_length
from handpick.evaluation.task import prompt_of
from handpick.executors import Calls, calls_for
from handpick.fingerprint import Fingerprint
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.model import (
    compute_dtype,
    free_memory,
    load_base,
    load_renderer,
    model_fingerprint,
    tokenizer_fingerprint,
)
from handpick.progress import progress
from handpick.sampling.generate import Sample, Sampling
from handpick.settings.executor import RAY

_BY_RAY = 16  # shares, where it is not said how many workers there may be


@dataclass(frozen=True, slots=True)
class _AnswerWork:
    """What whoever answers has to know. ``threads`` are those it computes with; None: those it has."""

    model: str
    template_args: Mapping[str, Any]
    dtype: torch.dtype
    max_new_tokens: int
    identity: Fingerprint
    folder: Path
    prompts: list[list[int]]
    share: GroupShare = WHOLE
    threads: int | None = None

    @property
    def sampling(self) -> Sampling:
        return Sampling(samples=1, temperature=0, max_new_tokens=self.max_new_tokens)


def _draw(work: _AnswerWork, model: nn.Module, renderer: Renderer, *, quiet: bool) -> DrawnAnswers:
    return draw_answers(
        model,
        renderer,
        work.prompts,
        work.sampling,
        seed=0,
        folder=work.folder,
        identity=work.identity,
        quiet=quiet,
        share=work.share,
    )


def _draw_share(work: _AnswerWork) -> DrawnAnswers:
    """Answer a share, in a process that is there for such."""
    if work.threads is not None:
        torch.set_num_threads(work.threads)
    model, renderer = _kept_model(work.model, work.dtype), load_renderer(work.model, work.template_args)
    return _draw(work, model, renderer, quiet=True)


def _load(model: str, dtype: torch.dtype) -> nn.Module:
    return load_base(model, dtype).eval()


_kept_model = lru_cache(maxsize=1)(_load)  # for all shares of a process


class Answering:
    """Answers of the base model, which is loaded while it answers and no longer.

    Several processes answer a share of the prompts each. What is answered together is the same as in one process.

    Args:
        settings: of the run.

    Raises:
        ModelError: there is no such model, or its tokenizer cannot be used.
        SettingsError: an answer alone would fill what the model reads.
    """

    def __init__(self, settings: IterSelectSettings) -> None:
        self._settings = settings
        self.renderer = load_renderer(settings.model, settings.template_args)
        self.max_length = reading_length(settings.model, settings.max_length)
        self._room = max_prompt_tokens(self.max_length, settings.max_new_tokens)
        self.fingerprint: Fingerprint = {  # what decides an answer; a large model takes a while to digest
            **model_fingerprint(settings.model),
            **tokenizer_fingerprint(self.renderer),
            "dtype": str(compute_dtype(settings.dtype)),
            "max_new_tokens": settings.max_new_tokens,
            "max_length": self.max_length,
        }

    def can_answer(self, example: Example) -> bool:
        """Return whether an example can be asked about: it ends in an answer, and its prompt leaves room for one."""
        if example.messages[-1].role != "assistant" or not has_response(example.messages[-1:]):
            return False
        try:
            return len(self.renderer.prompt(prompt_of(example))) <= self._room
        except DataError:
            return False

    def __call__(self, examples: Sequence[Example]) -> list[str]:
        """Generate the answers to the examples' prompts.

        Raises:
            ModelError: the model cannot be loaded.
            StoreError: answers cannot be kept.
            WorkerError: a process that answers was killed, and killed again.
        """
        settings = self._settings
        work = _AnswerWork(
            settings.model,
            settings.template_args,
            compute_dtype(settings.dtype),
            settings.max_new_tokens,
            self.fingerprint,
            settings.layout.answers,
            [self.renderer.prompt(prompt_of(example)) for example in examples],
        )
        by_ray = settings.engine.partition(":")[0] == RAY
        n = min(len(work.prompts), (settings.max_workers or _BY_RAY) if by_ray else settings.workers or 1)
        if n > 1:
            calls = calls_for(settings.folder, **settings.who_computes)
            threads = None if by_ray else max(1, torch.get_num_threads() // n)
            drawn = _draw_shares([replace(work, share=GroupShare(i, n), threads=threads) for i in range(n)], calls)
        else:
            model = _load(work.model, work.dtype)
            drawn = _draw(work, model, self.renderer, quiet=False)
            del model
            free_memory()
        return [text for (text,) in texts_of(drawn, len(work.prompts), work.sampling, self.renderer, quiet=False)]


def _draw_shares(shares: Sequence[_AnswerWork], calls: Calls) -> DrawnAnswers:
    """Have every share answered, and return all answers."""
    answers: dict[int, list[Sample]] = {}
    ends: list[int] = []
    with progress("answers", total=len(shares[0].prompts)) as advance:
        for work, drawn in calls.run(_draw_share, shares):
            if drawn is None:
                raise WorkerError(
                    f"a process that answers was killed, and killed again, as a machine does that runs out of memory; "
                    f"the answers so far are kept in {work.folder}: run the same again, with fewer workers"
                )
            advance(len(drawn.answers.keys() - answers.keys()))
            answers |= drawn.answers
            ends = drawn.ends
    return DrawnAnswers(answers, ends)
