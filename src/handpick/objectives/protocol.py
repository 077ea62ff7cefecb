"""What an objective is: it turns records into weighted sequences, several a record if need be.

A row's loss is Σ weight · nll over its sequences and their labelled tokens. Every objective here has that form: where a
loss is no such sum (a preference), its gradient is one, with weights that depend on the model's own log-probabilities.

Legend: S sequences.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from handpick.data.batching import collate, token_batches
from handpick.data.examples import Example
from handpick.data.render import Rendered
from handpick.errors import DataError, ModelError
from handpick.fingerprint import Fingerprint
from handpick.gradients.engine import GradientEngine
from handpick.gradients.forward import causal_of
from handpick.gradients.likelihood import log_likelihoods
from handpick.model.mixing import mixing_of
from handpick.training.checkpoint import base_is_changed


@dataclass(frozen=True, slots=True)
class WeightedSequence:
    """One sequence of a row's loss, and what the nll of each of its labelled tokens weighs in it."""

    sequence: Rendered
    weight: float


Row = Sequence[WeightedSequence]


class Prepared(NamedTuple):
    """What an objective made of records: (id, item) of those it can use, and the others with the reason."""

    ids: list[str]
    items: list[Any]
    refused: list[tuple[Example, str]]


class Objective(Protocol):
    """A record's loss. What ``prepare`` makes of a record only the objective itself knows.

    ``advice`` is what to do where no record has a gradient.
    """

    advice: str

    def fingerprint(self) -> Fingerprint:
        """Return what decides the rows, besides the model and the records."""

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Do what can be done without the model; cheap, and called again where it is needed again."""

    def rows(self, items: Sequence[Any], policy: "Policy") -> list[Row]:
        """Return the weighted sequences of each item; none at all where a record has no signal at this checkpoint."""


def prepare_each(examples: Sequence[Example], make: Callable[[Example], Any]) -> Prepared:
    """Call ``make`` on every example; a DataError is the reason that an example is refused."""
    prepared = Prepared([], [], [])
    for example in examples:
        try:
            prepared.items.append(make(example))
        except DataError as error:
            prepared.refused.append((example, str(error)))
        else:
            prepared.ids.append(example.id)
    return prepared


class Policy:
    """The model at a checkpoint, for what an objective must know of it.

    Args:
        engine: of the model, which stands at the checkpoint.
        tokenizer: decodes.
        pad_id: a token to fill batches up with.
        batch_tokens: padded tokens of a batch, at most.
        checkpoint: the bytes of its adapter, as a fingerprint has them.
        load: puts another checkpoint's adapter into the model.
        here: the folder of the checkpoint that the model stands at.
    """

    def __init__(
        self,
        engine: GradientEngine,
        tokenizer: Any,
        pad_id: int,
        batch_tokens: int,
        checkpoint: str,
        load: Callable[[Path], None],
        here: Path,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.pad_id = pad_id
        self.checkpoint = checkpoint
        self._batch_tokens = batch_tokens
        self._load = load
        self.here = here

    @property
    def model(self) -> nn.Module:
        """The model itself, with its adapter."""
        return self.engine.model

    def log_likelihoods(self, sequences: Sequence[Rendered]) -> NDArray[np.float64]:
        """Compute log π of each sequence's labelled tokens, summed, (S,)."""
        each_S = np.empty(len(sequences))
        mixing = mixing_of(causal_of(self.model).config)
        for members in token_batches([len(s.input_ids) for s in sequences], self._batch_tokens, mixing):
            batch = collate([sequences[i] for i in members], self.pad_id)
            each_S[members] = log_likelihoods(self.model, batch).numpy()
        return each_S

    @contextmanager
    def as_reference(self, checkpoint: Path | None) -> Iterator[None]:
        """Make the model the reference while open: another checkpoint, or the base model (None).

        Raises:
            ModelError: the adapter changed the base model itself, which is then not to be had by switching it off.
        """
        if checkpoint is None:
            config: Any = self.model.peft_config["default"]  # type: ignore[index]
            if base_is_changed(self.model) or config.bias != "none":
                raise ModelError(
                    f"{self.here}: the adapter (init_lora_weights={config.init_lora_weights!r}, bias={config.bias!r}) "
                    "changed the base model's own weights, so it cannot be switched off for a reference: name one with "
                    "--reference"
                )
            trainable = [p for p in self.model.parameters() if p.requires_grad]
            try:
                with self.model.disable_adapter():  # type: ignore[operator]
                    yield
            finally:  # peft leaves the whole adapter trainable, also what was not
                self.model.requires_grad_(False)
                for parameter in trainable:
                    parameter.requires_grad_(True)
            return
        self._load(checkpoint)
        try:
            yield
        finally:
            self._load(self.here)
