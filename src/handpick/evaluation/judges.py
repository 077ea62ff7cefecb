"""Who says which of two answers is better: a model behind a server, or one on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from handpick.choices import Dtype
from handpick.data.examples import Message, Role
from handpick.errors import JudgeError, SettingsError
from handpick.evaluation.answers import generate_answers
from handpick.fingerprint import Fingerprint, digest
from handpick.flag_names import flag_of
from handpick.judge import Judge, JudgeAnswer, JudgeOptions, JudgeSettings, Prompt, Usage
from handpick.judge.answers import as_messages
from handpick.judge.caps import find_passed_cap
from handpick.judge.verdicts import AnyJudge
from handpick.layout import VerdictsLayout
from handpick.model import (
    compute_dtype,
    free_memory,
    load_base,
    load_renderer,
    model_fingerprint,
    position_limit,
)
from handpick.objectives.samples import KeyedJournal
from handpick.sampling.generate import Sampling

LOCAL = "local:"
_FLAGS_OF_A_SERVER = {
    flag_of(JudgeOptions, name)
    for name in (
        "url",
        "key_env",
        "workers",
        "seed",
        "timeout_s",
        "retries",
        "backoff_s",
        "price_in",
        "price_out",
        "max_cost",
    )
}


def find_judge(spec: str, options: JudgeOptions, folder: Path, *, dtype: Dtype, until_cap: bool = False) -> AnyJudge:
    """Make the judge that a text names.

    Args:
        spec: a model as its server knows it, or ``local:PATH`` for one that is loaded here.
        options: of the judge.
        folder: where its answers are kept.
        dtype: what a local one computes in.
        until_cap: as ``Judge`` has it.

    Raises:
        SettingsError: a setting is wrong.
        JudgeError: as ``Judge``.
        ModelError: a local judge is not there.
    """
    if not spec.startswith(LOCAL):
        return Judge(options.for_model(spec), VerdictsLayout(folder).judge, until_cap=until_cap)
    name = spec.removeprefix(LOCAL)
    if not name:
        raise SettingsError("no model follows local: in the judge; write local:PATH")
    if unread := [flag for flag in options.given_flags() if flag in _FLAGS_OF_A_SERVER]:
        raise SettingsError(f"{unread[0]} is for a judge behind a server, and {spec} is none: leave it out")
    return LocalJudge(options.for_model(name), folder, dtype=dtype, until_cap=until_cap)


class LocalJudge:
    """A language model that is loaded here and answers greedily; its answers are kept, and count against the caps.

    It is loaded when there is something new to ask, and let go of when that is answered. What a cap leaves no room
    for has an answer that says so.

    Args:
        settings: ``model`` is a folder or a Hub name; ``max_answer_tokens``, ``prompt``, ``max_calls`` and
            ``max_tokens_total`` are read, and temperature must be 0.
        folder: where answers are kept.
        dtype: what it computes in.
        until_cap: as ``Judge`` has it.

    Raises:
        ModelError: there is no such model, or its tokenizer cannot be used.
        SettingsError: an answer alone would fill what the model reads.
    """

    def __init__(self, settings: JudgeSettings, folder: Path, *, dtype: Dtype, until_cap: bool = False) -> None:
        if settings.temperature:
            raise SettingsError("a local judge answers greedily: leave its temperature out, or give 0")
        self.settings = settings
        self._dtype = compute_dtype(dtype)
        self._until_cap = until_cap
        self._layout = VerdictsLayout(folder)
        self._renderer = load_renderer(settings.model)
        self._room = (position_limit(settings.model) or 1 << 30) - settings.max_answer_tokens
        if self._room < 1:
            raise SettingsError(
                f"answers of up to {settings.max_answer_tokens} tokens leave the judge {settings.model} no room for a "
                "prompt; give a smaller --max-answer-tokens"
            )
        self._identity: Fingerprint = {"model": model_fingerprint(settings.model), "dtype": str(self._dtype)}
        self._said = KeyedJournal(self._layout.local_judge)

    def fingerprint(self) -> Fingerprint:
        """Return what decides a verdict."""
        return {**self.settings.fingerprint(), "model": self._identity}

    @property
    def used(self) -> Usage:
        """Answers and their tokens, over all runs."""
        counts = [entry["tokens"] for entry in self._said.values()]
        return Usage(len(counts), sum(n_in for n_in, _ in counts), sum(n_out for _, n_out in counts))

    def ask(self, prompts: Sequence[Prompt]) -> list[JudgeAnswer]:
        """Return the answers, in the order of the prompts.

        Raises:
            JudgeError: a cap is reached, but for ``until_cap``.
            ModelError: the model cannot be loaded.
            StoreError: answers cannot be kept.
        """
        found: dict[int, JudgeAnswer] = {}
        asked: dict[int, tuple[str, list[int]]] = {}
        for place, prompt in enumerate(prompts):
            turns = [Message(cast("Role", turn["role"]), turn["content"]) for turn in as_messages(prompt)]
            ids = self._renderer.prompt(turns)
            if len(ids) > self._room:
                found[place] = JudgeAnswer(None, failure=f"too long a prompt for the judge: {len(ids)} tokens")
            else:
                asked[place] = self._key(ids), ids
        new = {key: ids for key, ids in asked.values() if key not in self._said}
        allowed = self._cut_to_caps(new)
        self._answer(allowed)
        if len(allowed) < len(new) and not self._until_cap:
            raise JudgeError(
                f"a cap on the judge {self.settings.model} is reached, with {len(new) - len(allowed):,} of "
                f"{len(prompts):,} prompts not asked; raise the cap and run again, and nothing is asked twice"
            )
        for place, (key, _) in asked.items():
            there = key in self._said
            found[place] = (
                JudgeAnswer(self._said[key]["text"]) if there else JudgeAnswer(None, failure="a cap is reached")
            )
        return [found[place] for place in range(len(prompts))]

    def _key(self, ids: list[int]) -> str:
        return digest({**self._identity, "prompt": ids, "max_answer_tokens": self.settings.max_answer_tokens})

    def _cut_to_caps(self, new: Mapping[str, list[int]]) -> dict[str, list[int]]:
        """Return the first of the prompts, as many as the caps surely leave room for."""
        used = self.used
        kept: dict[str, list[int]] = {}
        for key, ids in new.items():
            with_it = used.plus(Usage(1, len(ids), self.settings.max_answer_tokens))
            if find_passed_cap(self.settings, used, with_it):
                break
            kept[key], used = ids, with_it
        return kept

    def _answer(self, new: Mapping[str, list[int]]) -> None:
        if not new:
            return
        model = load_base(self.settings.model, self._dtype).eval()
        sampling = Sampling(samples=1, temperature=0, max_new_tokens=self.settings.max_answer_tokens)
        drawn = generate_answers(
            model,
            self._renderer,
            list(new.values()),
            sampling,
            seed=0,
            folder=self._layout.local_answers,
            identity=self._identity,
            quiet=False,
        )
        self._said.add(
            (key, {"text": text, "tokens": [len(ids), self._n_tokens(text)]})
            for (key, ids), (text,) in zip(new.items(), drawn, strict=True)
        )
        del model
        free_memory()

    def _n_tokens(self, text: str) -> int:
        return len(self._renderer.tokenizer(text, add_special_tokens=False)["input_ids"])
