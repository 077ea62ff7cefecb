"""What the training takes that a selection is for: on the whole pool, on what is chosen, and beside the selection.

The time is from a probe on the model that selects (its micro-batches, as ``handpick train`` makes them). Of a larger
model that is to be trained it is that times the ratio of their parameters, as if both did an operation in the same
time: nothing of the larger model is loaded. Two published yardsticks stand beside it:

- time to select ÷ time to train on everything, the selection-to-tuning ratio: above 1 the selection has lost (Data
  Whisperer, Wang et al. ACL 2025, arXiv 2505.12212);
- perplexity pays where the model to be trained is 5 × the one that selects, gradients where it is 10 × (Yin and Rush,
  ICLR 2025, arXiv 2410.16208).
"""

import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from handpick.costs.cost import Amount
from handpick.costs.tokens import sample_pool
from handpick.costs.training import check_plannable, micro_batches, probe_training, size_of
from handpick.data.render import Rendered
from handpick.errors import DataError, HandpickError, SettingsError, first_line
from handpick.layout import DataLayout
from handpick.model import compute_dtype, free_memory, load_base, load_renderer, padding_id, parameter_count
from handpick.objectives.next_token import NextToken
from handpick.pipeline.prepare import open_data
from handpick.settings import Settings
from handpick.training.settings import SMALL_FINETUNE, SMALL_MODEL, FinetuneSettings
from handpick.training.warmup import new_adapter

PERPLEXITY_PAYS, GRADIENTS_PAY = 5, 10  # × the model that selects (Yin and Rush)
_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}


@dataclass(frozen=True, slots=True)
class TrainingBill:
    """Fine-tuning on every usable example of a pool: ``name`` is trained, ``selecting`` is the model that selects.

    ``forward`` are the operations of one forward pass of the pool through the model that selects.
    """

    name: str
    parameters: int
    selecting: int
    examples: int
    recipe: FinetuneSettings
    seconds: Amount
    flops: float
    forward: float

    @property
    def times_larger(self) -> float:
        """The parameters of the model that is trained, by those of the one that selects."""
        return self.parameters / self.selecting

    def ratio(self, seconds: Amount) -> float:
        """Return time to select ÷ time to train on everything."""
        return seconds.value / self.seconds.value

    def on_faster(self, times: float) -> "TrainingBill":
        """Return the bill on a device that is so many times faster."""
        return replace(self, seconds=self.seconds.times(1 / times))

    def passes(self, flops: float | None) -> float:
        """Return operations as forward passes of the pool through the model that selects."""
        return (flops or 0.0) / self.forward

    @property
    def rule(self) -> str:
        """The rule of Yin and Rush with these numbers, in one sentence."""
        times = self.times_larger
        if times >= GRADIENTS_PAY:
            verdict = "both pay here"
        elif times >= PERPLEXITY_PAYS:
            verdict = "perplexity pays here, gradients do not"
        else:
            verdict = "neither pays here"
        return (
            f"the model to be trained has {times:.3g} × the parameters of the one that selects "
            f"({_count(self.parameters)} ÷ {_count(self.selecting)}); perplexity pays from {PERPLEXITY_PAYS} ×, "
            f"gradients from {GRADIENTS_PAY} × (Yin and Rush, ICLR 2025): by that rule {verdict}"
        )

    @property
    def how(self) -> str:
        """How the training was priced, in one sentence."""
        recipe = self.recipe
        scaled = "" if self.parameters == self.selecting else (
            f", timed on the model that selects and scaled by {self.times_larger:.3g} ×, the ratio of parameters"
        )  # fmt: skip
        return (
            f"training: {recipe.epochs} epochs of {self.name} with LoRA of rank {recipe.lora.rank}, {recipe.batch} "
            f"examples a step{scaled}"
        )

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "model": self.name,
            "parameters": self.parameters,
            "selecting_parameters": self.selecting,
            "examples": self.examples,
            "epochs": self.recipe.epochs,
            "seconds": {"value": self.seconds.value, "low": self.seconds.low, "high": self.seconds.high},
            "flops": self.flops,
            "forward_flops": self.forward,
        }


