"""Answers of a model to a task's prompts: the likeliest one, or several drawn ones.

They are kept. The likeliest answer to a prompt is never generated twice, whatever it is asked among. Drawn answers are
kept for the same prompts alone: prompts that are answered together draw from one generator, so among other prompts a
prompt's answers are others, and what was run before in the folder must not decide which of them count.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.evaluation.task import Task, prompt_of
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import AnswersLayout
from handpick.model import padding_id
from handpick.objectives.samples import KeyedJournal, from_json, to_json
from handpick.progress import progress
from handpick.sampling.generate import Sample, Sampling, end_ids, sample, say_cut_off


def greedy_sampling(task: Task) -> Sampling:
    """Return settings for one answer per prompt, the likeliest token every time."""
    return Sampling(
        samples=1, temperature=0, max_new_tokens=task.settings.max_new_tokens, stop=tuple(task.settings.stop)
    )


def pass_at_k_sampling(task: Task) -> Sampling:
    """Return settings for several answers per prompt, for pass@K."""
    settings = task.settings
    return Sampling(
        samples=settings.answers_drawn,
        temperature=settings.temperature,
        top_k=0,
        top_p=settings.top_p,
        max_new_tokens=settings.max_new_tokens,
        stop=tuple(settings.stop),
    )


def prompts_of(task: Task, renderer: Renderer, max_length: int) -> tuple[dict[int, list[int]], dict[int, str]]:
    """Return the tokens of each record's prompt, and the records that cannot be asked, with the reason.

    Raises:
        SettingsError: an answer alone would fill ``max_length``.
    """
    room = max_prompt_tokens(max_length, task.settings.max_new_tokens)
    prompts: dict[int, list[int]] = {}
    refused: dict[int, str] = {}
    for row, example in enumerate(task.examples):
        try:
            ids = renderer.prompt(prompt_of(example))
        except DataError as error:
            refused[row] = str(error)
            continue
        if len(ids) > room:
            refused[row] = (
                f"too long a prompt: {len(ids)} tokens, and with an answer of up to {task.settings.max_new_tokens} it "
                f"should fit into {max_length}; raise --max-length or lower --max-new-tokens"
            )
        else:
            prompts[row] = ids
    return prompts, refused


def max_prompt_tokens(max_length: int, max_new_tokens: int) -> int:
    """Return the tokens of a prompt that leave room for an answer.

    Raises:
        SettingsError: an answer alone would fill ``max_length``.
    """
    if max_new_tokens >= max_length:
        raise SettingsError(
            f"answers of up to {max_new_tokens} tokens leave no room for a prompt in {max_length}: lower "
            "--max-new-tokens or raise --max-length"
        )
    return max_length - max_new_tokens


class GroupShare(NamedTuple):
    """Of the groups of prompts that are answered together, every ``of``-th, from the one with this number on."""

    number: int = 0
    of: int = 1


WHOLE = GroupShare()


class DrawnAnswers(NamedTuple):
    """The answers to prompts, by their places, and the tokens that end one."""

    answers: dict[int, list[Sample]]
    ends: list[int]


def generate_answers(
    model: nn.Module,
    renderer: Renderer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    folder: Path | None,
    identity: Fingerprint | None,
    quiet: bool,
) -> list[list[str]]:
    """Generate the texts of ``sampling.samples`` answers to every prompt, in their order.

    Args: as ``draw_answers``.

    Raises:
        StoreError: the folder cannot be written, or a file in it not read.
    """
    drawn = draw_answers(model, renderer, prompts, sampling, seed=seed, folder=folder, identity=identity, quiet=quiet)
    return texts_of(drawn, len(prompts), sampling, renderer, quiet=quiet)


def texts_of(
    drawn: DrawnAnswers, n_prompts: int, sampling: Sampling, renderer: Renderer, *, quiet: bool
) -> list[list[str]]:
    """Return the texts of the answers to all prompts, in their order; how many were cut off is said unless quiet."""
    found = [drawn.answers[i] for i in range(n_prompts)]
    if not quiet:
        say_cut_off([answer for each in found for answer in each], sampling, drawn.ends, renderer.tokenizer)
    return [[answer.text for answer in each] for each in found]


def draw_answers(
    model: nn.Module,
    renderer: Renderer,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    seed: int,
    folder: Path | None,
    identity: Fingerprint | None,
    quiet: bool,
    share: GroupShare = WHOLE,
) -> DrawnAnswers:
    """Draw the answers to every prompt, or to a share of them; what is kept of the others is returned too.

    Args:
        model: what answers.
        renderer: with its tokenizer.
        prompts: token ids.
        sampling: how an answer is drawn.
        seed: of the draw.
        folder: where answers are kept as they come, under the name of all they depend on; None: nowhere.
        identity: what the model is; None: the digest of its weights. Only looked at where there is a folder.
        quiet: no progress bar.
        share: of all groups, for one of several processes: what is answered together is the same in each of them, and
            so are the answers.

    Raises:
        StoreError: the folder cannot be written, or a file in it not read.
    """
    ends = end_ids(model, renderer.end_ids)
    keys = [digest(list(ids)) for ids in prompts]
    made_from: Fingerprint = {"sampling": sampling.fingerprint(), "seed": seed, "ends": list(ends)}
    if sampling.temperature > 0:
        made_from["prompts"] = digest(list(keys))
    if folder is None:
        kept: dict[str, Any] | KeyedJournal = {}
    else:
        made_from["model"] = identity or weights_digest(model)
        made_from["dtype"] = str(next(model.parameters()).dtype)
        kept = KeyedJournal(AnswersLayout(folder).journal(digest(made_from)))
    known = sum(key in kept for key in keys)
    number = count()
    if known < len(keys):
        what = "answers" if sampling.samples == 1 else f"answers, {sampling.samples} a prompt"
        with nullcontext(lambda n: None) if quiet else progress(what, total=len(keys), done=known) as advance:
            for group in sample(
                model,
                renderer.tokenizer,
                prompts,
                sampling,
                seed=seed,
                pad_id=padding_id(renderer.tokenizer),
                ends=ends,
                skip=lambda members: next(number) % share.of != share.number or all(keys[i] in kept for i in members),
            ):
                new = [(keys[i], to_json(each)) for i, each in zip(*group, strict=True)]
                advance(sum(key not in kept for key, _ in new))
                kept.update(new) if isinstance(kept, dict) else kept.add(new)
    return DrawnAnswers({i: from_json(kept[key]) for i, key in enumerate(keys) if key in kept}, ends)


def weights_digest(model: nn.Module) -> Fingerprint:
    """Return what a model is, by the bytes of its weights and their names; seconds for a gigabyte."""
    import hashlib

    content = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        content.update(name.encode() + str((tensor.dtype, tuple(tensor.shape))).encode())
        content.update(tensor.detach().contiguous().view(-1).cpu().view(torch.uint8).numpy())
    return {"weights": content.hexdigest()[:16]}
