"""What judging will take, said before it begins."""

from collections.abc import Sequence
from dataclasses import dataclass

from handpick.judge.answers import Message, Usage, estimate_tokens
from handpick.judge.settings import JudgeSettings


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Calls, tokens and money, without retries. Tokens in are a quarter of the characters; tokens out are the most.

    ``cost`` is None without prices.
    """

    calls: int
    tokens_in: int
    tokens_out: int
    cost: float | None

    def __str__(self) -> str:
        money = "" if self.cost is None else f", at most about {self.cost:,.2f} at the prices given"
        return (
            f"{self.calls:,} calls, about {self.tokens_in:,} tokens in (characters / 4), at most {self.tokens_out:,} "
            f"out{money}"
        )


def estimate(settings: JudgeSettings, prompts: Sequence[Sequence[Message]]) -> CostEstimate:
    """Estimate what asking all of these once will take."""
    usage = Usage(len(prompts), sum(map(estimate_tokens, prompts)), len(prompts) * settings.max_answer_tokens)
    return CostEstimate(*usage, settings.cost(usage))
