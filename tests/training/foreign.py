"""Checkpoints as people's trainers make them: trainer × optimizer × adapter, and what handpick makes of each.

A run trains a tiny model and keeps it and its optimizer in memory; what is read back from the folder is held against
them. ``scripts/checkpoint_table.py`` prints the whole table, ``test_foreign.py`` tests the part that is installed.
"""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import EvaConfig, LoraConfig, get_peft_model, initialize_lora_eva_weights
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from handpick.data.batching import collate
from handpick.errors import ModelError
from handpick.gradients.engine import GradientEngine
from handpick.gradients.layers import canonical_name
from handpick.gradients.projection import projection
from handpick.training.checkpoint import check_checkpoint, check_moments, load_moments
from handpick.training.warmup import load_trainable
from tests.gradients.oracle import autograd_rows, flat, mean_weights, random_sequences, relative_error
from tests.gradients.tiny_models import VOCAB, base_model

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj"]
# Of 64 × 64 weights: what has fewer than 4,096 the 8-bit optimizers keep in 32.
SIZE: dict[str, object] = {"hidden_size": 64, "head_dim": 16, "num_key_value_heads": 4}

# what is unlike plain LoRA → its settings
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "rank and alpha patterns": {
        "rank_pattern": {"q_proj": 3},
        "alpha_pattern": {r"layers\.1\.self_attn\.v_proj": 3},
    },
    "some layers": {"layers_to_transform": [1]},
    "exclude_modules": {"exclude_modules": r".*layers\.0\..*q_proj"},
    "all-linear": {"target_modules": "all-linear"},
    "PiSSA": {"init_lora_weights": "pissa"},
    "OLoRA": {"init_lora_weights": "olora"},
    "EVA": {"init_lora_weights": "eva"},
    "pissa_niter_2": {"init_lora_weights": "pissa_niter_2"},
    "DoRA": {"use_dora": True},
    "lora_bias": {"lora_bias": True},
    "bias=lora_only": {"bias": "lora_only"},
    "bias=all": {"bias": "all"},
    "modules_to_save: lm_head": {"modules_to_save": ["lm_head"]},
    "modules_to_save: both embeddings": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "modules_to_save: norm": {"modules_to_save": ["norm"]},
    "trained token rows": {"trainable_token_indices": [5, 6, 7]},
    "LoRA on the embedding": {"target_modules": [*LAYERS, "embed_tokens"]},
    "LoRA on the head": {"target_modules": [*LAYERS, "lm_head"]},
}


def adapted(rank: int = 4, **lora: Any) -> nn.Module:
    """A tiny Llama with biases in its attention, and a fresh adapter."""
    settings: dict[str, Any] = {"r": rank, "lora_alpha": 2 * rank, "target_modules": LAYERS} | lora
    if settings.get("init_lora_weights") == "eva":
        settings["eva_config"] = EvaConfig(rho=1.0)
    torch.manual_seed(3)
    model: nn.Module = get_peft_model(plain(), LoraConfig(task_type="CAUSAL_LM", **settings))  # type: ignore[arg-type]
    if settings.get("init_lora_weights") == "eva":
        batches = [{name: row[name][None] for name in row} for row in rows()]
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    return model


def plain() -> nn.Module:
    """The model without an adapter."""
    return base_model("llama", changed=SIZE | {"attention_bias": True})


def rows() -> list[dict[str, Tensor]]:
    """Eight sequences to train on."""
    ids = [s.input_ids[:6] for s in random_sequences(40, VOCAB) if len(s.input_ids) >= 6][:8]
    return [{"input_ids": torch.tensor(row), "labels": torch.tensor(row)} for row in ids]


@dataclass
class Run:
    """A folder, and what was in memory when it was written: the model, and Adam's moments by parameter name."""

    checkpoint: Path
    model: nn.Module
    first: dict[str, Tensor]
    second: dict[str, Tensor]


