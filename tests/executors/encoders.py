"""Encoders that another process can load, some of which misbehave once."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from handpick.data.examples import Example
from handpick.errors import DataError, SettingsError
from handpick.executors import Advance
from handpick.objectives.protocol import Prepared, prepare_each
from handpick.progress import log


@dataclass(frozen=True)
class Counting:
    """One row a record: its characters and the checkpoint.

    ``dies_at`` is the id of a record over which a worker is killed, as often as there are lines to take from the file
    ``lives``; ``fails_at`` one that it cannot compute; ``not_finite`` are pairs of a checkpoint and an id.
    """

    dies_at: str | None = None
    lives: Path | None = None
    fails_at: str | None = None
    slow: float = 0.0
    not_portable: str | None = None
    not_finite: frozenset[tuple[int, str]] = frozenset()

    def load(self) -> "Counting":
        return self

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        return prepare_each(examples, self._item)

    def _item(self, example: Example) -> tuple[str, int]:
        if b"unusable" in example.raw:
            raise DataError("unusable")
        return example.id, len(example.raw)

    def encode(self, checkpoint: int, items: Sequence[Any], advance: Advance) -> NDArray[np.float32]:
        log("counting")
        for example_id, _ in items:
            time.sleep(self.slow)
            advance(1)
            if example_id == self.dies_at and self._lives_left():
                os.kill(os.getpid(), signal.SIGKILL)
            if example_id == self.fails_at:
                raise SettingsError(f"{example_id} cannot be computed")
        return np.array(
            [
                [n, checkpoint, np.inf if (checkpoint, example_id) in self.not_finite else torch.get_num_threads()]
                for example_id, n in items
            ],
            dtype=np.float32,
        ).reshape(len(items), 3)

    def _lives_left(self) -> bool:
        if self.lives is None:
            return True
        left = int(self.lives.read_text())
        self.lives.write_text(str(left - 1))
        return left > 0
