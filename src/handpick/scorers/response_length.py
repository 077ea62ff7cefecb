"""The length of the response, for the baseline that takes the longest (Zhao et al. 2024, arXiv 2402.04833)."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.render import Renderer
from handpick.fingerprint import Fingerprint
from handpick.model import tokenizer_fingerprint
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.scorers.inputs import no_model
from handpick.scorers.row_scorer import RowEncoder
from handpick.settings import Settings

_UNCUT = 1 << 30


class ResponseLength(RowEncoder):
    """Tokens of an example's responses, all of them: no limit cuts them."""

    dim = 1
    cost_note = "tokens are counted, and nothing computed"

    @classmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        """Return the encoder with the run's tokenizer."""
        if renderer is None:
            raise no_model()
        return cls(renderer)

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer

    def space(self) -> Fingerprint:
        return {
            "representation": "length",
            **tokenizer_fingerprint(self._renderer),
        }

    def build(self) -> Fingerprint:
        return {}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, lambda example: self._renderer(example.messages, _UNCUT).n_labels)

    def encode(self, items: Sequence[Any], advance: Callable[[float], None] = lambda n: None) -> NDArray[np.float32]:
        advance(len(items))
        return np.array(items, dtype=np.float32).reshape(-1, 1)
