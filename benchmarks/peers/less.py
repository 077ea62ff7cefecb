"""LESS's gradient loop (princeton-nlp/LESS, less/data_selection/collect_grad_reps.py), and its projection apart.

The loop: one example a step, its loss and backward pass, the gradients of all trainable parameters as one vector,
Adam's update of it with epsilon inside the root; 16 vectors are stacked, cast to float16 and projected to 8192
dimensions by TRAK's projector in blocks of 128 columns. A GPU with fast_jl has a kernel for that; everywhere else the
repository falls back on BasicProjector, which draws the whole matrix anew for every 16 examples.

The repository loads the model in bfloat16 whatever ``--torch_dtype`` says, with the adapter in the same type.

Legend: B stacked gradients, D coordinates, K projected dimensions, C columns of a block.
"""

import math
from pathlib import Path
from typing import Any

import torch
from peers.common import Task, Work
from safetensors.torch import load_file
from torch import Tensor

STACKED = 16
PROJECTED = 8192
BLOCK = 128
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def load_model(task: Task) -> Any:
    """The base model with its adapter, all in one type; nothing but LoRA's weights needs a gradient."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(task.base, dtype=task.torch_dtype).to(task.device)
    model = PeftModel.from_pretrained(base, task.adapter, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora" in name
    return model.eval()


def load_moments(task: Task, model: Any) -> tuple[Tensor, Tensor]:
    """Adam's two moments (D,), in the order of the model's trainable parameters."""
    saved = load_file(Path(task.adapter) / "adam_moments.safetensors")
    names = [name.replace(".default.", ".") for name, p in model.named_parameters() if p.requires_grad]
    first_D = torch.cat([saved[f"first.{name}"].flatten() for name in names])
    second_D = torch.cat([saved[f"second.{name}"].flatten() for name in names])
    place = {"device": task.device, "dtype": task.torch_dtype}
    return first_D.to(**place), second_D.to(**place)


def loop(task: Task) -> Work:
    """The loop without any projection: the stacked gradients are dropped."""
    model = load_model(task)
    first_D, second_D = load_moments(task, model)
    batches = [_batch_of_one(sequence, task.device) for sequence in task.sequences()]

    def run(batches: list[dict[str, Tensor]]) -> None:
        stack: list[Tensor] = []
        for batch in batches:
            stack.append(adam_gradient(model, batch, first_D, second_D))
            model.zero_grad()
            if len(stack) == STACKED:
                stack = []

    return Work(lambda: run(batches), lambda: run(batches[: 32 if task.device == "cuda" else 4]), len(batches))


def cosines(task: Task) -> Tensor:
    """The cosines (N, Q) of Adam's updates of all examples but the last ``queries`` with the gradients of those."""
    model = load_model(task)
    first_D, second_D = load_moments(task, model)
    rows = []
    for place, sequence in enumerate(task.sequences()):
        batch = _batch_of_one(sequence, task.device)
        if place < task.examples - task.options["queries"]:
            rows.append(adam_gradient(model, batch, first_D, second_D).cpu())
        else:
            model(**batch).loss.backward()
            rows.append(_gradient(model).cpu())
        model.zero_grad()
    unit_BD = torch.nn.functional.normalize(torch.stack(rows), dim=1)
    n_queries = task.options["queries"]
    return unit_BD[:-n_queries] @ unit_BD[-n_queries:].T


def adam_gradient(model: Any, batch: dict[str, Tensor], first_D: Tensor, second_D: Tensor) -> Tensor:
    """Adam's update (D,) from one example's gradient, without bias correction."""
    model(**batch).loss.backward()
    grad_D = _gradient(model)
    new_first_D = BETA1 * first_D + (1 - BETA1) * grad_D
    new_second_D = BETA2 * second_D + (1 - BETA2) * grad_D**2
    return new_first_D / torch.sqrt(new_second_D + EPSILON)


def _gradient(model: Any) -> Tensor:
    """What the last backward pass left (D,)."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def _batch_of_one(sequence: dict[str, list[int]], device: str) -> dict[str, Tensor]:
    input_ids_1T = torch.tensor([sequence["input_ids"]], device=device)
    labels_1T = torch.tensor([sequence["labels"]], device=device)
    return {"input_ids": input_ids_1T, "attention_mask": torch.ones_like(input_ids_1T), "labels": labels_1T}


def anew(task: Task) -> Work:
    """The projection alone, as the repository falls back on it: BasicProjector, its matrix drawn for every call.

    Two of its 64 blocks of columns are run, of at most ``coordinates`` rows, and the time is scaled.
    """
    from trak.projectors import BasicProjector, ProjectionType

    blocks = 2  # with one, the projector would keep its matrix
    n_coordinates, share = _coordinates(task)
    projector = BasicProjector(
        grad_dim=n_coordinates, proj_dim=blocks * BLOCK, seed=0, proj_type=ProjectionType.rademacher,
        device=torch.device(task.device), dtype=task.torch_dtype, block_size=BLOCK, max_batch_size=STACKED,
    )  # fmt: skip
    gradients = [torch.randn(n_coordinates, device=task.device, dtype=task.torch_dtype) for _ in range(STACKED)]

    def run() -> Tensor:
        stacked_BD = torch.stack(gradients).to(torch.float16)
        return projector.project(stacked_BD, model_id=0).cpu()

    # the constructor has drawn a block already
    return Work(run, lambda: None, STACKED, PROJECTED / (blocks * BLOCK) / share)


def resident(task: Task) -> Work:
    """The projection alone, were its matrix kept: the product with one block of columns that is in memory, scaled.

    The block has at most ``coordinates`` rows. Drawing the matrix is left out, and so is that it would not fit; both
    favour LESS. ``stacked`` gradients at a time.
    """
    n_coordinates, share = _coordinates(task)
    stacked = task.options["stacked"]
    block_DC = torch.empty(n_coordinates, BLOCK, device=task.device, dtype=task.torch_dtype)
    block_DC.bernoulli_(0.5).mul_(2).sub_(1)
    gradients_BD = torch.randn(stacked, n_coordinates, device=task.device, dtype=task.torch_dtype)
    repeats = 3

    def run() -> None:
        for _ in range(repeats):
            gradients_BD @ block_DC

    return Work(run, run, stacked, math.ceil(PROJECTED / BLOCK) / repeats / share)


def _coordinates(task: Task) -> tuple[int, float]:
    """How many coordinates are run, and which share of all that is."""
    n = min(task.options["coordinates"], task.n_coordinates)
    return n, n / task.n_coordinates
