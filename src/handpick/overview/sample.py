"""What is looked at record by record, and so on a sample: languages, tokens, what training would see of a record.

Shapes: R records of the sample.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.data.pool import Pool
from handpick.data.render import IGNORED, Renderer
from handpick.data.unwritten import Unwritten, count_unwritten
from handpick.errors import DataError
from handpick.evaluation.estimate import Estimate
from handpick.overview.intervals import mean, share
from handpick.progress import progress
from handpick.random_streams import generator
from handpick.rewards.language import guess

_READ = 1000  # records that are read together
_CHARACTERS = 2000  # of a conversation by which its language is guessed


@dataclass(frozen=True, slots=True)
class Refused:
    """Records that leave nothing to train on for one reason: their share, and one of them with all that was said."""

    share: Estimate
    first: str
    reason: str


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """What a tokenizer and its chat template make of the sample; of a preference record, of the preferred answer.

    ``tokens_R`` are the tokens of each conversation that could be rendered, before it is cut, int64; ``tokens`` is
    their mean, ``cut`` the share longer than ``max_length``, ``loss_tokens`` the mean of the tokens that are learnt
    where there are any: all None where none could be rendered. ``prompts`` is the share that ends without an answer and
    so has no loss. ``refused`` are the others that leave nothing to learn from, by kind, and ``unwritten`` is what
    records carry and the template does not write, with the share of the records.
    """

    max_length: int
    tokens_R: NDArray[np.int64]
    tokens: Estimate | None
    cut: Estimate | None
    loss_tokens: Estimate | None
    prompts: Estimate
    refused: dict[str, Refused] = field(default_factory=dict)
    unwritten: dict[str, tuple[Estimate, Unwritten]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SampleFindings:
    """What was found on ``records`` records; ``whole`` says whether these are all.

    ``languages`` are guesses by script and commonest words, the most common first.
    """

    records: int
    whole: bool
    languages: dict[str, Estimate]
    tokens: TokenCounts | None


def look_at_sample(
    pool: Pool, renderer: Renderer | None, max_length: int, size: int | None, seed: int
) -> SampleFindings:
    """Look at some records one by one.

    Args:
        pool: the records.
        renderer: whose tokens are counted; None for none.
        max_length: tokens of a conversation that training keeps.
        size: how many records are drawn; None for all.
        seed: of the draw.
    """
    n = len(pool)
    whole = size is None or size >= n
    rows = np.arange(n) if whole or size is None else np.sort(generator(seed, "look").choice(n, size, replace=False))
    languages: Counter[str] = Counter()
    tokens = None if renderer is None else _Rendering(renderer, max_length)
    with progress("records", total=len(rows)) as advance:
        for start in range(0, len(rows), _READ):
            examples = pool.take(rows[start : start + _READ].tolist())
            for example in examples:
                languages[guess(_text(example))] += 1
                if tokens is not None:
                    tokens.add(example)
            advance(len(examples))
    shares = {name: share(count, len(rows), whole=whole) for name, count in languages.most_common()}
    counted = None if tokens is None else tokens.counts(pool, rows, whole=whole)
    return SampleFindings(len(rows), whole, shares, counted)


def _text(example: Example) -> str:
    """Return the beginning of what is said; a system prompt is often in another language than the conversation."""
    said = "\n".join(message.content[:_CHARACTERS] for message in example.messages if message.role != "system")
    return said[:_CHARACTERS]


class _Rendering:
    """Renders examples as training does, and keeps numbers alone."""

    def __init__(self, renderer: Renderer, max_length: int) -> None:
        self._renderer, self._max_length = renderer, max_length
        self._tokens: list[int] = []
        self._loss: list[int] = []
        self._prompts = 0
        self._refused: dict[str, list[tuple[str, str]]] = {}

    def add(self, example: Example) -> None:
        """Render one."""
        if example.messages[-1].role != "assistant":
            self._prompts += 1
            return
        try:
            rendered = self._renderer(example.messages, sys.maxsize)
        except DataError as error:
            self._refuse(example.id, str(error))
            return
        learnt = sum(label != IGNORED for label in rendered.labels[1 : self._max_length])
        self._tokens.append(rendered.full_length)
        if learnt:
            self._loss.append(learnt)
        else:
            self._refuse(example.id, f"cut off: its answer begins behind token {self._max_length:,} (max_length)")

    def _refuse(self, example_id: str, reason: str) -> None:
        self._refused.setdefault(reason.partition(":")[0], []).append((example_id, reason))

    def counts(self, pool: Pool, rows: NDArray[np.int64], *, whole: bool) -> TokenCounts:
        """Return what came of all."""
        n = len(rows)
        tokens_R, loss_R = np.array(self._tokens, dtype=np.int64), np.array(self._loss, dtype=np.int64)
        n_cut = int((tokens_R > self._max_length).sum())
        refused = {
            kind: Refused(share(len(each), n, whole=whole), *each[0])
            for kind, each in sorted(self._refused.items(), key=lambda item: -len(item[1]))
        }
        unwritten = count_unwritten(pool, self._renderer, rows.tolist())
        return TokenCounts(
            max_length=self._max_length,
            tokens_R=tokens_R,
            tokens=mean(tokens_R, whole=whole) if len(tokens_R) else None,
            cut=share(n_cut, len(tokens_R), whole=whole) if len(tokens_R) else None,
            loss_tokens=mean(loss_R, whole=whole) if len(loss_R) else None,
            prompts=share(self._prompts, n, whole=whole),
            refused=refused,
            unwritten={name: (share(each.records, n, whole=whole), each) for name, each in unwritten.items()},
        )
