"""LoRA checkpoints, ours and other people's: the adapter's weights, and where the optimizer's state is.

A checkpoint is a folder with ``adapter_model.safetensors`` and ``adapter_config.json`` as peft writes them, and Adam's
state: ours in ``adam_moments.safetensors``, by canonical parameter name; a trainer's in ``optimizer.pt``
(``optimizer_state.py``, ``moments.py``).
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from handpick.documents import DAMAGED, WRONG_CONTENT, as_object
from handpick.errors import ModelError, first_line, is_refused
from handpick.gradients.adam import AdamMoments
from handpick.gradients.layers import canonical_name
from handpick.layout import CheckpointLayout
from handpick.listing import matching
from handpick.training.moments import check_fits, check_kind, moments_of
from handpick.training.optimizer_state import OPTIMIZER_FILES, read_optimizer
from handpick.training.sealed_checkpoint import ADAPTER_CONFIG, ADAPTER_FILE, check_file

# Ways to begin an adapter that leave the base model as it is, or change it to the same weights every time.
_REPEATABLE = {True, False, None, "gaussian", "eva", "orthogonal", "mica", "pissa", "olora"}
_CHANGES_BASE = {"pissa", "olora"}
_NOT_IN_PIECES = "and so changes a model that lies in pieces: leave --shard-model out, or name another checkpoint"

# What scales or forms an adapter and does not show in the names and shapes of its weights.
_SETTINGS = ("lora_alpha", "alpha_pattern", "use_rslora", "use_dora", "init_lora_weights")


def check_checkpoint(path: Path) -> None:
    """Raise ModelError unless the folder holds an adapter that can be read without pickle, on a base that is known."""
    if not path.is_dir():
        raise ModelError(f"there is no checkpoint folder {path}")
    if not (path / ADAPTER_CONFIG).exists():
        raise ModelError(f"{path} is no LoRA checkpoint: {_what_is_there(path)}")
    check_file(path / ADAPTER_CONFIG)
    try:
        config = json.loads((path / ADAPTER_CONFIG).read_text())
        kind, begun = config["peft_type"], config.get("init_lora_weights", True)
    except DAMAGED as error:
        raise ModelError(f"{path / ADAPTER_CONFIG} cannot be read as peft's: {error!r}") from error
    if kind != "LORA":
        raise ModelError(f"{path} is no LoRA checkpoint: its {ADAPTER_CONFIG} says {kind}")
    if not (path / ADAPTER_FILE).exists():
        check_file(path / ADAPTER_FILE)
        raise ModelError(f"{path} has no {ADAPTER_FILE}; save the adapter as safetensors (peft's default)")
    if isinstance(begun, list | dict) or begun not in _REPEATABLE:
        raise ModelError(
            f"{path}: the adapter began with init_lora_weights={begun!r}, which changes the base model in a way that "
            "cannot be repeated; convert it (peft's save_pretrained with path_initial_model_for_weight_conversion)"
        )


def _what_is_there(path: Path) -> str:
    """Return what a folder without an adapter's config is, and which one to name."""
    inside = list(matching(path, f"checkpoint-*/{ADAPTER_CONFIG}"))
    if inside:
        names = " ".join(str(file.parent) for file in sorted(inside, key=lambda file: _step(file.parent))[:3])
        return f"it is the folder of a run with {len(inside)} checkpoints; name them, such as {names}"
    if (path.parent / ADAPTER_CONFIG).exists():
        return f"it has no {ADAPTER_CONFIG}, and {path.parent} has: name that"
    if _sharded_by_deepspeed(path):
        return "it holds DeepSpeed's shards alone; save the adapter beside them (save_pretrained)"
    if any(matching(path, "pytorch_model_fsdp*")):
        return "it holds FSDP's shards of the model; save the adapter (fsdp_state_dict_type FULL_STATE_DICT)"
    if any(matching(path, "model*.safetensors")):
        return f"it holds a whole model and no {ADAPTER_CONFIG}; gradients are taken of a LoRA adapter's weights"
    return f"it has no {ADAPTER_CONFIG}"


