"""The reward of an example's own last answer, by any of the rewards that answers of a model are scored with."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.own_record import record_of
from handpick.data.render import Renderer
from handpick.errors import DataError, SettingsError
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.rewards import Reward, check_record, find_reward, reward_fingerprint, score
from handpick.scorers.row_scorer import RowEncoder
from handpick.settings import Settings


class OwnAnswer(NamedTuple):
    """An example as a reward takes it: the turns before its last answer, the answer, and the record."""

    id: str
    prompt: list[dict[str, str]]
    text: str
    record: dict[str, Any]


def own_answer(example: Example) -> OwnAnswer:
    """Return an example's last answer, and what it answers.

    Raises:
        DataError: it has none, or nothing stands before it.
    """
    places = [i for i, message in enumerate(example.messages) if message.role == "assistant"]
    if not places or not example.messages[places[-1]].content.strip():
        raise DataError("no answer of its own to score")
    if places[-1] == 0:
        raise DataError("no prompt: the record begins with its answer")
    prompt = [message.to_json() for message in example.messages[: places[-1]]]
    return OwnAnswer(example.id, prompt, example.messages[places[-1]].content, record_of(example))


class Rewarded(RowEncoder):
    """One number a record: the reward of its last answer.

    Args:
        name: of the reward, as ``--reward`` takes it.
        reward: what scores.
    """

    counts = "characters"
    cost_note = "what a reward's own model takes is timed, and not counted"
    dim = 1

    def __init__(self, name: str, reward: Reward) -> None:
        self._name = name
        self._reward = reward

    @classmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        """Return the encoder with the reward that stands behind the colon.

        Raises:
            SettingsError: there is no such reward, or it may not run code.
            ModelError: a reward model cannot be used.
        """
        name = settings.used_representation.partition(":")[2]
        if name.startswith("judge:"):
            raise SettingsError(f"a judge is a representation of its own: write --representation {name}")
        reward = find_reward(
            name,
            allow_code_execution=settings.allow_code_execution,
            allow_weak_sandbox=settings.allow_weak_sandbox,
        )
        return cls(name, reward)

    def space(self) -> Fingerprint:
        """Return what the reward is."""
        return {"representation": "reward", **reward_fingerprint(self._name)}

    def build(self) -> Fingerprint:
        """Return nothing more."""
        return {}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Return the answers; refused is a record without one or a prompt, or one that the reward cannot score."""
        return prepare_each(examples, self._scorable_answer)

    def _scorable_answer(self, example: Example) -> OwnAnswer:
        answer = own_answer(example)
        check_record(self._reward, answer.record)
        return answer

    def size(self, item: OwnAnswer) -> int:
        """Return the characters of an answer."""
        return len(item.text)

    def encode(
        self, items: Sequence[OwnAnswer], advance: Callable[[float], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Return the rewards, float32 (N, 1).

        Raises:
            SettingsError: the reward did not give one finite number an answer.
        """
        scores = score(
            self._reward,
            [item.prompt for item in items],
            [item.text for item in items],
            [item.record for item in items],
            [item.id for item in items],
        )
        advance(len(items))
        return np.array(scores, dtype=np.float32).reshape(-1, 1)
