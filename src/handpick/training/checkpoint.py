"""LoRA checkpoints with their optimizer state, ours and other people's.

A checkpoint is a folder with ``adapter_model.safetensors`` and ``adapter_config.json`` as peft writes them, and
Adam's state: ours in ``adam_moments.safetensors``, by canonical parameter name; of a transformers Trainer in
``optimizer.pt``, by position, whose order is rebuilt from the Trainer's parameter groups and checked shape by shape.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from handpick.errors import ModelError
from handpick.gradients.adam import AdamMoments
from handpick.gradients.layers import canonical_name
from handpick.layout import CheckpointLayout

# peft's names, and the Trainer's
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_OPTIMIZER = "optimizer.pt"

# Parameters that the Trainer puts in its second group, without weight decay.
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)


def check_checkpoint(path: Path) -> None:
    """Raise ModelError unless the folder holds an adapter that can be read without pickle."""
    if not path.is_dir():
        raise ModelError(f"there is no checkpoint folder {path}")
    if not (path / ADAPTER_CONFIG).exists():
        raise ModelError(f"{path} is no LoRA checkpoint: it has no {ADAPTER_CONFIG}")
    try:
        kind = json.loads((path / ADAPTER_CONFIG).read_text())["peft_type"]
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path / ADAPTER_CONFIG} cannot be read as peft's: {error!r}") from error
    if kind != "LORA":
        raise ModelError(f"{path} is no LoRA checkpoint: its {ADAPTER_CONFIG} says {kind}")
    if not (path / ADAPTER_FILE).exists():
        raise ModelError(f"{path} has no {ADAPTER_FILE}; save the adapter as safetensors (peft's default)")


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's trainable parameters by canonical name, in the model's own order."""
    return {canonical_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def load_adapter(model: nn.Module, path: Path) -> None:
    """Copy a checkpoint's adapter weights into a model that carries an adapter of the same shape and scaling.

    Raises:
        ModelError: a weight is missing, is one too many, or has another shape, or the adapter scales otherwise; the
            message names it.
    """
    from peft import PeftConfig

    here, there = model.peft_config["default"], PeftConfig.from_pretrained(str(path))  # type: ignore[index]
    for setting in ("lora_alpha", "alpha_pattern", "use_rslora"):
        if getattr(there, setting, None) != getattr(here, setting, None):
            raise ModelError(
                f"{path}: {setting} is {getattr(there, setting, None)}, not {getattr(here, setting, None)} as in the "
                "first checkpoint"
            )
    weights = _adapter_weights(path)
    known = {canonical_name(name) for name, _ in model.named_parameters() if ".lora_" in name}
    extra = sorted(weights.keys() - known)
    if extra:
        raise ModelError(f"{path}: the adapter holds {extra[0]}, which is no LoRA weight of the first checkpoint's")
    for full_name, parameter in model.named_parameters():
        if ".lora_" not in full_name:
            continue
        name = canonical_name(full_name)
        if name not in weights:
            raise ModelError(f"{path}: the adapter has no {name}; its layers differ from the first checkpoint's")
        if weights[name].shape != parameter.shape:
            raise ModelError(
                f"{path}: {name} is {tuple(weights[name].shape)}, not {tuple(parameter.shape)} as in the first "
                "checkpoint"
            )
        parameter.data.copy_(weights[name])


def was_trained(path: Path) -> bool:
    """Return whether any B of a checkpoint's adapter is not zero, as all are in an adapter fresh from peft.

    Raises:
        ModelError: the adapter's file is damaged.
    """
    return any(bool(weight.any()) for name, weight in _adapter_weights(path).items() if ".lora_B." in name)


def _adapter_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path / ADAPTER_FILE)
    except SafetensorError as error:
        raise ModelError(f"{path / ADAPTER_FILE} is damaged: {error}") from error


