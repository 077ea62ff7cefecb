"""What the configs of all trainers have in common: the recipe, layers, and what is computed in."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
import yaml

from handpick.data.render import Rendered, Renderer
from handpick.errors import SettingsError
from handpick.files import open_atomically
from handpick.layout import ExportLayout
from handpick.model import compute_dtype, load_config
from handpick.progress import log
from handpick.training.settings import EXPERTS, LLAMA_TARGETS, FinetuneSettings, micro_batch_of


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What a trainer is to train on, and how.

    Args:
        layout: the folder to write to, a whole path.
        sequences: the examples in order, as ``renderer`` made tokens of them.
        renderer: with the chat template.
        settings: the recipe.
        model: the base model's folder or Hub name.
    """

    layout: ExportLayout
    sequences: Sequence[Rendered]
    renderer: Renderer
    settings: FinetuneSettings
    model: str

    @property
    def micro_batch(self) -> int:
        """Examples a forward pass."""
        return micro_batch_of(self.settings.batch, self.settings.micro_batch)

    @property
    def precision(self) -> torch.dtype:
        """What ``handpick train`` would compute in, on this machine."""
        return compute_dtype(self.settings.dtype)

    @property
    def loaded_in(self) -> str:
        """What the model's weights are loaded in, as ``handpick train`` does: frozen ones in what is computed in,
        trained ones in float32."""
        return str(torch.float32 if self.settings.adapter == "none" else self.precision).removeprefix("torch.")

    def loop(self) -> dict[str, Any]:
        """Return the recipe's batch, epochs and learning rate, by the names that transformers' Trainer has for them.

        The share of rising steps is left to the caller: its name depends on the version of transformers.
        """
        settings = self.settings
        return {
            "per_device_train_batch_size": self.micro_batch,
            "gradient_accumulation_steps": settings.batch // self.micro_batch,
            "num_train_epochs": float(settings.epochs),
            "optim": "adamw_torch",
            "lr_scheduler_type": schedule_of(settings),
            "learning_rate": settings.learning_rate,
        }

    def rising(self) -> float:
        """Return the steps in which the learning rate rises, a share of all, as transformers 5 takes it."""
        one_step = len(self.sequences) <= self.settings.batch and self.settings.epochs == 1
        return 0.0 if one_step else self.settings.warmup_ratio  # the only step would have a learning rate of zero


def schedule_of(settings: FinetuneSettings) -> str:
    """Return transformers' name of the schedule."""
    return "constant_with_warmup" if settings.schedule == "constant" else settings.schedule


def adapter_scale(settings: FinetuneSettings) -> dict[str, Any]:
    """Return the adapter's alpha and dropout, which every tool calls alike; a whole alpha is an int."""
    alpha = float(settings.lora.alpha)
    return {"lora_alpha": int(alpha) if alpha.is_integer() else alpha, "lora_dropout": settings.lora.dropout}


def load_in_bits(settings: FinetuneSettings) -> dict[str, Any]:
    """Return what axolotl and TRL call weights in few bits."""
    return {"none": {}, "4bit": {"load_in_4bit": True}, "8bit": {"load_in_8bit": True}}[settings.quantization]


def target_layers(settings: FinetuneSettings, model: str, tool: str) -> list[str]:
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


def say(sentence: str) -> list[str]:
    """Say something to the person, and return it for the config to say it too."""
    log(sentence)
    return [sentence]


def explain_precision(request: ExportRequest, tool: str) -> list[str]:
    """Say what ``auto`` became, since a config names one type for whatever GPU reads it; return it for the config."""
    if request.settings.dtype != "auto":
        return []
    if request.precision == torch.bfloat16:
        said = (
            f"{tool} is told bfloat16, which this machine has instructions for; a GPU without them (V100, T4) refuses "
            "it, and `handpick train` would compute in float32 there: --dtype float32"
        )
    else:
        said = (
            f"{tool} is told float32, as this machine has no instructions for bfloat16; for a GPU that has them, where "
            "`handpick train` would take it: --dtype bfloat16"
        )
    return say(said)


def write_config(path: Path, config: dict[str, Any], command: str, paragraphs: Sequence[str]) -> Path:
    """Write a config, with the command that reads it and paragraphs of comments above it."""
    lines = [line for each in paragraphs for line in wrap(each, 110, break_long_words=False, break_on_hyphens=False)]
    head = "".join(f"# {line}\n" for line in (f"{command} {path}", *lines))
    write_text(path, head + yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
    return path


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with open_atomically(path) as file:
        file.write(text.encode())


def write_tokens(request: ExportRequest) -> None:
    """Write the examples as tokens, a line each."""
    lines = (json.dumps(token_columns(sequence)) + "\n" for sequence in request.sequences)
    write_text(request.layout.tokens, "".join(lines))


def token_columns(sequence: Rendered) -> dict[str, list[int]]:
    """Return an example as trainers read tokens."""
    return {
        "input_ids": sequence.input_ids,
        "attention_mask": [1] * len(sequence.input_ids),
        "labels": sequence.labels,
    }
