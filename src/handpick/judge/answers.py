"""What a judge is asked, what it answers, and what that uses up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

Message: TypeAlias = Mapping[str, str]
Prompt: TypeAlias = str | Sequence[Message]  # a text is one turn of the user's

_TURN_TOKENS = 16  # what a chat template may put around a turn
_TEMPLATE_TOKENS = 100  # what it may put before the first
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class JudgeAnswer:
    """What came back for one prompt: a text, or the reason why there is none.

    ``cut`` says that the text ended at the limit on its length.
    """

    text: str | None
    cut: bool = False
    failure: str | None = None


class Usage(NamedTuple):
    """Calls and tokens."""

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def plus(self, other: "Usage") -> "Usage":
        return Usage(*(a + b for a, b in zip(self, other, strict=True)))

    def minus(self, other: "Usage") -> "Usage":
        return Usage(*(a - b for a, b in zip(self, other, strict=True)))

    def cost(self, price_in: float, price_out: float) -> float:
        """Return the money it costs, from prices of a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


def as_messages(prompt: Prompt) -> list[dict[str, str]]:
    """Return the turns of a prompt."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": turn["role"], "content": turn["content"]} for turn in prompt]


def max_tokens_of(messages: Sequence[Message]) -> int:
    """Return more tokens than a prompt can have: a token is one byte at least."""
    sizes = (len(turn["content"].encode("utf-8", "surrogatepass")) + _TURN_TOKENS for turn in messages)
    return _TEMPLATE_TOKENS + sum(sizes)


def estimate_tokens(messages: Sequence[Message]) -> int:
    """Estimate how many tokens a prompt has: a quarter of its characters."""
    return sum(len(turn["content"]) for turn in messages) // _CHARACTERS_A_TOKEN
