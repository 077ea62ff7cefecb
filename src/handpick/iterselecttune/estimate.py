"""What a run will take, said before it starts: answers, judge's calls, tokens, money."""

import json
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from handpick.data.plain_text import has_response
from handpick.data.pool import Pool
from handpick.documents import reading
from handpick.errors import DataError, SettingsError, StoreError
from handpick.evaluation.task import prompt_of
from handpick.iterselecttune.judging import Judging
from handpick.iterselecttune.settings import IterSelectSettings
from handpick.judge import Usage
from handpick.judge.template import as_text

_SAMPLE = 200  # examples whose lengths stand for all


@dataclass(frozen=True, slots=True)
class ExpectedWork:
    """What is still to be done, at most, without retries and reminders. Calls of a round that was begun count again.

    Tokens are about: a quarter of a prompt's characters, and the base model's answers as long as they may be. ``cost``
    is None without prices. ``capped`` says that the cap on calls makes the rounds smaller than was asked for.
    """

    done: int
    rounds: int
    batch: int
    answers: int
    max_new_tokens: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    calls_of_whole_pool: int
    capped: bool

    def lines(self) -> list[str]:
        """Describe it for a person, in lines."""
        before = f"{_rounds(self.done)} of an earlier run; " if self.done else ""
        if not self.answers:
            return [f"{before}nothing more is answered or judged"]
        found = [
            f"{before}{_rounds(self.rounds)} of up to {self.batch:,} examples: {self.answers:,} answers of the base "
            f"model, of up to {self.max_new_tokens:,} tokens each"
        ]
        if self.capped:
            found.append(f"(the cap on the judge's calls makes it {self.batch:,} a round)")
        if not self.calls:
            return [*found, "no judge is asked: a rule decides"]
        money = "" if self.cost is None else f", about {self.cost:,.2f} at the prices given"
        share = self.calls / self.calls_of_whole_pool
        return [
            *found,
            f"at most {self.calls:,} judge calls, {self.tokens_in:,} tokens in (characters / 4) and "
            f"{self.tokens_out:,} out{money}",
            f"judging the whole pool would take {self.calls_of_whole_pool:,} calls; this is {share:.0%} of them",
        ]


def _rounds(n: int) -> str:
    return f"{n} round" + ("" if n == 1 else "s")


def estimate_work(settings: IterSelectSettings, pool: Pool, judging: Judging) -> ExpectedWork:
    """Estimate what a run will take, from where an earlier run of its folder stopped.

    Args:
        settings: of the run.
        pool: what is chosen from.
        judging: who says what is hard, and what was used of it before.

    Raises:
        SettingsError: the cap on calls does not allow one example per round.
    """
    judged: list[int] = []
    for number in range(1, settings.rounds + 1):
        path = settings.layout.round(number).verdicts
        if not path.exists():
            break
        judged.append(len(path.read_bytes().splitlines()))
    left = settings.rounds - len(judged)
    batch = round_size(settings, judging, left) if left else 0
    begun = settings.layout.round(len(judged) + 1).batch
    if left and begun.exists():
        with reading(begun, StoreError, f"remove {begun.parent}, and run the same again"):
            batch = max(batch, len(json.loads(begun.read_bytes())))
    if batch < 1 and not judged:
        raise SettingsError(
            f"{settings.judging.max_calls:,} judge calls are less than {settings.rounds} rounds of one example take "
            f"({judging.calls_each} calls each, {judging.used.calls:,} used before): give more, or fewer rounds"
        )
    answers = max(0, min(left * batch, min(len(pool), settings.n_diverse) - sum(judged)))
    calls = judging.calls_each * answers
    tokens_in = round(answers * _tokens_in(pool, judging, settings.seed)) if calls else 0
    tokens_out = 0 if judging.settings is None else calls * judging.settings.max_answer_tokens
    cost = judging.cost(Usage(calls, tokens_in, tokens_out)) if calls else None
    return ExpectedWork(
        len(judged),
        left,
        batch,
        answers,
        settings.max_new_tokens,
        calls,
        tokens_in,
        tokens_out,
        cost,
        judging.calls_each * len(pool),
        0 < batch < settings.batch,
    )


def round_size(settings: IterSelectSettings, judging: Judging, left: int) -> int:
    """Return the size of the next of ``left`` rounds: what was asked for, or what the cap on calls allows each of them.

    0 where it allows none.
    """
    if judging.settings is None or judging.settings.max_calls is None:
        return settings.batch
    room = judging.settings.max_calls - judging.used.calls
    return max(0, min(settings.batch, room // (judging.calls_each * left)))


def _tokens_in(pool: Pool, judging: Judging, seed: int) -> float:
    rows = np.random.default_rng([seed, 2]).permutation(len(pool))[:_SAMPLE]
    tokens = []
    for example in (pool[int(row)] for row in rows):
        try:
            prompt = prompt_of(example)
        except DataError:
            continue
        if has_response(example.messages) and example.messages[-1].role == "assistant":
            text = as_text([turn.to_json() for turn in prompt])
            tokens.append(judging.tokens_in(text, example.messages[-1].content))
    return fmean(tokens) if tokens else 0.0
