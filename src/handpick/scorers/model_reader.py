"""The base model as it comes, without an adapter, for representations that only read with it."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Self

from torch import nn

from handpick.choices import Dtype, Quantization
from handpick.costs.flops import Shape, shape_of
from handpick.data.batching import Batch, Mixing, collate, token_batches
from handpick.data.render import Rendered, Renderer
from handpick.errors import ModelError
from handpick.fingerprint import Fingerprint
from handpick.gradients.forward import decoder_of
from handpick.model import (
    compute_dtype,
    load_base,
    load_config,
    model_fingerprint,
    padding_id,
    tokenizer_fingerprint,
)
from handpick.model.mixing import mixing_of
from handpick.scorers.gradient_encoder import tokens_per_batch
from handpick.scorers.inputs import check_max_length, model_name, no_model
from handpick.scorers.row_scorer import RowEncoder
from handpick.settings import Settings


class Reader:
    """A base model that reads rendered conversations, some at a time; it is loaded when it is first needed.

    Args:
        model_name: a folder, or a name on the Hub.
        renderer: with the model's tokenizer.
        max_length: tokens of a conversation that are kept.
        dtype: what it computes in.
        quantization: of its weights.
        batch_tokens: padded tokens of a batch, at most.
    """

    def __init__(
        self,
        model_name: str,
        renderer: Renderer,
        max_length: int,
        dtype: Dtype,
        quantization: Quantization,
        batch_tokens: int,
    ) -> None:
        self.model_name = model_name
        self.renderer = renderer
        self.max_length = max_length
        self._dtype = compute_dtype(dtype)
        self._quantization = quantization
        self.batch_tokens = batch_tokens

    @cached_property
    def space(self) -> Fingerprint:
        """What the model is and what it is given to read; reads the bytes of its weights.

        Raises:
            ModelError: there is no such model.
        """
        quantized: Fingerprint = {} if self._quantization == "none" else {"quantization": self._quantization}
        tokenizer = tokenizer_fingerprint(self.renderer)
        return {"model": model_fingerprint(self.model_name), **quantized, **tokenizer}

    @property
    def build(self) -> Fingerprint:
        """What else decides what it makes of a conversation."""
        return {
            "max_length": self.max_length,
            "dtype": str(self._dtype).removeprefix("torch."),
            "batch_tokens": self.batch_tokens,
        }

    @cached_property
    def model(self) -> nn.Module:
        """The model, frozen.

        Raises:
            ModelError: it cannot be loaded, or has no decoder apart from its head.
        """
        model = load_base(self.model_name, self._dtype, self._quantization)
        head = model.get_output_embeddings()  # type: ignore[operator]
        decoder = decoder_of(model)
        if head is None or decoder is None or any(module is head for module in decoder.modules()):
            raise ModelError(f"{type(model).__name__} has no decoder apart from a language-model head")
        return model

    @cached_property
    def mixing(self) -> Mixing:
        """Which lengths the model reads together."""
        return mixing_of(load_config(self.model_name))

    def batches(self, sequences: Sequence[Rendered]) -> Iterator[tuple[list[int], Batch]]:
        """Yield sequences of like length together, padded on the right: which they are, and the batch."""
        pad_id = padding_id(self.renderer.tokenizer)
        for members in token_batches(
            [len(sequence.input_ids) for sequence in sequences], self.batch_tokens, self.mixing
        ):
            yield members, collate([sequences[i] for i in members], pad_id)


def open_reader(settings: Settings, renderer: Renderer | None) -> Reader:
    """Return the reader of a run's settings.

    Raises:
        SettingsError: no model is given, or ``max_length`` is more than it has positions for.
        ModelError: it cannot be used.
    """
    if renderer is None:
        raise no_model()
    check_max_length(settings)
    return Reader(
        model_name(settings),
        renderer,
        settings.max_length,
        settings.dtype,
        settings.quantization,
        tokens_per_batch(settings),
    )


class ReadEncoder(RowEncoder):
    """A ``RowEncoder`` whose items a base model reads.

    Args:
        reader: the model.
    """

    counts = "tokens"

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @classmethod
    def open(cls, settings: Settings, renderer: Renderer | None) -> Self:
        """Return the encoder with the run's base model, not loaded yet."""
        return cls(open_reader(settings, renderer))

    def build(self) -> Fingerprint:
        """Return what else decides the rows."""
        return self.reader.build

    def size(self, item: Any) -> int:
        """Return the tokens that are read of an item."""
        return len(item.input_ids)

    def batches(self, items: Sequence[Any]) -> list[list[Any]]:
        """Return items of like length together, as the reader does."""
        members = token_batches([self.size(item) for item in items], self.reader.batch_tokens, self.reader.mixing)
        return [[items[i] for i in own] for own in members]

    def shape(self) -> Shape | None:
        """Return the shape of the model that reads."""
        return shape_of(self.reader.model)
