"""A selection for ms-swift 4.6, which takes an answer as tokens, each with its loss.

By its source: ``token_ids`` and ``loss_scale`` of an answer (``loss_scale/base.py``), templates that a plugin brings
(``template/register.py``), defaults that are not transformers' (``trainers/arguments.py``).
"""

import json
from pathlib import Path
from typing import Any

import torch

from handpick.data.render import IGNORED, Rendered
from handpick.finetuning.export_config import (
    ExportRequest,
    adapter_scale,
    explain_precision,
    say,
    target_layers,
    write_config,
    write_text,
)
from handpick.model import load_config

# Its own `dummy` puts tokens of the tokenizer's around a record, and makes a label of an end-of-sequence token behind
# an answer. The name stays `dummy`: with that one it answers by the tokenizer's own chat template.
_TEMPLATE = '''"""For ms-swift: a record is its tokens, with nothing around them."""

from swift.template import TemplateMeta, register_template

register_template(TemplateMeta("dummy", prefix=[], prompt=["{{QUERY}}"], chat_sep=[], suffix=[]), exist_ok=True)
'''
# architectures of several types there, one of which has transformers' own name: it asks for one of them where it does
# not know the model by its name
_AMBIGUOUS = frozenset({"llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3"})


def write_ms_swift(request: ExportRequest) -> Path:
    """Write the tokens as answers, a template that adds nothing, and a config; return the config."""
    layout = request.layout
    records = (json.dumps(_record(sequence)) + "\n" for sequence in request.sequences)
    write_text(layout.ms_swift_records, "".join(records))
    write_text(layout.ms_swift_template, _TEMPLATE)
    return write_config(
        layout.ms_swift,
        _config(request),
        "swift sft",
        [
            f"{layout.ms_swift_records.name} holds tokens and their loss as handpick rendered them: the same template "
            f"and loss mask as the selection's gradients saw. {layout.ms_swift_template.name} keeps ms-swift from "
            "putting anything around them. Where ms-swift asks for a `model_type`, add the one it names for the model.",
            *explain_precision(request, "ms-swift"),
            *_explain_packing(request),
        ],
    )


def _record(sequence: Rendered) -> dict[str, Any]:
    scale = [int(label != IGNORED) for label in sequence.labels]
    return {"messages": [{"role": "assistant", "content": {"token_ids": sequence.input_ids, "loss_scale": scale}}]}


def _explain_packing(request: ExportRequest) -> list[str]:
    """Say what packing needs; return it for the config."""
    if not request.settings.packing:
        return []
    said = "ms-swift packs with flash-attention alone, which must be installed there"
    return say(said)


def _config(request: ExportRequest) -> dict[str, Any]:
    layout, settings, precision = request.layout, request.settings, request.precision
    bits: dict[str, Any] = {}
    if settings.quantization != "none":
        bits = {"quant_method": "bnb", "quant_bits": int(settings.quantization[0]), "bnb_4bit_use_double_quant": False}
    adapter: dict[str, Any] = {"tuner_type": "full"}
    if settings.adapter == "lora":
        names = target_layers(settings, request.model, "ms-swift") or ["all-linear"]
        adapter = {"tuner_type": "lora", "lora_rank": settings.lora.rank, **adapter_scale(settings)}
        adapter["target_modules"] = names
    packing = {"packing": True, "attn_impl": "flash_attention_2"} if settings.packing else {}
    return {
        "model": request.model,
        **({"model_type": kind} if (kind := load_config(request.model).model_type) in _AMBIGUOUS else {}),
        "use_hf": True,  # a name is one of the Hugging Face Hub
        "check_model": False,  # it would look the files of a folder up at ModelScope
        "torch_dtype": request.loaded_in,
        **bits,
        "dataset": [str(layout.ms_swift_records)],
        "strict": True,  # else a record that it cannot read is left out
        "template": "dummy",
        "external_plugins": [str(layout.ms_swift_template)],
        "output_dir": str(layout.model),
        "add_version": False,
        "max_length": settings.max_length,
        **packing,
        **adapter,
        **request.loop(),
        "warmup_ratio": request.rising(),
        "weight_decay": settings.weight_decay,
        "adam_beta2": 0.999,
        "max_grad_norm": 1.0,
        # both said: float32 alone would be computed in float16
        "bf16": precision == torch.bfloat16,
        "fp16": precision == torch.float16,
        "gradient_checkpointing": settings.gradient_checkpointing,
        "save_strategy": "epoch",
        "seed": settings.seed,
        "data_seed": settings.seed,
    }
