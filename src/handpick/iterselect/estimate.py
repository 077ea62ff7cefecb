"""What a run will take, said before it starts: answers, judge's calls, tokens, money."""

from dataclasses import dataclass

import numpy as np

from handpick.data.plain_text import has_response
from handpick.data.pool import Pool
from handpick.errors import DataError, SettingsError
from handpick.evaluation.task import prompt_of
from handpick.iterselect.judging import Judging, mean_tokens_in
from handpick.iterselect.settings import IterSelectSettings

_SAMPLE = 200  # examples whose lengths stand for all


@dataclass(frozen=True, slots=True)
class Expected:
    """At most, without retries and reminders, over all rounds and counting what earlier runs of the folder did.

    Tokens of prompts are a quarter of their characters, an answer counted as long as its reference. ``cost`` is None
    without prices. ``capped`` says that the cap on calls made the rounds smaller than was asked for.
    """

    rounds: int
    batch: int
    max_new_tokens: int
    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None
    calls_of_whole_pool: int
    capped: bool

    @property
    def answers(self) -> int:
        """Of the base model."""
        return self.rounds * self.batch

    def lines(self) -> list[str]:
        """For a person."""
        rounds = f"{self.rounds} round" + ("" if self.rounds == 1 else "s")
        found = [
            f"{rounds} of up to {self.batch:,} examples: {self.answers:,} answers of the base model, of up to "
            f"{self.max_new_tokens:,} tokens each"
        ]
        if self.capped:
            found.append(f"(the cap on the judge's calls makes it {self.batch:,} a round)")
        if not self.calls:
            return [*found, "no judge is asked: a rule decides"]
        money = "" if self.cost is None else f", at most about {self.cost:,.2f} at the prices given"
        share = self.calls / self.calls_of_whole_pool
        return [
            *found,
            f"{self.calls:,} judge calls, about {self.tokens_in:,} tokens in (characters / 4), at most "
            f"{self.tokens_out:,} out{money}",
            f"judging the whole pool would take {self.calls_of_whole_pool:,} calls; this is {share:.0%} of them",
        ]


def expected(settings: IterSelectSettings, pool: Pool, judging: Judging, batch: int | None = None) -> Expected:
    """What a run will take.

    Args:
        settings: of the run.
        pool: what is chosen from.
        judging: who says what is hard, and what was used of it before.
        batch: examples a round where an earlier run of this folder has settled it; None: as many as was asked for, or
            as the cap on calls allows.

    Raises:
        SettingsError: the cap on calls does not allow one example a round.
    """
    most = min(settings.batch, len(pool) // settings.rounds or 1)
    asked_for = most
    cap = settings.judging.get("max_calls")
    if batch is None and cap is not None and judging.calls_each:
        most = min(most, (int(cap) - judging.used.calls) // (judging.calls_each * settings.rounds))
        if most < 1:
            raise SettingsError(
                f"{int(cap):,} judge calls are less than {settings.rounds} rounds of one example take "
                f"({judging.calls_each} calls each, {judging.used.calls:,} used before): give more, or fewer rounds"
            )
    batch = batch or most
    calls = judging.calls_each * settings.rounds * batch
    tokens_in = round(settings.rounds * batch * _tokens_in(pool, judging, settings.seed))
    tokens_out = calls * int(settings.judging.get("max_answer_tokens", 1024))
    prices = settings.judging.get("price_in"), settings.judging.get("price_out")
    cost = None
    if calls and prices[0] is not None and prices[1] is not None:
        cost = (tokens_in * float(prices[0]) + tokens_out * float(prices[1])) / 1e6
    return Expected(
        settings.rounds, batch, settings.max_new_tokens, calls, tokens_in, tokens_out, cost,
        judging.calls_each * len(pool), batch < asked_for,
    )  # fmt: skip


def _tokens_in(pool: Pool, judging: Judging, seed: int) -> float:
    rows = np.random.default_rng([seed, 2]).permutation(len(pool))[:_SAMPLE]
    asked = []
    for example in (pool[int(row)] for row in rows):
        try:
            prompt = prompt_of(example)
        except DataError:
            continue
        if has_response(example.messages) and example.messages[-1].role == "assistant":
            asked.append(([{"role": m.role, "content": m.content} for m in prompt], example.messages[-1].content))
    return mean_tokens_in(judging, asked)