def save_moments(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write Adam's state by canonical parameter name, with its step and settings."""
    tensors: dict[str, Tensor] = {}
    step = 0
    for name, parameter in trainable_parameters(model).items():
        state = optimizer.state[parameter]
        tensors[f"first.{name}"] = state["exp_avg"].float().contiguous()
        tensors[f"second.{name}"] = state["exp_avg_sq"].float().contiguous()
        step = int(state["step"])
    group = optimizer.param_groups[0]
    settings = {"step": step, "beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["eps"]}
    save_file(tensors, CheckpointLayout(path).moments, metadata={"adam": json.dumps(settings)})


def moments_file(path: Path) -> Path:
    """Return the file with a checkpoint's optimizer state.

    Raises:
        ModelError: there is none.
    """
    ours, trainers = CheckpointLayout(path).moments, path / _OPTIMIZER
    for file in (ours, trainers):
        if file.exists():
            return file
    raise ModelError(
        f"{path} has no optimizer state ({ours.name} or {trainers.name}), which optimizer=adam needs; "
        "save it with the checkpoint, or choose optimizer=sgd"
    )


def load_moments(path: Path, model: nn.Module) -> AdamMoments:
    """Load Adam's state at a checkpoint, for the model's trainable parameters.

    Raises:
        ModelError: there is none, or it belongs to other parameters.
    """
    is_ours = moments_file(path) == CheckpointLayout(path).moments
    return _own_moments(path, model) if is_ours else _trainer_moments(path, model)


def _own_moments(path: Path, model: nn.Module) -> AdamMoments:
    first, second = {}, {}
    file_path = CheckpointLayout(path).moments
    try:
        with safe_open(file_path, framework="pt") as file:
            settings = json.loads(file.metadata()["adam"])
            for name, parameter in trainable_parameters(model).items():
                first[name] = _validate_moment(path, name, parameter, file.get_tensor(f"first.{name}"))
                second[name] = _validate_moment(path, name, parameter, file.get_tensor(f"second.{name}"))
    except SafetensorError as error:
        raise ModelError(f"{file_path} is damaged or belongs to another adapter: {error}") from error
    return AdamMoments(first, second, **settings)


def _trainer_moments(path: Path, model: nn.Module) -> AdamMoments:
    file = path / _OPTIMIZER
    try:
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        states, groups = saved["state"], saved["param_groups"]
    except Exception as error:  # torch raises many kinds for a damaged file and for a pickle with code in it
        raise ModelError(
            f"{file} is damaged, or a pickle of more than an optimizer's tensors, which handpick does not run"
        ) from error
    parameters = trainable_parameters(model)
    ordered = sorted(parameters, key=lambda name: bool(_NO_DECAY.search(name)))  # stable: each group in model order
    sizes = [n for n in _group_sizes(ordered) if n]
    saved_sizes = [len(group["params"]) for group in groups if group["params"]]
    if saved_sizes != sizes:
        raise ModelError(
            f"{file} has the state of {' + '.join(map(str, saved_sizes))} parameters, where transformers' Trainer "
            f"keeps {' + '.join(map(str, sizes))} for this adapter"
        )
    first, second, step = {}, {}, 0
    for position, name in zip((i for group in groups for i in group["params"]), ordered, strict=True):
        state = states.get(position, {})
        missing = {"exp_avg", "exp_avg_sq", "step"} - state.keys()
        if missing:
            raise ModelError(f"{file} has no {min(missing)} for {name}: it is not the state of an Adam")
        first[name] = _validate_moment(path, name, parameters[name], state["exp_avg"])
        second[name] = _validate_moment(path, name, parameters[name], state["exp_avg_sq"])
        step = int(state["step"])
    beta1, beta2 = groups[0]["betas"]
    return AdamMoments(first, second, step, beta1, beta2, groups[0]["eps"])


def _group_sizes(names: Sequence[str]) -> tuple[int, int]:
    """Return how many parameters the Trainer puts in its first group and in its second."""
    n_second = sum(bool(_NO_DECAY.search(name)) for name in names)
    return len(names) - n_second, n_second


def _validate_moment(path: Path, name: str, parameter: nn.Parameter, moment: Tensor) -> Tensor:
    if moment.shape != parameter.shape:
        raise ModelError(
            f"{path}: the optimizer state for {name} is {tuple(moment.shape)}, the weight {tuple(parameter.shape)}; "
            "it belongs to another adapter"
        )
    return moment.to(parameter.device, torch.float32)
