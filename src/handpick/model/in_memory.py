"""A base model that is handed over in Python: a transformers module and its tokenizer, never changed by us.

What is computed on is a copy, so that the weights are in memory twice: adapters are put into a model in place.
"""

import hashlib
import math
import re
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from handpick.errors import ModelError
from handpick.fingerprint import Fingerprint, digest
from handpick.in_memory import find_held, hold, is_in_memory, memory_name
from handpick.model.recompute import keep_activations

_OF_THE_READER = ("_name_or_path", "transformers_version")


@dataclass(frozen=True, eq=False, repr=False)
class MemoryModel:
    """A causal language model and its tokenizer, in memory."""

    module: Any
    tokenizer: Any

    @cached_property
    def name(self) -> str:
        """What settings call it: a digest of the config, every weight and the tokenizer."""
        tokenizer = [self.tokenizer.backend_tokenizer.to_str(), self.tokenizer.chat_template]
        special = {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()}
        return memory_name("model", digest([self.fingerprint, tokenizer, special]))

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the model is, under the keys of a model folder's fingerprint.

        The values are others than of the same model in a folder, where the bytes of files are what counts.
        """
        config = self.module.config.to_dict() | {"architectures": [type(self.module).__name__]}
        return {"config": config_digest(config), "weights": weights_digest(self.module)}

    def copy_module(self, dtype: torch.dtype) -> nn.Module:
        """Return a frozen copy of the module in eval mode, its weights in ``dtype``, which names no folder.

        Weights that transformers keeps in float32 when it reads a file of this architecture stay so here.

        Raises:
            ModelError: the module cannot be copied.
        """
        try:
            copy: Any = deepcopy(self.module)
        except (RuntimeError, TypeError) as error:
            raise ModelError(
                f"the model cannot be copied ({error}); save it in a folder and name the folder"
            ) from error
        copy.name_or_path = copy.config._name_or_path = ""  # its weights may be others than those of that folder
        if any(getattr(module, "gradient_checkpointing", False) for module in copy.modules()):
            keep_activations(copy)
        _cast(copy, dtype)
        module: nn.Module = copy.requires_grad_(False).eval()
        return module


def hold_model(module: object, tokenizer: object) -> MemoryModel:
    """Make a model known by its name to all that loads models, for as long as the caller keeps what this returns.

    Args:
        module: a transformers causal language model; reading all its weights for the name takes a second a gigabyte.
        tokenizer: its fast tokenizer.

    Raises:
        ModelError: the module is none, has an adapter already, or holds no plain weights in memory; the tokenizer is
            not a fast one.
    """
    _check_module(module)
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"the tokenizer {type(tokenizer).__name__} is no fast one and gives no character offsets; hand over a "
            "transformers tokenizer that has a fast version (tokenizer.json)"
        )
    return hold(MemoryModel(module, tokenizer))


def held_model(name: str) -> MemoryModel | None:
    """Return the model in memory that a name stands for; None where it names a file or a model of the Hub.

    Raises:
        ModelError: it names one in memory that nobody in this process holds.
    """
    if not is_in_memory(name):
        return None
    found = find_held(name, MemoryModel)
    if found is None:
        raise ModelError(f"{name} was handed over in Python and is not here: hand over the module and tokenizer again")
    return found


def config_digest(config: dict[str, Any]) -> str:
    """Return the digest of a model's configuration, without what the path or the library that reads it put there."""
    return digest({name: _in_json(value) for name, value in config.items() if name not in _OF_THE_READER})


def _in_json(value: Any) -> Any:
    """Return a value with its infinities, which bound the time steps of state-space layers, as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _in_json(each) for name, each in value.items()}
    return [_in_json(each) for each in value] if isinstance(value, list | tuple) else value


def weights_digest(module: nn.Module) -> str:
    """Return the first 16 hex digits of the SHA-256 of a module's weights: names, types, shapes and bytes."""
    content = hashlib.sha256()
    for name, weight in sorted(module.state_dict().items()):
        content.update(f"{name} {weight.dtype} {tuple(weight.shape)}\n".encode())
        content.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return content.hexdigest()[:16]


def _check_module(module: object) -> None:
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from transformers import PreTrainedModel

    kind = type(module).__name__
    parts = list(module.modules()) if isinstance(module, nn.Module) else []
    if isinstance(module, PeftModel) or any(isinstance(part, BaseTunerLayer) for part in parts):
        raise ModelError(f"the {kind} has an adapter already: hand over its base model, or merge it (merge_and_unload)")
    if not isinstance(module, PreTrainedModel) or not module.can_generate() or module.config.is_encoder_decoder:
        raise ModelError(
            f"a model in memory is a transformers causal language model (such as LlamaForCausalLM), not a {kind}; "
            "hand over the module itself, not what wraps it"
        )
    if getattr(module, "is_quantized", False):
        raise ModelError(f"the {kind} is quantized: name its folder instead, and say how with --quantization")
    absent = next((name for name, weight in module.named_parameters() if weight.device.type == "meta"), None)
    if absent is not None:
        raise ModelError(f"the {kind} has weights that are not in memory, {absent} among them: name its folder instead")
    places = {str(place) for place in (getattr(module, "hf_device_map", None) or {}).values()}
    if len(places) > 1:
        raise ModelError(
            f"the {kind} lies on {len(places)} devices (device_map), and gradients are taken on one: hand it over on "
            "one, or where none holds it save it, and name its folder to `handpick represent --shard-model`"
        )


def _cast(model: Any, dtype: torch.dtype) -> None:
    """Give a model's floating-point weights, and the buffers that are saved with them, a type, as from a file."""
    wide = [pattern for pattern, kept in model._get_dtype_plan(dtype).items() if kept == torch.float32]
    weights = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    for name in model.state_dict():
        if name in weights and weights[name].is_floating_point():
            own = torch.float32 if any(re.search(pattern, name) for pattern in wide) else dtype
            weights[name].data = weights[name].data.to(own)
