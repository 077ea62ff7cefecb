"""A reward model: a sequence-classification model with one output, asked how good a conversation is.

Shapes: B conversations of a batch, T tokens of the longest of them.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from handpick.choices import Dtype
from handpick.data.batching import token_batches
from handpick.data.examples import Message
from handpick.data.formats import ROLES
from handpick.data.render import Renderer
from handpick.errors import DataError, ModelError
from handpick.model import compute_dtype, device, load_config, load_tokenizer, load_weights
from handpick.model.mixing import mixing_of
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import record_name

_BATCH_TOKENS = 8192


class RewardModel:
    """Any real number: the one output of a sequence-classification model, higher is better.

    The conversation is written by the tokenizer's chat template; a tokenizer without one is given prompt and
    completion as a pair of texts. A score does not depend on what else is in the batch, up to rounding. The
    configuration and the tokenizer are read at once, the weights when the first completion is scored.

    Args:
        name: a model folder or the name of a model on the Hub.
        dtype: what it computes in.

    Raises:
        ModelError: there is no such model, it needs code of its own, or it has more than one output.
    """

    def __init__(self, name: str, dtype: Dtype = "auto") -> None:
        self.name = f"model:{name}"
        self._model_name = name
        self._dtype = compute_dtype(dtype)
        config = load_config(name)
        kinds = config.architectures or []
        if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
            raise ModelError(
                f"{name} is no reward model but {' and '.join(kinds) or 'of unknown kind'}; "
                "a reward model is a sequence-classification model with one output"
            )
        if config.num_labels != 1:
            raise ModelError(
                f"{name} is no reward model: it has {config.num_labels} labels, which give no single score; "
                "a reward model is a sequence-classification model with one"
            )
        self._mixing = mixing_of(config)
        self._tokenizer = load_tokenizer(name)
        self._renderer = Renderer(self._tokenizer) if self._tokenizer.chat_template else None
        limits = (getattr(config, "max_position_embeddings", None), self._tokenizer.model_max_length)
        self._max_tokens: int = min(limit for limit in limits if limit is not None)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions.

        Raises:
            DataError: the chat template refuses a conversation, or one is longer than the model can read.
            ModelError: the weights cannot be loaded, or are not all there.
        """
        encoded = [
            self._encode(prompt, completion, record)
            for prompt, completion, record in zip(prompts, completions, records, strict=True)
        ]
        scores = [0.0] * len(encoded)
        for members in token_batches([len(e["input_ids"]) for e in encoded], _BATCH_TOKENS, self._mixing):
            for member, value in zip(members, self._scores([encoded[i] for i in members]), strict=True):
                scores[member] = value
        return scores

    def _encode(self, prompt: Prompt, completion: str, record: Record) -> Mapping[str, list[int]]:
        encoded: Mapping[str, list[int]]
        if self._renderer is None:
            encoded = self._tokenizer("\n".join(turn["content"] for turn in prompt), completion)
        else:
            turns = [Message(ROLES[turn["role"]], turn["content"]) for turn in prompt]
            try:
                text = self._renderer.text([*turns, Message("assistant", completion)])
            except DataError as error:
                raise DataError(f"{self.name} cannot score {record_name(record)}: {error}") from error
            encoded = self._tokenizer(text, add_special_tokens=False)
        n = len(encoded["input_ids"])
        if n > self._max_tokens:
            raise DataError(
                f"{self.name} cannot score {record_name(record)}: with its answer it has {n} tokens, and the model "
                f"reads at most {self._max_tokens}; take a model that reads more, or allow shorter answers"
            )
        return encoded

    @torch.inference_mode()
    def _scores(self, batch: Sequence[Mapping[str, list[int]]]) -> list[float]:
        model: Any = self._model
        pad_id = self._padding_id
        if pad_id is None:
            # Decoders read the score at the last token that is no padding, so padding must be a token that stands in
            # none of these texts: with the end token, which often pads, the score would be read before the end.
            used = {token for encoded in batch for token in encoded["input_ids"]}
            pad_id = next(token for token in range(len(used) + 1) if token not in used)
            model.config.get_text_config().pad_token_id = pad_id
        inputs_BT = {
            key: pad_sequence(
                [torch.tensor(encoded[key]) for encoded in batch],
                batch_first=True,
                padding_value=pad_id if key == "input_ids" else 0,
            ).to(model.device)
            for key in signature(model.forward).parameters.keys() & batch[0].keys()  # not all know token_type_ids
        }
        return [float(value) for value in model(**inputs_BT).logits.float().view(-1)]

    @cached_property
    def _padding_id(self) -> int | None:
        """The model's own padding token, which it does not take for text wherever it stands."""
        model: Any = self._model
        pad_id: int | None = model.config.get_text_config().pad_token_id
        return pad_id

    @cached_property
    def _model(self) -> nn.Module:
        from transformers import AutoModelForSequenceClassification

        model = load_weights(AutoModelForSequenceClassification, self._model_name, self._dtype, what="reward model")
        return model.requires_grad_(False).eval().to(device())
