"""A row-wise representation of somebody's own: one file, and one line in the table (test_table.py)."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.plain_text import contents
from handpick.data.render import Renderer
from handpick.fingerprint import Fingerprint
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.row_scorer import RowEncoder
from handpick.settings import Settings

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+-*/=$"


class Letters(RowEncoder):
    """How often each letter stands in a conversation."""

    counts = "characters"
    dim = len(LETTERS)

    @classmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        return cls()

    def space(self) -> Fingerprint:
        return {"representation": "letters", "letters": LETTERS}

    def build(self) -> Fingerprint:
        return {}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, lambda example: contents(example.messages).lower())

    def encode(self, items: Sequence[Any], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        advance(len(items))
        return np.array([[text.count(letter) for letter in LETTERS] for text in items], dtype=np.float32)