def _count(parameters: int) -> str:
    for unit in ("T", "B", "M", "K"):
        if parameters >= _UNITS[unit]:
            return f"{parameters / _UNITS[unit]:.3g}{unit}"
    return str(parameters)


def parse_parameters(train_model: str) -> int:
    """Return the parameters of a model that is named, or given as a number such as 7B; no weights are loaded.

    Raises:
        SettingsError: it is neither.
        ModelError: the named model cannot be looked at.
    """
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMBT]?)", train_model.strip(), re.IGNORECASE)
    if number is None or Path(train_model).exists():
        return parameter_count(train_model)
    parameters = round(float(number[1]) * _UNITS[number[2].upper()])
    if parameters < 1:
        raise SettingsError(f"--train-model {train_model} has no parameters: name a folder, or a number such as 7B")
    return parameters


def bill_training(settings: Settings, train_model: str | None, seconds: float) -> TrainingBill | str:
    """Return what training on the whole pool takes, or why it cannot be said.

    Args:
        settings: of the selection; their model is the one that selects, and is probed.
        train_model: the model to be trained, a name or a number of parameters; None: the one that selects.
        seconds: to compute for, about; loading the model comes on top.

    Raises:
        SettingsError, ModelError: as ``parse_parameters``.
    """
    if settings.model is None:
        return "the training is not priced: that takes a model to time it on, named with --model"
    selecting = parameter_count(settings.model)
    parameters = selecting if train_model is None else parse_parameters(train_model)
    recipe = SMALL_FINETUNE if parameters < SMALL_MODEL else FinetuneSettings()
    recipe = recipe.model_copy(
        update={"quantization": settings.quantization, "gradient_checkpointing": settings.gradient_checkpointing}
    )
    try:
        return _probe(settings, settings.model, train_model or settings.model, parameters, selecting, recipe, seconds)
    except (torch.OutOfMemoryError, MemoryError):
        return "the training is not priced: it does not fit in this machine's memory (--gradient-checkpointing)"
    except HandpickError as error:
        return f"the training is not priced: {first_line(error)}"
    finally:
        free_memory()


def _probe(
    settings: Settings,
    model: str,
    name: str,
    parameters: int,
    selecting: int,
    recipe: FinetuneSettings,
    seconds: float,
) -> TrainingBill:
    check_plannable(recipe)
    with tempfile.TemporaryDirectory() as folder:
        pool = open_data("pool", settings.pool, settings, DataLayout(Path(folder))).pool
        renderer = load_renderer(model, settings.template_args)
        prepares = NextToken(renderer, settings.max_length)
        looked = sample_pool(pool, prepares, shard_rows=settings.shard_rows, seed=settings.seed)
    if not looked.items:
        raise DataError("no record leaves a response to learn from")
    dtype = compute_dtype(recipe.dtype)
    base = load_base(model, dtype, recipe.quantization)
    trained = new_adapter(base, recipe.lora, 0, in_float32=True, per_example=False)
    sequences = [cut for each in looked.items if (cut := _cut(each, recipe.max_length)).n_labels]
    batches = micro_batches(sequences, recipe.batch, recipe.micro_batch, recipe.seed)
    found = probe_training(
        trained,
        batches,
        pad_id=padding_id(renderer.tokenizer),
        dtype=dtype,
        recompute=recipe.gradient_checkpointing,
        seconds=seconds,
    )
    larger, scale = parameters / selecting, looked.scale * recipe.epochs
    steps = -(-looked.usable // recipe.batch) * recipe.epochs
    lengths = [len(each.input_ids) for each in sequences]
    alone = replace(found.shape, adapter=0)
    return TrainingBill(
        name,
        parameters,
        selecting,
        looked.usable,
        recipe,
        found.seconds([size_of(batch) for batch in batches], steps, scale).times(larger),
        found.shape.gradient(lengths, sum(lengths)) * scale * larger,
        alone.read([len(each.input_ids) for each in looked.items], sum(each.n_labels for each in looked.items))
        * looked.scale,
    )


def _cut(sequence: Rendered, max_length: int) -> Rendered:
    """Return what a recipe keeps of a sequence."""
    return replace(sequence, input_ids=sequence.input_ids[:max_length], labels=sequence.labels[:max_length])
