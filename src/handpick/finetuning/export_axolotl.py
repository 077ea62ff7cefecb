"""A selection for axolotl 0.19, which reads examples that are tokens already."""

from pathlib import Path
from typing import Any

import torch

from handpick.finetuning.export_config import (
    ExportRequest,
    adapter_scale,
    explain_precision,
    load_in_bits,
    schedule_of,
    target_layers,
    write_config,
    write_tokens,
)


def write_axolotl(request: ExportRequest) -> Path:
    """Write the tokens and a config; return the config."""
    layout = request.layout
    write_tokens(request)
    return write_config(
        layout.axolotl,
        _config(request),
        "axolotl train",
        [
            f"{layout.tokens.name} holds tokens and labels as handpick rendered them: the same template and loss mask "
            f"as the selection's gradients saw. To let axolotl render {layout.messages.name} instead: path: "
            f"{layout.messages.name}, type: chat_template, message_field_training: train, "
            "message_field_training_detail: train_detail. Its mask is its own.",
            *explain_precision(request, "axolotl"),
        ],
    )


def _config(request: ExportRequest) -> dict[str, Any]:
    layout, settings = request.layout, request.settings
    adapter: dict[str, Any] = {}
    if settings.adapter == "lora":
        kind = "qlora" if settings.quantization == "4bit" else "lora"
        names = target_layers(settings, request.model, "axolotl")
        layers = {"lora_target_modules": names} if names else {"lora_target_linear": True}
        adapter = {"adapter": kind, "lora_r": settings.lora.rank, **adapter_scale(settings), **layers}
    return {
        "base_model": request.model,
        **load_in_bits(settings),
        "datasets": [{"path": str(layout.tokens), "ds_type": "json", "type": None}],
        "chat_template_jinja": str(layout.template),  # kept with the model, for inference
        "val_set_size": 0.0,
        "output_dir": str(layout.model),
        "sequence_len": settings.max_length,
        "sample_packing": settings.packing,
        **adapter,
        "micro_batch_size": request.micro_batch,
        "gradient_accumulation_steps": settings.batch // request.micro_batch,
        "num_epochs": settings.epochs,
        "optimizer": "adamw_torch",
        "lr_scheduler": schedule_of(settings),
        "learning_rate": settings.learning_rate,
        "warmup_ratio": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": 1.0,
        # both said: its own `auto` takes float16 where there is no bfloat16
        "bf16": request.precision == torch.bfloat16,
        "fp16": request.precision == torch.float16,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": settings.seed,
    }
