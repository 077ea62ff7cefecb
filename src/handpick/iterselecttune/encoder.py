"""The encoder that a classifier is made of: where it lies, what it is, how much it reads, and a new head on it.

Nothing here runs code that comes with an encoder, and nothing is unpickled.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from handpick.documents import WRONG_CONTENT
from handpick.errors import ModelError
from handpick.fingerprint import Fingerprint
from handpick.model import load_config, load_tokenizer, load_weights, model_fingerprint
from handpick.scorers.embedding import packaged_encoder

_MODULES = "modules.json"
_LABELS = {0: "easy", 1: "hard"}


def encoder_fingerprint(name: str) -> Fingerprint:
    """Return what an encoder is, by its bytes; found out before anything else is computed.

    Raises:
        SettingsError: the package with it is not installed.
        ModelError: there is none of that name, or its tokenizer cannot be used.
    """
    place = transformer_path(name)
    load_tokenizer(place)
    return model_fingerprint(place)


def transformer_path(name: str) -> str:
    """Return where the transformer of an encoder lies: a folder, or a name on the Hub.

    Raises:
        SettingsError: the package with it is not installed.
        ModelError: it says so in a file that cannot be read.
    """
    packaged = packaged_encoder(name)
    if packaged is not None:
        return str(packaged)
    modules = Path(name) / _MODULES  # of sentence-transformers: the transformer is the first, perhaps in a folder
    if not modules.exists():
        return name
    try:
        return str(Path(name) / json.loads(modules.read_text(encoding="utf-8"))[0]["path"])
    except (OSError, *WRONG_CONTENT) as error:
        raise ModelError(f"the modules.json of {name} cannot be read: {error}") from error


def new_classifier(name: str) -> tuple[Any, Any]:
    """Load the encoder of a name with a new head, in float32, and its tokenizer. Draws from torch's random state.

    Raises:
        SettingsError: the package with it is not installed.
        ModelError: it cannot be loaded, or classifies no texts.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as WITH_A_DECODER

    place = transformer_path(name)
    if load_config(place).model_type in WITH_A_DECODER:  # its config may say otherwise, where its decoder was cut off
        raise ModelError(
            f"{name} is made of an encoder and a decoder, and a classifier has no use for the latter: name an encoder "
            "such as google-bert/bert-base-uncased"
        )
    tokenizer = load_tokenizer(place)
    model: Any = load_weights(_WithNewHead, place, torch.float32, "encoder")
    vocabulary = model.get_input_embeddings().num_embeddings
    # The model's own comes first: some count positions by it. A decoder takes the last token that is not this one.
    ids = (getattr(model.config, "pad_token_id", None), tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    model.config.pad_token_id = next(i for i in ids if i is not None and 0 <= i < vocabulary)
    return model, tokenizer


class _WithNewHead:
    """An Auto class to ``load_weights``: a sequence classifier of which only the head may be missing."""

    @staticmethod
    def from_pretrained(name: str, **given: Any) -> tuple[Any, dict[str, Any]]:
        from transformers import AutoModelForSequenceClassification

        model, report = AutoModelForSequenceClassification.from_pretrained(
            name,
            id2label=_LABELS,
            label2id={word: label for label, word in _LABELS.items()},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,
            **given,
        )
        body = model.base_model_prefix + "."
        if model.base_model is model:
            raise ValueError("its head cannot be told from its body")
        # of a head that came along, for other labels, nothing is to stay
        drawn = AutoModelForSequenceClassification.from_config(model.config).state_dict()
        model.load_state_dict({key: drawn[key] for key in drawn if not key.startswith(body)}, strict=False)
        lacking = {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])}
        # an encoder that was saved without the layer between its states and a head
        needed = {key for key in lacking if key.startswith(body) and ".pooler." not in key}
        return model, {**report, "missing_keys": needed}


def padding_token(model: Any) -> int:
    """Return the token to fill batches up with; it is masked everywhere."""
    return int(model.config.pad_token_id)


def max_readable_tokens(model: Any, tokenizer: Any) -> int:
    """Return the most tokens that the encoder can read."""
    limits = [int(tokenizer.model_max_length), int(getattr(model.config, "max_position_embeddings", 0) or 0)]
    for place, module in model.named_modules():
        if isinstance(module, nn.Embedding) and ("position" in place or place.endswith("wpe")):
            # RoBERTa and its kin count from behind the padding's row
            limits.append(module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1))
    return min(limit for limit in limits if limit > 0)