def _step(checkpoint: Path) -> int:
    step = checkpoint.name.rpartition("-")[2]
    return int(step) if step.isdecimal() else 0


def _sharded_by_deepspeed(path: Path) -> Path | None:
    """Return the folder of DeepSpeed's shards; None where there is none."""
    own = [path] if any(matching(path, "*_optim_states.pt")) else []
    return next(iter([*own, *matching(path, "global_step*")]), None)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's trainable parameters by canonical name, in the model's own order."""
    return {canonical_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all that the model's adapter consists of, by the names that peft gives it in a file.

    Besides A and B it may be whole layers that were trained (modules_to_save), rows of tokens, magnitudes, biases.
    The tensors are the model's own.
    """
    from peft import get_peft_model_state_dict

    found: dict[str, Tensor] = get_peft_model_state_dict(model, state_dict=_tensors(model), save_embedding_layers=False)
    return found


def trained_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shapes of all parameters that training the adapter trains, by canonical name, in the model's order."""
    trained = {id(tensor) for tensor in adapter_tensors(model).values()}
    return {canonical_name(name): p.shape for name, p in model.named_parameters() if id(p) in trained}


def base_is_changed(model: nn.Module) -> bool:
    """Return whether the model under the adapter is another than the one that was loaded (PiSSA, OLoRA)."""
    return model.peft_config["default"].init_lora_weights in _CHANGES_BASE  # type: ignore[index,union-attr]


def check_matrices_alone(path: Path) -> None:
    """Raise ModelError unless a checkpoint leaves the base model as it is, and holds LoRA's matrices alone.

    Nothing else can be put into a model that lies in pieces.
    """
    begun = getattr(_read_config(path), "init_lora_weights", None)
    if begun in _CHANGES_BASE:
        raise ModelError(f"{path}: the adapter began with init_lora_weights={begun!r}, {_NOT_IN_PIECES}")
    other = next((name for name in _adapter_shapes(path) if ".lora_A." not in name and ".lora_B." not in name), None)
    if other is not None:
        raise ModelError(f"{path}: the adapter holds {other}, which is no LoRA matrix, {_NOT_IN_PIECES}")


def check_adapter(model: nn.Module, path: Path) -> None:
    """Raise ModelError unless the model's adapter has the shape and scaling of a checkpoint's; reads its header alone.

    The message names the setting or the weight: missing, one too many, or of another shape.
    """
    here, there = model.peft_config["default"], _read_config(path)  # type: ignore[index]
    for setting in _SETTINGS:
        is_there, is_here = getattr(there, setting, None), getattr(here, setting, None)
        if is_there != is_here and (setting != "init_lora_weights" or {is_there, is_here} & _CHANGES_BASE):
            raise ModelError(f"{path}: {setting} is {is_there}, not {is_here} as in the first checkpoint")
    shapes, known = _adapter_shapes(path), adapter_tensors(model)
    beside = _tensors(model)  # of which peft writes an embedding into the file where one was resized
    for name, shape in shapes.items():
        tensor = known.get(name, beside.get(name))
        if tensor is None:
            raise ModelError(f"{path}: the adapter holds {name}, which is no LoRA weight of the first checkpoint's")
        if tensor.shape != shape:
            raise ModelError(f"{path}: {name} is {tuple(shape)}, not {tuple(tensor.shape)} as in the first checkpoint")
    missing = next((name for name in known if name not in shapes), None)
    if missing is not None:
        raise ModelError(f"{path}: the adapter has no {missing}; its layers differ from the first checkpoint's")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}


def load_adapter(model: nn.Module, path: Path) -> None:
    """Copy a checkpoint's adapter into a model that carries an adapter of the same shape and scaling.

    All that the file holds is copied, and nothing of the model's adapter is left as it was: peft itself passes over
    what it does not recognise.

    Raises:
        ModelError: as ``check_adapter``.
    """
    check_adapter(model, path)
    weights = _adapter_weights(path)
    targets = _tensors(model) | adapter_tensors(model)
    with torch.no_grad():
        for name, weight in weights.items():
            targets[name].data.copy_(weight)


