"""A selection for another trainer: axolotl 0.18, LLaMA-Factory 0.9.

Both read examples that are tokens already, and so train on the very template and loss mask that chose them; the
records as messages stand beside, for people and for other settings of those tools, whose masks are their own.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from handpick.data.examples import Conversation, Example
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError, SettingsError, StoreError
from handpick.files import open_atomically, place_folder
from handpick.finetuning.rows import no_progress_bars
from handpick.finetuning.sharegpt import sharegpt_record
from handpick.finetuning.turn_marks import marks_of
from handpick.layout import ExportLayout
from handpick.model import load_config
from handpick.progress import log
from handpick.training.settings import EXPERTS, LLAMA_TARGETS, FinetuneSettings, micro_batch_of

Tool = Literal["axolotl", "llama-factory"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

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


def write_export(
    to: Tool,
    out: Path,
    examples: Sequence[Example],
    sequences: Sequence[Rendered],
    renderer: Renderer,
    settings: FinetuneSettings,
    model: str,
) -> Path:
    """Write the examples and a config that trains on them.

    Args:
        to: the tool.
        out: the folder.
        examples: the records, in order.
        sequences: the same, rendered.
        renderer: that rendered them.
        settings: the recipe.
        model: the base model's folder or Hub name.

    Returns:
        The config file, which names everything else.

    Raises:
        SettingsError: the tool cannot do what the recipe asks for.
        StoreError: the folder cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        records = (_as_messages(e.messages) for e in examples)
        layout = ExportLayout(out.resolve())
        _write(layout.messages, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
        _write(layout.template, renderer.template)
        if to == "llama-factory":
            _write_sharegpt(layout, examples)
        return _WRITERS[to](layout, sequences, settings, model)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; make room or choose another place") from error


def _as_messages(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation in TRL's and axolotl's form, with what a template and a mask read besides the turns."""
    turns = [turn.to_json() | marks_of(turn) for turn in conversation]
    beside = {"tools": conversation.tools, "chat_template_kwargs": conversation.template_args}
    return {"messages": turns, **{name: json.loads(value) for name, value in beside.items() if value}}


def _write_sharegpt(layout: ExportLayout, examples: Sequence[Example]) -> None:
    """Write the records in LLaMA-Factory's own form; say which could not be, and why."""
    lines: list[str] = []
    left_out: Counter[str] = Counter()
    for example in examples:
        try:
            lines.append(json.dumps(sharegpt_record(example.messages), ensure_ascii=False) + "\n")
        except DataError as error:
            left_out[str(error)] += 1
    _write(layout.sharegpt, "".join(lines))
    if left_out:
        why = ", ".join(f"{n:,} {reason}" for reason, n in left_out.most_common())
        n = left_out.total()
        log(
            f"{n:,} record{'s' if n != 1 else ''} left out of {layout.sharegpt.name}: LLaMA-Factory's own form has no "
            f"words for them ({why}); {layout.tokenized.name} holds all"
        )


def _axolotl(layout: ExportLayout, sequences: Sequence[Rendered], settings: FinetuneSettings, model: str) -> Path:
    lines = (json.dumps(_columns_of(sequence)) + "\n" for sequence in sequences)
    _write(layout.tokens, "".join(lines))
    tokens, messages = layout.tokens.name, layout.messages.name
    return _write_config(
        layout.axolotl,
        _axolotl_config(layout, settings, model),
        f"# axolotl train {layout.axolotl}\n"
        f"# {tokens} holds tokens and labels as handpick rendered them: the same template and loss mask as the "
        "selection's\n"
        f"# gradients saw. To let axolotl render {messages} instead: path: {messages}, type: chat_template,\n"
        "# message_field_training: train, message_field_training_detail: train_detail. Its mask is its own.\n",
    )


def _axolotl_config(layout: ExportLayout, settings: FinetuneSettings, model: str) -> dict[str, Any]:
    micro = micro_batch_of(settings.batch, settings.micro_batch)
    bits = {"none": {}, "4bit": {"load_in_4bit": True}, "8bit": {"load_in_8bit": True}}[settings.quantization]
    adapter: dict[str, Any] = {}
    if settings.adapter == "lora":
        kind = "qlora" if settings.quantization == "4bit" else "lora"
        names = _target_layers(settings, model, "axolotl")
        layers = {"lora_target_modules": names} if names else {"lora_target_linear": True}
        adapter = {"adapter": kind, "lora_r": settings.lora.rank, **_lora(settings), **layers}
    return {
        "base_model": model,
        **bits,
        "datasets": [{"path": str(layout.tokens), "ds_type": "json", "type": None}],
        "chat_template_jinja": str(layout.template),  # kept with the model, for inference
        "val_set_size": 0.0,
        "output_dir": str(layout.model),
        "sequence_len": settings.max_length,
        "sample_packing": settings.packing,
        **adapter,
        "micro_batch_size": micro,
        "gradient_accumulation_steps": settings.batch // micro,
        "num_epochs": settings.epochs,
        "optimizer": "adamw_torch",
        "lr_scheduler": _schedule(settings),
        "learning_rate": settings.learning_rate,
        "warmup_ratio": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": 1.0,
        "bf16": {"auto": "auto", "bfloat16": True}.get(settings.dtype, False),
        "fp16": settings.dtype == "float16",
        "gradient_checkpointing": settings.gradient_checkpointing,
        "seed": settings.seed,
    }


def _llama_factory(layout: ExportLayout, sequences: Sequence[Rendered], settings: FinetuneSettings, model: str) -> Path:
    if settings.packing:
        raise SettingsError("LLaMA-Factory packs nothing but what it renders itself: leave --packing out")
    _save_tokenized(layout, sequences)
    described = {_DATASET: {"file_name": layout.sharegpt.name, **_SHAREGPT}}
    _write(layout.dataset_info, json.dumps(described, indent=2) + "\n")
    tokens, messages = layout.tokenized.name, layout.sharegpt.name
    return _write_config(
        layout.llama_factory,
        _llama_factory_config(layout, settings, model),
        f"# llamafactory-cli train {layout.llama_factory}\n"
        f"# {tokens}/ holds tokens and labels as handpick rendered them: the same template and loss mask as the "
        "selection's\n"
        f"# gradients saw. Without the line `tokenized_path`, LLaMA-Factory renders {messages}; "
        "its template and mask are its own.\n",
    )


def _save_tokenized(layout: ExportLayout, sequences: Sequence[Rendered]) -> None:
    """Save the data set of tokens, whole or not at all."""
    from datasets import Dataset, DatasetDict

    rows = [_columns_of(sequence) for sequence in sequences]
    part, whole = layout.tokenized_part, layout.tokenized
    shutil.rmtree(part, ignore_errors=True)
    with no_progress_bars():
        DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(part)
    shutil.rmtree(whole, ignore_errors=True)
    place_folder(part, whole)


def _llama_factory_config(layout: ExportLayout, settings: FinetuneSettings, model: str) -> dict[str, Any]:
    micro = micro_batch_of(settings.batch, settings.micro_batch)
    bits = {} if settings.quantization == "none" else {"quantization_bit": int(settings.quantization[0])}
    adapter: dict[str, Any] = {}
    if settings.adapter == "lora":
        names = ",".join(_target_layers(settings, model, "LLaMA-Factory")) or "all"
        adapter = {"lora_rank": settings.lora.rank, **_lora(settings), "lora_target": names}
    return {
        "model_name_or_path": model,
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
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": settings.batch // micro,
        "num_train_epochs": float(settings.epochs),
        "optim": "adamw_torch",
        "lr_scheduler_type": _schedule(settings),
        "learning_rate": settings.learning_rate,
        "warmup_ratio": settings.warmup_ratio,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": 1.0,
        "bf16": settings.dtype in ("auto", "bfloat16"),
        "fp16": settings.dtype == "float16",
        "disable_gradient_checkpointing": not settings.gradient_checkpointing,
        "save_strategy": "epoch",
        "seed": settings.seed,
    }


_WRITERS: dict[Tool, Callable[[ExportLayout, Sequence[Rendered], FinetuneSettings, str], Path]] = {
    "axolotl": _axolotl,
    "llama-factory": _llama_factory,
}


def _columns_of(sequence: Rendered) -> dict[str, list[int]]:
    return {
        "input_ids": sequence.input_ids,
        "attention_mask": [1] * len(sequence.input_ids),
        "labels": sequence.labels,
    }


def _schedule(settings: FinetuneSettings) -> str:
    return "constant_with_warmup" if settings.schedule == "constant" else settings.schedule


def _lora(settings: FinetuneSettings) -> dict[str, Any]:
    """Return what both tools call by the same names."""
    alpha = float(settings.lora.alpha)
    return {"lora_alpha": int(alpha) if alpha.is_integer() else alpha, "lora_dropout": settings.lora.dropout}


def _target_layers(settings: FinetuneSettings, model: str, tool: str) -> list[str]:
    """Return the adapter's layers by name; none for all linear ones, which the tool finds itself.

    As ``new_adapter`` has them where all linear layers work; what a loaded model would tell of the others is not known
    here, and that is said.

    Raises:
        SettingsError: experts are asked for.
    """
    targets, config = settings.lora.targets, load_config(model)
    if targets == "auto" and config.model_type == "llama":
        return LLAMA_TARGETS
    if not isinstance(targets, list):
        log(
            f"{tool} finds the linear layers of {model} itself: where some do not work, or are experts, `handpick "
            "train` leaves them out and says so, and here they must be named with --lora-targets"
        )
        return []
    if EXPERTS in targets:
        raise SettingsError(f"{tool} has no such layers as {EXPERTS}: name them in its own config")
    if config.get_text_config() is not config:
        log(f"{tool} takes layers of these names wherever they stand in {model}, and not in its text part alone")
    return targets


def _write_config(path: Path, config: dict[str, Any], head: str) -> Path:
    _write(path, head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def _write(path: Path, text: str) -> None:
    with open_atomically(path) as file:
        file.write(text.encode())
