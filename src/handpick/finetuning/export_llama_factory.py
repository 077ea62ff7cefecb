"""A selection for LLaMA-Factory 0.9.5, which reads examples that are tokens already."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from handpick.data.examples import Example
from handpick.errors import DataError, SettingsError
from handpick.files import place_folder
from handpick.finetuning.export_config import (
    ExportRequest,
    adapter_scale,
    explain_precision,
    say,
    target_layers,
    token_columns,
    write_config,
    write_text,
)
from handpick.finetuning.rows import no_progress_bars
from handpick.finetuning.sharegpt import sharegpt_record
from handpick.layout import ExportLayout
from handpick.model import load_config
from handpick.progress import log

_DATASET = "handpick"  # what LLaMA-Factory calls the examples
_SHAREGPT = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "system": "system", "tools": "tools"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        "user_tag": "human",
        "assistant_tag": "gpt",
        "observation_tag": "observation",
        "function_tag": "function_call",
        "system_tag": "system",
    },
}


def write_llama_factory(request: ExportRequest) -> Path:
    """Write the tokens as a data set that is saved, and a config; return the config.

    Raises:
        SettingsError: packing is asked for.
    """
    if request.settings.packing:
        raise SettingsError("LLaMA-Factory packs nothing but what it renders itself: leave --packing out")
    layout = request.layout
    _save_tokenized(request)
    described = {_DATASET: {"file_name": layout.sharegpt.name, **_SHAREGPT}}
    write_text(layout.dataset_info, json.dumps(described, indent=2) + "\n")
    return write_config(
        layout.llama_factory,
        _config(request),
        "llamafactory-cli train",
        [
            f"{layout.tokenized.name}/ holds tokens and labels as handpick rendered them: the same template and loss "
            "mask as the selection's gradients saw. Without the line `tokenized_path`, LLaMA-Factory renders "
            f"{layout.sharegpt.name}; its template and mask are its own.",
            *explain_precision(request, "LLaMA-Factory"),
            *_explain_float32(request),
        ],
    )


def write_sharegpt(layout: ExportLayout, examples: Sequence[Example]) -> None:
    """Write the records in LLaMA-Factory's own form; say which could not be, and why."""
    lines: list[str] = []
    left_out: Counter[str] = Counter()
    for example in examples:
        try:
            lines.append(json.dumps(sharegpt_record(example.messages), ensure_ascii=False) + "\n")
        except DataError as error:
            left_out[str(error)] += 1
    write_text(layout.sharegpt, "".join(lines))
    if left_out:
        why = ", ".join(f"{n:,} {reason}" for reason, n in left_out.most_common())
        n = left_out.total()
        log(
            f"{n:,} record{'s' if n != 1 else ''} left out of {layout.sharegpt.name}: LLaMA-Factory's own form has no "
            f"words for them ({why}); {layout.tokenized.name} holds all"
        )


def _save_tokenized(request: ExportRequest) -> None:
    """Save the data set of tokens, whole or not at all."""
    from datasets import Dataset, DatasetDict

    rows = [token_columns(sequence) for sequence in request.sequences]
    part, whole = request.layout.tokenized_part, request.layout.tokenized
    shutil.rmtree(part, ignore_errors=True)
    with no_progress_bars():
        DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(part)
    shutil.rmtree(whole, ignore_errors=True)
    place_folder(part, whole)


def _explain_float32(request: ExportRequest) -> list[str]:
    """Say where LLaMA-Factory has no word for float32; return it for the config.

    It loads weights in the type that they are stored in and casts to float32 what is trained alone. What it computes in
    where neither bf16 nor fp16 is set, float16 on a GPU, only reaches weights in 4 bits (``hparams/parser.py``,
    ``model/patcher.py``, ``model/loader.py``, ``model/adapter.py`` of 0.9.5).
    """
    settings = request.settings
    if request.precision != torch.float32 or settings.adapter == "none":
        return []
    stored = load_config(request.model).get_text_config().dtype
    if settings.quantization == "4bit":
        said = "LLaMA-Factory computes in float16 under weights in 4 bits, and has no word for float32 there"
    elif settings.quantization == "none" and stored != torch.float32:
        own = str(stored or "their own type").removeprefix("torch.")
        said = (
            f"LLaMA-Factory leaves the frozen weights of {request.model} in {own}, as they are stored, and has no word "
            "for float32: store them in float32, or train with `handpick train`"
        )
    else:
        return []
    return say(said)


def _config(request: ExportRequest) -> dict[str, Any]:
    layout, settings = request.layout, request.settings
    bits = {} if settings.quantization == "none" else {"quantization_bit": int(settings.quantization[0])}
    adapter: dict[str, Any] = {}
    if settings.adapter == "lora":
        names = ",".join(target_layers(settings, request.model, "LLaMA-Factory")) or "all"
        adapter = {"lora_rank": settings.lora.rank, **adapter_scale(settings), "lora_target": names}
    return {
        "model_name_or_path": request.model,
        **bits,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full" if settings.adapter == "none" else "lora",
        **adapter,
        "dataset": _DATASET,
        "dataset_dir": str(layout.folder),
        "tokenized_path": str(layout.tokenized),
        "cutoff_len": settings.max_length,
        "output_dir": str(layout.model),
        **request.loop(),
        "warmup_ratio": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": 1.0,
        "bf16": request.precision == torch.bfloat16,
        "fp16": request.precision == torch.float16,
        "disable_gradient_checkpointing": not settings.gradient_checkpointing,
        "save_strategy": "epoch",
        "seed": settings.seed,
    }
