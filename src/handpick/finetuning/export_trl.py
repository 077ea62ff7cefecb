"""A selection for TRL's own command, ``trl sft``, which reads examples that are tokens already (TRL 1.16)."""

import re
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import TrainingArguments

from handpick.finetuning.export_config import (
    ExportRequest,
    adapter_scale,
    explain_precision,
    load_in_bits,
    say,
    target_layers,
    write_config,
    write_tokens,
)
from handpick.model.recompute import recompute_name
from handpick.training.settings import FinetuneSettings


def write_trl(request: ExportRequest) -> Path:
    """Write the tokens and a config; return the config."""
    layout = request.layout
    write_tokens(request)
    return write_config(
        layout.trl,
        _config(request),
        "trl sft --config",
        [
            f"{layout.tokens.name} holds tokens and labels as handpick rendered them: the same template and loss mask "
            "as the selection's gradients saw. TRL before 1.16 may not read the column `labels`, and would learn the "
            "prompts too.",
            f"{recompute_name(TrainingArguments)} is as transformers {transformers.__version__} has it: 5.23 warns of "
            "gradient_checkpointing, and what is older does not know activation_checkpointing.",
            *explain_precision(request, "TRL"),
            *_explain_adapter(request.settings),
        ],
    )


def _explain_adapter(settings: FinetuneSettings) -> list[str]:
    """Say what TRL does to an adapter over few bits; return it for the config."""
    if settings.quantization == "none":
        return []
    said = "TRL rounds an adapter over weights in few bits to bfloat16, where `handpick train` keeps it in float32"
    return say(said)


def _config(request: ExportRequest) -> dict[str, Any]:
    layout, settings, precision = request.layout, request.settings, request.precision
    adapter: dict[str, Any] = {}
    if settings.adapter == "lora":
        names = target_layers(settings, request.model, "TRL")
        adapter = {"use_peft": True, "lora_r": settings.lora.rank, **adapter_scale(settings)}
        adapter["lora_target_modules"] = _as_targets(names)
    return {
        "model_name_or_path": request.model,
        "dtype": request.loaded_in,
        **load_in_bits(settings),
        "datasets": [{"path": "json", "data_files": str(layout.tokens), "columns": ["input_ids", "labels"]}],
        "chat_template_path": str(layout.template),  # kept with the model, for inference
        "output_dir": str(layout.model),
        "max_length": settings.max_length,
        "packing": settings.packing,
        **adapter,
        **request.loop(),
        "warmup_steps": request.rising(),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": 1.0,
        "router_aux_loss_coef": 0.0,  # the loss of the answers alone
        "bf16": precision == torch.bfloat16,
        "fp16": precision == torch.float16,
        recompute_name(TrainingArguments): settings.gradient_checkpointing,  # TRL does it where it is told nothing
        "save_strategy": "epoch",
        "seed": settings.seed,
    }


def _as_targets(names: list[str]) -> list[str]:
    """Return layers as TRL's parser takes them.

    It makes a text of a list of one, and peft takes a text for a pattern of the whole path.
    """
    if len(names) == 1:
        return [rf"(.*\.)?{re.escape(names[0])}"]
    return names or ["all-linear"]