def trained(model: nn.Module, out: Path, optimizer: torch.optim.Optimizer | None = None, **arguments: Any) -> Run:
    """Train as people do, for two epochs of four steps; the last checkpoint and what was in memory."""
    given: dict[str, Any] = {
        "per_device_train_batch_size": 2, "num_train_epochs": 2, "learning_rate": 1e-2, "weight_decay": 0.1,
        "save_strategy": "epoch", "logging_steps": 1, "report_to": [], "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip
    trainer = Trainer(
        model,
        TrainingArguments(output_dir=str(out), **(given | arguments)),
        train_dataset=rows(),
        optimizers=(optimizer, None),
    )
    with quiet():
        trainer.train()
    return run_of(trainer, out / f"checkpoint-{trainer.state.global_step}")


def run_of(trainer: Any, checkpoint: Path) -> Run:
    """What a trainer holds."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    first, second = {}, {}
    for name, parameter in model.named_parameters():
        state = optimizer.state.get(parameter)
        if parameter.requires_grad and state and ".lora_" in name and not name.endswith(".bias"):
            moments = live_moments(state)
            if moments is not None:
                first[canonical_name(name)], second[canonical_name(name)] = moments
    return Run(checkpoint, model, first, second)


def live_moments(state: dict[str, Any]) -> tuple[Tensor, Tensor] | None:
    """Adam's moments as the optimizer's own library reads them; None where it has none."""
    if {"state1", "state2"} <= state.keys():
        if "absmax1" not in state:
            return state["state1"].clone(), state["state2"].clone()
        from bitsandbytes.functional import dequantize_blockwise

        pairs = [(state[f"state{i}"], state[f"absmax{i}"], state[f"qmap{i}"]) for i in (1, 2)]
        one, two = (dequantize_blockwise(codes, absmax=a, code=q, blocksize=256) for codes, a, q in pairs)
        return one.float(), two.float()
    if not {"exp_avg", "exp_avg_sq"} <= state.keys():
        return None
    one, two = (
        each.dequantize() if hasattr(each, "codes") else each for each in (state["exp_avg"], state["exp_avg_sq"])
    )
    return one.float().clone(), two.float().clone()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the trainer's log."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def moments_error(run: Run) -> float:
    """The largest relative error of any parameter's moment, of what is read back.

    Raises:
        ModelError: it is refused; found without a model, or from the headers, or when it is read.
    """
    check_checkpoint(run.checkpoint)
    check_moments(run.checkpoint)
    model = load_trainable(plain(), [run.checkpoint])
    check_moments(run.checkpoint, model)
    got = load_moments(run.checkpoint, model)
    matrices = {name for name in got.first if not name.endswith(".bias")}
    assert got.first.keys() == got.second.keys()
    assert matrices == run.first.keys()
    errors = [
        float((mine[name] - live[name]).norm() / live[name].norm().clamp(min=1e-30))
        for mine, live in ((got.first, run.first), (got.second, run.second))
        for name in live
    ]
    return max(errors)


def rows_error(run: Run) -> float:
    """The largest relative error of a row at the checkpoint, to plain autograd in the model that was trained.

    Raises:
        ModelError: it is refused.
    """
    sequences = random_sequences(6, VOCAB, seed=1)
    model = load_trainable(plain(), [run.checkpoint])
    engine = GradientEngine(model)
    batch = collate(sequences, 0)
    whole = projection("none", engine.n_coordinates, 1, 0, 1)
    got_ND = engine.features(batch, mean_weights(batch), whole)
    for name, parameter in run.model.named_parameters():
        parameter.requires_grad_(".lora_" in name and name.endswith(".default.weight"))
    live = autograd_rows(run.model, sequences)
    want_ND = flat({layer.name: live[layer.name] for layer in engine.layers})
    return relative_error(got_ND, want_ND)


def outcome(of: Callable[[Run], float], run: Run) -> str:
    """A cell: the error, or the sentence that refuses."""
    try:
        return f"{of(run):.0e}"
    except ModelError as error:
        return f"refused: {str(error).replace(str(run.checkpoint), 'CHECKPOINT')}"


# optimizers by transformers' own names → the package that they need
BY_NAME: dict[str, str | None] = {
    "adamw_torch": None, "adamw_torch_fused": None, "adafactor": None, "sgd": None, "adagrad": None, "rmsprop": None,
    "adamw_bnb_8bit": "bitsandbytes", "paged_adamw_8bit": "bitsandbytes", "paged_adamw_32bit": "bitsandbytes",
    "ademamix_8bit": "bitsandbytes", "lion_8bit": "bitsandbytes", "lion_32bit": "bitsandbytes",
    "rmsprop_bnb_8bit": "bitsandbytes", "adamw_torch_8bit": "torchao", "adamw_torch_4bit": "torchao",
    "schedule_free_adamw": "schedulefree", "schedule_free_radam": "schedulefree", "stable_adamw": "optimi",
}  # fmt: skip


def weights_of(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """What is trained, by name."""
    return [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]


def reversed_with_names(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights_of(model)[::-1], lr=1e-2)


def reversed_without_names(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([weight for _, weight in weights_of(model)[::-1]], lr=1e-2)


def lora_plus_of_peft(model: nn.Module) -> torch.optim.Optimizer:
    from peft.optimizers import create_loraplus_optimizer

    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-2, loraplus_lr_ratio=16.0)  # type: ignore[arg-type]


def lora_plus_of_llama_factory(model: nn.Module) -> torch.optim.Optimizer:
    """LLaMA-Factory's groups: A; B; what of B has no weight decay; embeddings."""
    matrices = {kind: [weight for name, weight in weights_of(model) if f".lora_{kind}." in name] for kind in "AB"}
    return torch.optim.AdamW(
        [
            {"params": matrices["A"], "lr": 1e-2, "weight_decay": 0.1},
            {"params": matrices["B"], "lr": 16e-2, "weight_decay": 0.1},
            {"params": [], "lr": 16e-2, "weight_decay": 0.0},
            {"params": [], "lr": 1e-6, "weight_decay": 0.1},
        ]
    )


def with_other_betas(model: nn.Module) -> torch.optim.Optimizer:
    groups = [[weight for name, weight in weights_of(model) if f".lora_{kind}." in name] for kind in "AB"]
    named = [[pair for pair in weights_of(model) if f".lora_{kind}." in pair[0]] for kind in "AB"]
    assert all(groups)
    return torch.optim.AdamW([{"params": named[0]}, {"params": named[1], "betas": (0.8, 0.99)}], lr=1e-2)


def of_torch(kind: str, **settings: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    def make(model: nn.Module) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = getattr(torch.optim, kind)(
            [
                {
                    "params": [weight for _, weight in weights_of(model)],
                    "weight_decay": settings.get("weight_decay", 0.0),
                },
                {"params": [], "weight_decay": 0.0},
            ],
            **{"lr": 1e-2} | settings,
        )
        return made

    return make


# optimizers that are handed over to the Trainer
HANDED_OVER: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "AdamW of torch, parameters reversed, with names": reversed_with_names,
    "AdamW of torch, parameters reversed, without names": reversed_without_names,
    "LoRA+ of peft": lora_plus_of_peft,
    "LoRA+ of LLaMA-Factory": lora_plus_of_llama_factory,
    "AdamW of torch, betas differ between groups": with_other_betas,
    "AdamW of torch, amsgrad": of_torch("AdamW", amsgrad=True),
    "AdamW of torch, maximize": of_torch("AdamW", maximize=True),
    "Adam of torch, weight decay in the gradient": of_torch("Adam", weight_decay=0.1),
    "Adam of torch, no weight decay": of_torch("Adam"),
    "NAdam of torch": of_torch("NAdam"),
    "RAdam of torch": of_torch("RAdam"),
    "Adamax of torch": of_torch("Adamax"),
    "RMSprop of torch": of_torch("RMSprop"),
    "SGD of torch, momentum": of_torch("SGD", momentum=0.9),
    "Adafactor of torch": of_torch("Adafactor"),
    "Muon of torch": of_torch("Muon"),
}


def installed(package: str | None) -> bool:
    """Whether a package is there."""
    return package is None or find_spec(package) is not None