def attach_adapter(base: nn.Module, path: Path, fits: str = "this model", **given: Any) -> nn.Module:
    """Put a checkpoint's adapter on a base model, all that its file holds.

    Args:
        base: the model.
        path: the checkpoint's folder.
        fits: the word for the model, for messages.
        given: what else peft is told.

    Raises:
        ModelError: the adapter does not fit the model, or a file is damaged.
        OSError, RuntimeError: the system does not let it be read.
    """
    from peft import PeftModel

    check_file(path / ADAPTER_FILE)
    try:
        _open_once(path / ADAPTER_FILE)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found missing adapter keys")  # which are loaded below
            model: nn.Module = PeftModel.from_pretrained(base, str(path), **given)
    except (OSError, RuntimeError, *WRONG_CONTENT, SafetensorError) as error:
        if is_refused(error):
            raise
        raise ModelError(f"the adapter {path} does not fit {fits}: {first_line(error)}") from error
    load_adapter(model, path)
    return model


def was_trained(path: Path) -> bool:
    """Return whether any B of a checkpoint's adapter is not zero, as all are in an adapter fresh from peft.

    Raises:
        ModelError: the adapter's file is damaged.
    """
    return any(bool(weight.any()) for name, weight in _adapter_weights(path).items() if ".lora_B." in name)


def _read_config(path: Path) -> Any:
    """Read peft's config of an adapter, which takes whatever stands there for its fields."""
    from peft import PeftConfig

    try:
        return PeftConfig.from_pretrained(str(path))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{path / ADAPTER_CONFIG} cannot be read as peft's: {first_line(error)}") from error


def _open_once(file: Path) -> None:
    """Let the system say why a file cannot be opened: safetensors says of any such that it is not there.

    Raises:
        OSError: it cannot be opened.
    """
    file.open("rb").close()


def _adapter_weights(path: Path) -> dict[str, Tensor]:
    check_file(path / ADAPTER_FILE)
    _open_once(path / ADAPTER_FILE)
    try:
        return load_file(path / ADAPTER_FILE)
    except SafetensorError as error:
        raise ModelError(f"{path / ADAPTER_FILE} is damaged: {error}") from error


def _adapter_shapes(path: Path) -> dict[str, torch.Size]:
    _open_once(path / ADAPTER_FILE)
    try:
        with safe_open(path / ADAPTER_FILE, framework="pt") as file:
            return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ModelError(f"{path / ADAPTER_FILE} is damaged: {error}") from error


