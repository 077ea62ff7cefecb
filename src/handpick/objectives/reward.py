"""Policy gradient of a reward (NICE: Wang et al. ICML 2025): what makes rewarded answers likelier.

Of each prompt K answers are drawn from the model at the checkpoint and scored. A row is the gradient of
−(1/K) Σ_k A_k log π(y_k | prompt), with the tokens as they were drawn. No reference answer is needed where the reward
needs none.

A reward may give a sample no score (a judge). The formula is the mean over draws of A ∇ log π, so it is taken over the
samples that have a score, K of them, baseline included: as long as a score is not missing because of what it would have
been, the mean has the same expectation. A prompt none of whose samples has one says nothing, and has no row.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from handpick.choices import Advantage, Variant
from handpick.data.examples import Example, before_answer
from handpick.data.own_record import record_of
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.errors import DataError, JudgeError, SettingsError
from handpick.files import atomic_write
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import SamplesLayout
from handpick.objectives.advantage import advantages, select_samples
from handpick.objectives.protocol import Policy, Prepared, Row, WeightedSequence, prepare_each
from handpick.objectives.samples import KeyedJournal, from_json, to_json
from handpick.progress import log, progress
from handpick.rewards import Reward, check_record, score_or_none
from handpick.rewards.judge import JudgeReward
from handpick.rewards.reference import reference_answers
from handpick.sampling.generate import Sample, Sampling, decode_answer, end_ids, sample, say_cut_off
from handpick.sampling.vllm import Vllm

_SCORED_AT_ONCE = 256  # texts


@dataclass(frozen=True, slots=True)
class PromptItem:
    """A record as a prompt: the tokens before the answer, and what the reward is told."""

    id: str
    ids: list[int]
    messages: list[dict[str, str]]
    record: dict[str, Any]
    half: list[int]  # the tokens of the answer that stand in the prompt already (`guidance`)
    reference: str | None
    reference_ids: Rendered | None
    record_rule: int = 1


class PolicyGradient:
    """The expected reward of a record's prompt, its sign turned.

    Args:
        renderer: makes the prompts.
        max_length: tokens of a prompt and its answer, at most.
        reward: scores the answers.
        identity: what the reward is, as ``reward_fingerprint`` has it.
        sampling: how answers are drawn.
        seed: of the draw.
        folder: where samples and rewards are kept.
        model: what the base model and its tokenizer are, for the samples' name.
        advantage: what a reward counts for.
        variants: NICE's.
        log_prob: of a sample: summed over its tokens, or their mean.
        vllm: draws the answers, instead of the model that gradients are taken of.

    Raises:
        SettingsError: prompt and answer cannot both fit into ``max_length``, or there is nothing to compare a single
            sample with.
    """

    advice = "try a higher --temperature, more --samples, or a reward that gives partial credit"

    def __init__(
        self,
        renderer: Renderer,
        max_length: int,
        *,
        reward: Reward,
        identity: Fingerprint,
        sampling: Sampling,
        seed: int,
        folder: Path,
        model: Fingerprint,
        advantage: Advantage = "raw",
        variants: Sequence[Variant] = (),
        log_prob: Literal["sum", "mean"] = "sum",
        vllm: Vllm | None = None,
    ) -> None:
        self._room = max_length - sampling.max_new_tokens
        if self._room < 1:
            raise SettingsError(
                f"answers of up to {sampling.max_new_tokens} tokens leave no room for a prompt in {max_length}: lower "
                "--max-new-tokens or raise --max-length"
            )
        if sampling.samples == 1 and advantage != "raw":
            raise SettingsError(f"the advantage {advantage} compares the samples of a prompt: take more than 1")
        self._renderer = renderer
        self._ends = renderer.end_ids
        self._max_length = max_length
        self._reward = reward
        self._identity = identity
        self._sampling = sampling
        self._seed = seed
        self._layout = SamplesLayout(folder)
        self._model = model
        self._advantage = advantage
        self._variants = sorted(set(variants))
        self._log_prob = log_prob
        self._vllm = vllm

    def fingerprint(self) -> Fingerprint:
        return {
            "objective": "reward",
            **self._identity,
            "advantage": self._advantage,
            "variants": list(self._variants),
            "log_prob": self._log_prob,
            "seed": self._seed,
            "sampling": self._sampling.fingerprint(),
            "ends": list(self._ends),
            **({"sampler": "vllm"} if self._vllm else {}),
            **({"without a score": "left out"} if isinstance(self._reward, JudgeReward) else {}),  # once it was made up
        }

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare a prompt per record: all before its last assistant turn.

        Refused is one too long to be answered, and one whose answers the reward could not score.
        """
        return prepare_each(examples, self._make_prompt)

    def _make_prompt(self, example: Example) -> PromptItem:
        answered = example.messages[-1].role == "assistant"
        before = before_answer(example.messages)
        if not before:
            raise DataError("no prompt: the record begins with its answer")
        ids = self._renderer.prompt(before)
        self._check_room(ids)
        record = record_of(example)
        check_record(self._reward, record)
        reference, rendered, half = None, None, list[int]()
        if answered and example.messages[-1].content.strip():
            reference = example.messages[-1].content
            rendered = self._renderer(example.messages, self._max_length, labelled_from=len(before))
        elif "hard_rejection" in self._variants:
            reference = reference_answers(record)[0]
        if "guidance" in self._variants:
            if rendered is None:
                raise DataError("no reference answer, half of which the variant guidance would give away")
            ids, half = self._guide_prompt(rendered)
            self._check_room(ids)
        turns = [message.to_json() for message in before]
        return PromptItem(example.id, ids, turns, record, half, reference, rendered, example.record_rule)

    def _check_room(self, ids: list[int]) -> None:
        if len(ids) > self._room:
            raise DataError(
                f"too long a prompt: {len(ids)} tokens, and with an answer of up to {self._sampling.max_new_tokens} "
                f"it should fit into {self._max_length}; raise --max-length or lower --max-new-tokens"
            )

    def _guide_prompt(self, rendered: Rendered) -> tuple[list[int], list[int]]:
        """Return the prompt with the first half of the reference answer's tokens, and that half."""
        answer = [i for i, label in enumerate(rendered.labels) if label != IGNORED]
        middle = answer[len(answer) // 2]
        return rendered.input_ids[:middle], rendered.input_ids[answer[0] : middle]

    def rows(self, items: Sequence[PromptItem], policy: Policy) -> list[Row]:
        if not items:
            return []
        samples = self._samples(items, policy)
        ends = end_ids(policy.model, self._ends)
        say_cut_off([drawn for each in samples for drawn in each], self._sampling, ends, policy.tokenizer)
        rewards = self._rewards(items, samples)
        rows = [self._row(*each) for each in zip(items, samples, rewards, strict=True)]
        self._report(items, rewards, rows)
        return rows

    def _row(self, asked: PromptItem, samples: list[Sample], scored: list[float | None]) -> Row:
        """Return the samples that are kept, each with what it counts; none of those without a score.

        The reference answer's score comes last, if there. Where it should be and is not, nobody knows which samples
        ``hard_rejection`` keeps, and there is no row.
        """
        graded = [(each, value) for each, value in zip(samples, scored, strict=False) if value is not None]
        reference = scored[-1] if len(scored) > len(samples) else None
        if not graded or (reference is None and len(scored) > len(samples)):
            return []
        samples, reward_K = [each for each, _ in graded], np.array([value for _, value in graded])
        kept = select_samples(reward_K, self._variants, reference)
        advantage_K = advantages(reward_K[kept], self._advantage) if kept else reward_K[:0]
        row = [
            self._weigh_sequence(_render_answer(asked.ids, samples[k].ids), advantage / len(kept))
            for k, advantage in zip(kept, advantage_K.tolist(), strict=True)
            if advantage != 0
        ]
        earned = bool(reward_K[kept].any())  # equal rewards may leave no signal either, and are no worst case
        if not earned and "worst_case_protect" in self._variants and asked.reference_ids is not None:
            return [self._weigh_sequence(asked.reference_ids, 1.0)]
        return row

    def _weigh_sequence(self, sequence: Rendered, weight: float) -> WeightedSequence:
        return WeightedSequence(sequence, weight / (sequence.n_labels if self._log_prob == "mean" else 1))

    def _samples(self, items: Sequence[PromptItem], policy: Policy) -> list[list[Sample]]:
        prompts = [asked.ids for asked in items]
        dtype = str(next(policy.model.parameters()).dtype)
        ends = end_ids(policy.model, self._ends)
        made_from = {
            "model": self._model,
            "checkpoint": policy.checkpoint,
            "dtype": dtype,
            "seed": self._seed,
            "sampling": self._sampling.fingerprint(),
            "prompts": digest(prompts),
            "ends": list(ends),
            **({"sampler": "vllm"} if self._vllm else {}),
        }
        journal = KeyedJournal(self._layout.samples(digest(made_from)))
        keys = [digest(ids) for ids in prompts]
        missing = not all(key in journal for key in keys)
        if missing and self._vllm is not None:
            lora: Any = policy.model.peft_config["default"]  # type: ignore[index]
            rank = max([lora.r, *lora.rank_pattern.values()])
            drawn_by_prompt = self._vllm.sample(
                policy.tokenizer, prompts, self._sampling, adapter=policy.here, rank=rank, seed=self._seed, ends=ends
            )
            journal.add((key, to_json(drawn)) for key, drawn in zip(keys, drawn_by_prompt, strict=True))
        elif missing:
            with progress(f"answers, {self._sampling.samples} a prompt", total=len(items)) as advance:
                for group in sample(
                    policy.model,
                    policy.tokenizer,
                    prompts,
                    self._sampling,
                    seed=self._seed,
                    pad_id=policy.pad_id,
                    ends=ends,
                    skip=lambda members: all(keys[i] in journal for i in members),
                ):
                    journal.add((keys[i], to_json(drawn)) for i, drawn in zip(*group, strict=True))
                    advance(len(group.prompts))
        return [from_json(journal[key]) for key in keys]

    def _rewards(self, items: Sequence[PromptItem], samples: list[list[Sample]]) -> list[list[float | None]]:
        """Compute the rewards of each prompt's samples, then of its reference answer where the variants need it.

        Raises:
            JudgeError: as ``JudgeReward``, or it gave no score at all.
        """
        texts = [[self._text(asked, drawn) for drawn in each] for asked, each in zip(items, samples, strict=True)]
        if "hard_rejection" in self._variants:
            for asked, each in zip(items, texts, strict=True):
                each += [asked.reference] if asked.reference is not None else []
        if isinstance(self._reward, JudgeReward):  # asks many at a time, and keeps every verdict itself
            return self._grades(self._reward, items, texts)
        journal = KeyedJournal(self._layout.rewards(digest(self._identity)))
        # a reward may look at the prompt too, which is another where the record is read by another rule
        rules = [[asked.record_rule] if asked.record_rule > 1 else [] for asked in items]
        keys = [digest([asked.record, each, *rule]) for asked, each, rule in zip(items, texts, rules, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in journal]
        if new:
            at_once = max(1, _SCORED_AT_ONCE // self._sampling.samples)  # a run that is killed loses little
            with progress("rewards", total=len(new)) as advance:
                for start in range(0, len(new), at_once):
                    piece = new[start : start + at_once]
                    journal.add((keys[i], of) for i, of in self._score_texts(piece, items, texts))
                    advance(len(piece))
        return [journal[key] for key in keys]

    def _grades(
        self, judge: JudgeReward, items: Sequence[PromptItem], texts: Sequence[list[str]]
    ) -> list[list[float | None]]:
        grades = [each for _, each in self._score_texts(range(len(items)), items, texts)]
        if judge.missing == judge.scored:
            raise JudgeError(
                f"{judge.lack}, so there is nothing to choose by; the answers are kept in {self._layout.folder}: "
                f"{judge.advice}"
            )
        return grades

    def _score_texts(
        self, members: Sequence[int], items: Sequence[PromptItem], texts: Sequence[list[str]]
    ) -> Iterator[tuple[int, list[float | None]]]:
        """Yield the rewards of some prompts' texts."""
        flat = [(i, text) for i in members for text in texts[i]]
        scores = iter(
            score_or_none(
                self._reward,
                [items[i].messages for i, _ in flat],
                [text for _, text in flat],
                [items[i].record for i, _ in flat],
                [items[i].id for i, _ in flat],
            )
        )
        for i in members:
            yield i, list(islice(scores, len(texts[i])))

    def _text(self, asked: PromptItem, drawn: Sample) -> str:
        """Decode the whole answer at once: halves may meet within a letter."""
        if not asked.half:
            return drawn.text
        return decode_answer([*asked.half, *drawn.ids], self._ends, self._sampling.stop, self._renderer.tokenizer)

    def _report(self, items: Sequence[PromptItem], rewards: list[list[float | None]], rows: list[Row]) -> None:
        """Write mean, spread and how many differ, of every prompt's samples that have a score, to a file.

        Log what the run makes of it in a line.
        """
        n = self._sampling.samples
        report: list[dict[str, Any]] = [
            {"id": asked.id, **_spread([value for value in each[:n] if value is not None]), "signal": bool(row)}
            for asked, each, row in zip(items, rewards, rows, strict=True)
        ]
        path = self._layout.report(digest([report, self.fingerprint()]))
        atomic_write(path, "".join(json.dumps(line) + "\n" for line in report).encode())
        silent = [line["id"] for line in report if not line["signal"]]
        named = f"; none have {', '.join(map(str, silent[:3]))}{', …' if len(silent) > 3 else ''}" if silent else ""
        scored = [line for line in report if line["mean"] is not None]
        figures = "no reward"
        if scored:
            mean, spread = (np.mean([line[name] for line in scored]) for name in ("mean", "sd"))
            figures = f"reward {mean:.3f} on average, spread {spread:.3f} within a prompt"
        missing = sum(n - line["scored"] for line in report)
        lacking = f"; {missing} of {n * len(items)} answers have no score and count for nothing" if missing else ""
        log(f"{figures}{lacking}; {len(items) - len(silent)} of {len(items)} prompts have a signal{named} ({path})")


def _spread(scores: Sequence[float]) -> dict[str, float | None]:
    """Return the figures of a prompt by those of its samples that have a score; None where none has."""
    if not scores:
        return {"scored": 0, "mean": None, "sd": None, "differ": None}
    return {
        "scored": len(scores),
        "mean": float(np.mean(scores)),
        "sd": float(np.std(scores)),
        "differ": 1 - Counter(scores).most_common(1)[0][1] / len(scores),
    }


def _render_answer(prompt: list[int], answer: list[int]) -> Rendered:
    ids = prompt + answer
    return Rendered(ids, [IGNORED] * len(prompt) + answer, len(ids))
