"""What an evaluation takes: given answers that are read, and answers that are generated.

Reading is timed batch by batch, as the run makes them. Answers are drawn for one group of prompts, to one length and to
another, and a token more takes the difference; the longer one is doubled while there is time.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from handpick.costs import probe
from handpick.costs.cost import Amount, StageCost
from handpick.costs.flops import Shape, count_labelled
from handpick.costs.probe import TimedBatches, time_batches
from handpick.costs.training import size_of
from handpick.data.batching import token_batches
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError
from handpick.evaluation.answers import greedy_sampling, pass_at_k_sampling, prompts_of
from handpick.evaluation.choice import choices_of, render_with_choice
from handpick.evaluation.evaluate import BATCH_TOKENS
from handpick.evaluation.likelihood import log_likelihood
from handpick.evaluation.metrics import answers_per_prompt, is_likelihood
from handpick.evaluation.task import Task
from handpick.gradients.forward import causal_of
from handpick.model import device, padding_id
from handpick.model.mixing import mixing_of
from handpick.sampling.generate import ROWS, Sampling, end_ids, sample

_FIRST = 8  # tokens of the first answers that are timed


@dataclass(frozen=True, slots=True)
class EvaluationPass:
    """One pass over a task: ``sequences`` that are read, or ``prompts`` that are answered."""

    what: str
    sequences: Sequence[Rendered]
    prompts: Sequence[Sequence[int]] = ()
    sampling: Sampling | None = None
    note: str = ""

    @property
    def n_answers(self) -> int:
        """Answers that are generated."""
        return 0 if self.sampling is None else len(self.prompts) * self.sampling.samples

    @property
    def tokens(self) -> Amount:
        """Through the model; of answers the most there can be."""
        if self.sampling is None:
            return Amount.exactly(sum(len(s.input_ids) for s in self.sequences))
        most = self.n_answers * self.sampling.max_new_tokens
        return Amount(most, 0, most)

    def flops(self, shape: Shape) -> float:
        """Return the operations of what ``tokens`` counts."""
        if self.sampling is None:
            return shape.read([len(s.input_ids) for s in self.sequences], count_labelled(self.sequences))
        n = self.sampling.max_new_tokens
        return self.sampling.samples * sum(shape.read([len(ids) + n], n) for ids in self.prompts)


def passes_of(task: Task, renderer: Renderer, max_length: int) -> list[EvaluationPass]:
    """Return what an evaluation of a task does with the model.

    Raises:
        HandpickError: as ``handpick.evaluation.evaluate.evaluate``, before it computes.
    """
    metrics, found = task.settings.metrics, []
    if "loss" in metrics:
        found.append(
            EvaluationPass(
                "loss", _render_records(task, lambda row: [renderer(task.examples[row].messages, max_length)])
            )
        )
    if any(metric.startswith("choice-likelihood") for metric in metrics):

        def choices(row: int) -> list[Rendered]:
            own = choices_of(task.records[row], task.settings.choices)
            return [render_with_choice(renderer, task.examples[row], choice, max_length) for choice in own]

        found.append(EvaluationPass("choices", _render_records(task, choices)))
    several = task.settings.answers_drawn
    greedy = [m for m in metrics if not is_likelihood(m) and not (several and answers_per_prompt(m))]
    if greedy or several:
        prompts = list(prompts_of(task, renderer, max_length)[0].values())
        judged = sum(metric.startswith("judge:") for metric in greedy) * len(prompts)
        note = "at most: answers may end early; what scores them is not estimated"
        note += f"; up to {judged:,} calls of the judge" if judged else ""
        if greedy:
            found.append(EvaluationPass("answers", [], prompts, greedy_sampling(task), note))
        if several:
            found.append(EvaluationPass("samples", [], prompts, pass_at_k_sampling(task), note))
    return found


def _render_records(task: Task, render: Callable[[int], list[Rendered]]) -> list[Rendered]:
    """Render all records that can be; those that cannot are left out of the evaluation too."""
    found: list[Rendered] = []
    for row in range(len(task)):
        try:
            found += render(row)
        except DataError:
            continue
    return found


class EvaluationProbe:
    """Times the parts of several tasks on a model.

    Args:
        model: in eval mode.
        renderer: with its tokenizer.
        parts: of all tasks.
        seconds: to compute for, about.
        batch_tokens: padded tokens of a batch; None: as ``evaluate`` has it.
    """

    def __init__(
        self,
        model: nn.Module,
        renderer: Renderer,
        parts: Sequence[EvaluationPass],
        seconds: float,
        batch_tokens: int | None = None,
    ) -> None:
        self._model, self._renderer = model, renderer
        self._pad_id = padding_id(renderer.tokenizer)
        self._mixing = mixing_of(causal_of(model).config)
        self._limit = batch_tokens or BATCH_TOKENS[device().type]
        reads = [batch for part in parts for batch in self._batches(part.sequences)]
        generated = [part for part in parts if part.n_answers]
        self._reading: TimedBatches | None = None
        if reads:
            self._reading = time_batches(self._read_batch, reads, size_of, seconds / (1 + len(generated)))
        self._answering = {id(part): self._time_answers(part, seconds / (1 + len(generated))) for part in generated}

    def seconds(self, part: EvaluationPass) -> Amount:
        """Return the seconds of all of a part that was timed."""
        if part.sampling is None:
            sizes = [size_of(batch) for batch in self._batches(part.sequences)]
            return Amount.exactly(0.0) if self._reading is None else self._reading.estimate(sizes)
        return self._answering.get(id(part), Amount.exactly(0.0))

    def _batches(self, sequences: Sequence[Rendered]) -> list[list[Rendered]]:
        members = token_batches([len(s.input_ids) for s in sequences], self._limit, self._mixing)
        return [[sequences[i] for i in own] for own in members]

    def _read_batch(self, batch: Sequence[Rendered]) -> None:
        log_likelihood(self._model, batch, pad_id=self._pad_id, batch_tokens=self._limit)

    def _time_answers(self, part: EvaluationPass, seconds: float) -> Amount:
        """Time one group of prompts, drawn at random: answers of one length, and of another."""
        assert part.sampling is not None  # it has answers
        at_once = ROWS[device().type]
        n_prompts = max(1, min(len(part.prompts), at_once // part.sampling.samples))
        rows = np.random.default_rng(0).permutation(len(part.prompts))[:n_prompts].tolist()
        prompts = [part.prompts[row] for row in rows]
        most, began = part.sampling.max_new_tokens, probe.clock()
        self._draw(prompts, replace(part.sampling, max_new_tokens=1))
        first = last = self._draw(prompts, replace(part.sampling, max_new_tokens=1))
        n = 1
        while n < most and (n == 1 or probe.clock() - began + 2 * last < seconds):
            n = min(most, max(2 * n, _FIRST))
            last = self._draw(prompts, replace(part.sampling, max_new_tokens=n))
        each = 0.0 if n == 1 else max(0.0, last - first) / (n - 1)
        scale = part.n_answers / (n_prompts * part.sampling.samples)
        return Amount(scale * (first + (most - 1) * each), scale * first, scale * (first + (most - 1) * each))

    def _draw(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> float:
        began = probe.clock()
        ends = end_ids(self._model, self._renderer.end_ids)
        for _ in sample(
            self._model, self._renderer.tokenizer, prompts, sampling, seed=0, pad_id=self._pad_id, ends=ends
        ):
            pass
        return probe.clock() - began


def evaluation_stage(
    name: str,
    part: EvaluationPass,
    shape: Shape,
    seconds: Amount,
    *,
    disk: int,
    memory: int,
    times: float = 1,
    note: str = "",
) -> StageCost:
    """Make a stage that does a part so many times."""
    n = part.n_answers or len(part.sequences)
    return StageCost(
        name,
        round(n * times),
        part.tokens.times(times),
        part.flops(shape) * times,
        round(disk * times),
        memory,
        seconds,
        "; ".join(each for each in (note, part.note) if each),
    )


def predicted_bytes(task: Task) -> int:
    """Return the bytes of the predictions, but for answers, of which nobody knows how long they are."""
    prompts = ([m.content for m in example.messages[:-1]] for example in task.examples)
    return sum(len(json.dumps(prompt, ensure_ascii=False).encode()) + 100 for prompt in prompts)