def save_moments(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write Adam's state by canonical parameter name, with its step and settings.

    A parameter that never had a gradient has none: its moments are zero, and its own step is 0.
    """
    tensors: dict[str, Tensor] = {}
    steps: dict[str, int] = {}
    for name, parameter in trainable_parameters(model).items():
        state = optimizer.state.get(parameter, {})
        for kind, key in (("first", "exp_avg"), ("second", "exp_avg_sq")):
            moment = state[key].float() if state else torch.zeros_like(parameter, dtype=torch.float32)
            tensors[f"{kind}.{name}"] = moment.contiguous()
        steps[name] = int(state["step"]) if state else 0
    step = max(steps.values(), default=0)
    group = optimizer.param_groups[0]
    settings: dict[str, Any] = {
        "step": step, "beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["eps"],
    }  # fmt: skip
    if own_steps := {name: own for name, own in steps.items() if own != step}:
        settings["own_steps"] = own_steps
    save_file(tensors, CheckpointLayout(path).moments, metadata={"adam": json.dumps(settings)})


def moments_file(path: Path) -> Path:
    """Return the file with a checkpoint's optimizer state.

    Raises:
        ModelError: there is none; the message says what is there in its place.
    """
    ours = CheckpointLayout(path).moments
    for file in (ours, *(path / name for name in OPTIMIZER_FILES)):
        if file.exists():
            return file
    check_file(ours)  # where it was there once
    found = ""
    if shards := _sharded_by_deepspeed(path):
        found = f"DeepSpeed keeps it in pieces ({shards.name}), which handpick does not put together; "
    elif any(matching(path, "optimizer_*")):
        found = (
            "FSDP keeps it in pieces (optimizer_0), which handpick does not put together (FULL_STATE_DICT is read); "
        )
    elif inside := sorted(matching(path, f"checkpoint-*/{OPTIMIZER_FILES[0]}"), key=lambda file: _step(file.parent)):
        found = f"the run's checkpoints have one each: name them, such as {inside[-1].parent}; "
    raise ModelError(
        f"{path} has no optimizer state ({ours.name} or {OPTIMIZER_FILES[0]}), which optimizer=adam needs; {found}"
        "save it with the checkpoint, or choose optimizer=sgd"
    )


def check_moments(path: Path, model: nn.Module | None = None) -> None:
    """Raise ModelError unless Adam's state at a checkpoint can be read; looks at headers alone.

    Without a model it is not known which parameter is which, and only whose state it is can be told.
    """
    file = moments_file(path)
    if file == CheckpointLayout(path).moments:
        if model is not None:
            with _open_own(file) as own:
                for name, parameter in trainable_parameters(model).items():
                    for kind in ("first", "second"):
                        _require_shape(path, name, parameter, own.get_slice(f"{kind}.{name}").get_shape())
        return
    saved = read_optimizer(file)
    if model is None:
        check_kind(saved)
    else:
        check_fits(saved, trained_shapes(model), _shapes(model))


def load_moments(path: Path, model: nn.Module) -> AdamMoments:
    """Load Adam's state at a checkpoint, for the model's trainable parameters.

    Raises:
        ModelError: there is none, or it belongs to other parameters, or to another optimizer.
    """
    file = moments_file(path)
    if file == CheckpointLayout(path).moments:
        return _own_moments(path, model)
    found = moments_of(read_optimizer(file), trained_shapes(model), _shapes(model))
    place = {name: parameter.device for name, parameter in trainable_parameters(model).items()}
    return replace(
        found,
        first={name: moment.to(place[name]) for name, moment in found.first.items()},
        second={name: moment.to(place[name]) for name, moment in found.second.items()},
    )


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: parameter.shape for name, parameter in trainable_parameters(model).items()}


@contextmanager
def _open_own(file: Path) -> Iterator[Any]:
    """Open our own file of moments; what goes wrong with it inside is a ModelError."""
    try:
        _open_once(file)
        with safe_open(file, framework="pt") as opened:
            yield opened
    except (SafetensorError, *DAMAGED) as error:
        raise ModelError(f"{file} is damaged or belongs to another adapter: {first_line(error)}") from error


def _adam_settings(file: Any) -> dict[str, Any]:
    """Return what our own file says of Adam, in the names of ``AdamMoments``.

    Raises:
        ValueError, KeyError, TypeError: it says something else.
    """
    settings = as_object(json.loads(file.metadata()["adam"]))
    numbers = [settings["step"], settings["beta1"], settings["beta2"], settings["eps"]]
    own = as_object(settings.get("own_steps", {}))
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in [*numbers, *own.values()]):
        raise ValueError("its settings of Adam are no numbers")
    if settings.keys() - {"step", "beta1", "beta2", "eps", "own_steps"}:
        raise ValueError("it has settings that are not Adam's")
    return settings


def _own_moments(path: Path, model: nn.Module) -> AdamMoments:
    first: dict[str, Tensor] = {}
    second: dict[str, Tensor] = {}
    check_file(CheckpointLayout(path).moments)
    with _open_own(CheckpointLayout(path).moments) as file:
        settings = _adam_settings(file)
        for name, parameter in trainable_parameters(model).items():
            for moments, kind in ((first, "first"), (second, "second")):
                moment = file.get_tensor(f"{kind}.{name}")
                _require_shape(path, name, parameter, moment.shape)
                moments[name] = moment.to(parameter.device, torch.float32)
        return AdamMoments(first, second, **settings)


def _require_shape(path: Path, name: str, parameter: nn.Parameter, shape: Sequence[int]) -> None:
    if torch.Size(shape) != parameter.shape:
        raise ModelError(
            f"{path}: the optimizer state for {name} is {tuple(shape)}, the weight {tuple(parameter.shape)}; "
            "it belongs to another adapter"
        )
