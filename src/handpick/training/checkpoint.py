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

ADAPTER_FILE = "adapter_model.safetensors"
MOMENTS_FILE = "adam_moments.safetensors"
RECORD_FILE = "handpick_checkpoint.json"

# Parameters that the Trainer puts in its second group, without weight decay.
_NO_DECAY = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)", re.IGNORECASE)


def check_checkpoint(path: Path) -> None:
    """Raise ModelError unless the folder holds an adapter that can be read without pickle."""
    if not path.is_dir():
        raise ModelError(f"there is no checkpoint folder {path}")
    if not (path / "adapter_config.json").exists():
        raise ModelError(f"{path} is no LoRA checkpoint: it has no adapter_config.json")
    if not (path / ADAPTER_FILE).exists():
        raise ModelError(f"{path} has no {ADAPTER_FILE}; save the adapter as safetensors (peft's default)")


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """A model's trainable parameters by canonical name, in the model's own order."""
    return {canonical_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def load_adapter(model: nn.Module, path: Path) -> None:
    """Copy a checkpoint's adapter weights into a model that carries an adapter of the same shape.

    Raises:
        ModelError: a weight is missing or has another shape; the message names it.
    """
    weights = load_file(path / ADAPTER_FILE)
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


def save_moments(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write Adam's state by canonical parameter name, with its step and settings."""
    tensors: dict[str, Tensor] = {}
    step = 0
    for name, parameter in trainable(model).items():
        state = optimizer.state[parameter]
        tensors[f"first.{name}"] = state["exp_avg"].float().contiguous()
        tensors[f"second.{name}"] = state["exp_avg_sq"].float().contiguous()
        step = int(state["step"])
    group = optimizer.param_groups[0]
    settings = {"step": step, "beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["eps"]}
    save_file(tensors, path / MOMENTS_FILE, metadata={"adam": json.dumps(settings)})


def moments_file(path: Path) -> Path:
    """The file with a checkpoint's optimizer state.

    Raises:
        ModelError: there is none.
    """
    for name in (MOMENTS_FILE, "optimizer.pt"):
        if (path / name).exists():
            return path / name
    raise ModelError(
        f"{path} has no optimizer state ({MOMENTS_FILE} or optimizer.pt), which optimizer=adam needs; "
        "save it with the checkpoint, or choose optimizer=sgd"
    )


def load_moments(path: Path, model: nn.Module) -> AdamMoments:
    """Adam's state at a checkpoint, for the model's trainable parameters.

    Raises:
        ModelError: there is none, or it belongs to other parameters.
    """
    return _own_moments(path, model) if moments_file(path).name == MOMENTS_FILE else _trainer_moments(path, model)


def _own_moments(path: Path, model: nn.Module) -> AdamMoments:
    first, second = {}, {}
    try:
        with safe_open(path / MOMENTS_FILE, framework="pt") as file:
            settings = json.loads(file.metadata()["adam"])
            for name, parameter in trainable(model).items():
                first[name] = _checked(path, name, parameter, file.get_tensor(f"first.{name}"))
                second[name] = _checked(path, name, parameter, file.get_tensor(f"second.{name}"))
    except SafetensorError as error:
        raise ModelError(f"{path / MOMENTS_FILE} does not fit this adapter: {error}") from error
    return AdamMoments(first, second, **settings)


def _trainer_moments(path: Path, model: nn.Module) -> AdamMoments:
    try:
        saved: dict[str, Any] = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle that is more than tensors, or a damaged file
        raise ModelError(f"{path / 'optimizer.pt'} cannot be read as plain tensors: {error}") from error
    parameters = trainable(model)
    ordered = sorted(parameters, key=lambda name: bool(_NO_DECAY.search(name)))  # stable: each group in model order
    positions = [i for group in saved["param_groups"] for i in group["params"]]
    if len(positions) != len(ordered):
        raise ModelError(
            f"{path / 'optimizer.pt'} has the state of {len(positions)} parameters, the adapter has {len(ordered)}"
        )
    first, second, step = {}, {}, 0
    for position, name in zip(positions, ordered, strict=True):
        state = saved["state"].get(position)
        if state is None or "exp_avg_sq" not in state:
            raise ModelError(f"{path / 'optimizer.pt'} has no Adam state for {name}")
        first[name] = _checked(path, name, parameters[name], state["exp_avg"])
        second[name] = _checked(path, name, parameters[name], state["exp_avg_sq"])
        step = int(state["step"])
    group = saved["param_groups"][0]
    return AdamMoments(first, second, step, beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"])


def _checked(path: Path, name: str, parameter: nn.Parameter, moment: Tensor) -> Tensor:
    if moment.shape != parameter.shape:
        raise ModelError(
            f"{path}: the optimizer state for {name} is {tuple(moment.shape)}, the weight {tuple(parameter.shape)}; "
            "it belongs to another adapter"
        )
    return moment.to(parameter.device, torch.float32)


def checkpoint_weights(paths: Sequence[Path]) -> list[float] | None:
    """Mean learning rate of the epoch that each checkpoint ends, normalised to sum 1 (LESS, section 3.2).

    Ours is in the checkpoint's record, a Trainer's in the log of its ``trainer_state.json``. None where one has
    neither: the caller weighs them alike and says so.
    """
    rates = []
    previous_step = 0
    for path in paths:
        if (path / RECORD_FILE).exists():
            rates.append(float(json.loads((path / RECORD_FILE).read_text())["mean_learning_rate"]))
            continue
        if not (path / "trainer_state.json").exists():
            return None
        state = json.loads((path / "trainer_state.json").read_text())
        logged = [
            entry["learning_rate"]
            for entry in state["log_history"]
            if "learning_rate" in entry and previous_step < entry["step"] <= state["global_step"]
        ]
        if not logged:
            return None
        rates.append(sum(logged) / len(logged))
        previous_step = state["global_step"]
    total = sum(rates)
    return [rate / total for rate in rates] if total > 0 else None
