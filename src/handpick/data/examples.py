"""What one example is, whatever file it came from."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """Return the turn as chat templates, judges and rewards take it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """One record of a pool or a query set.

    ``messages`` is the whole conversation; of a preference record, the preferred one. ``rejected`` is
    the whole conversation with the answer that lost, and None for ordinary records. ``raw`` is the
    record as it stood in its file: the very bytes of the line for JSON Lines, compact JSON otherwise.
    """

    id: str
    messages: tuple[Message, ...]
    raw: bytes
    rejected: tuple[Message, ...] | None = None
    source: str | None = None
    category: str | None = None
    subtask: str | None = None
