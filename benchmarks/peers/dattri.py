"""dattri-llm (TRAIS-Lab/dattri-llm), through its Python API: LESSAttributor in its frozen form, at one checkpoint.

``per_sample``: the loss is the sum of every example's mean, so that a gradient is its own example's, whatever batch it
stands in; else it is the documented ``model(**batch).loss``, the mean over all tokens of a batch. ``batch`` examples a
step: its loader takes them in the order of the data set, a fixed number at a time, and stacks what is of one length.
``kept``: coordinates of each layer that its "mask" keeps, chosen at random once; else the gradient is whole.

Legend: N examples, Q queries, B examples of a batch, T positions, V vocabulary.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from dattri_llm import REGISTER_ALL, AttributionArguments, AttributionTask, HookManagerConfig, LESSAttributor
from dattri_llm.gradient.optimizer_state import optimizer_from_state_dict
from peers import less
from peers.common import Task, Work
from torch import Tensor, nn
from torch.utils.data import Dataset

QUERIES = 4
IGNORED = -100


def attribute(task: Task) -> Work:
    """All examples but the last ``QUERIES`` scored for those as they come; every row of both is counted."""
    attributor = _attributor(task)
    sequences = task.sequences()
    ordered = sorted(sequences[:-QUERIES], key=lambda s: len(s["input_ids"]))  # as little padding as can be

    def run(own: Sequence[dict[str, list[int]]]) -> None:
        _scores(task, attributor, own, sequences[-QUERIES:])

    return Work(lambda: run(ordered), lambda: run(ordered[: task.options["batch"]]), len(sequences))


def cosines(task: Task) -> Tensor:
    """The cosines (N, Q) of all examples but the last ``queries`` with those, in the order of the examples."""
    n_queries = task.options["queries"]
    sequences = task.sequences()
    return _scores(task, _attributor(task), sequences[:-n_queries], sequences[-n_queries:])


def _attributor(task: Task) -> LESSAttributor:
    model = less.load_model(task)
    state = torch.load(Path(task.adapter) / "optimizer.pt", weights_only=True)
    optimizer = optimizer_from_state_dict(
        model, state, [name for name, p in model.named_parameters() if p.requires_grad]
    )
    folder = Path(task.scratch) / "dattri"
    shutil.rmtree(folder, ignore_errors=True)
    batch = task.options["batch"]
    args = AttributionArguments(str(folder), per_device_train_batch_size=batch, per_device_eval_batch_size=batch)
    loss = _sum_of_means if task.options["per_sample"] else _documented_loss
    return LESSAttributor(args, task=AttributionTask(loss, model), optimizers=[optimizer])


def _scores(
    task: Task, attributor: LESSAttributor, own: Sequence[dict[str, list[int]]], queries: Sequence[dict[str, list[int]]]
) -> Tensor:
    """The scores (N, Q), a row an example: agnostic_matrix() would add up the rows of equal examples."""
    kept = task.options.get("kept")
    hooks = HookManagerConfig(
        linear_io=REGISTER_ALL,  # of the layers with a weight that is trained: LoRA's
        projection_kwargs={"__default__": {"style": "mask", "proj_dim": kept}} if kept else None,
    )
    batch = task.options["batch"]
    found = attributor.attribute(_Padded(own, batch), _Padded(queries, batch), hook_config=hooks)
    return found.scores


class _Padded(Dataset[dict[str, Tensor]]):
    """Sequences, each as long as the longest of the batch that it will stand in; padding comes last."""

    def __init__(self, sequences: Sequence[dict[str, list[int]]], batch: int) -> None:
        longest = [max(len(s["input_ids"]) for s in sequences[i : i + batch]) for i in range(0, len(sequences), batch)]
        self._rows = [_row(s, longest[i // batch]) for i, s in enumerate(sequences)]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._rows[index]


def _row(sequence: dict[str, list[int]], length: int) -> dict[str, Tensor]:
    n = len(sequence["input_ids"])
    padding = length - n
    return {
        "input_ids": torch.tensor(sequence["input_ids"] + [0] * padding),
        "attention_mask": torch.tensor([1] * n + [0] * padding),
        "labels": torch.tensor(sequence["labels"] + [IGNORED] * padding),
    }


def _documented_loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).loss


def _sum_of_means(model: Any, batch: dict[str, Tensor]) -> Tensor:
    # padding comes last, where a causal model never looks: without the mask, attention is the fastest there is
    logits_BTV = model(input_ids=batch["input_ids"]).logits[:, :-1]
    labels_BT = batch["labels"][:, 1:]
    nats_BT = nn.functional.cross_entropy(
        logits_BTV.float().flatten(0, 1), labels_BT.flatten(), reduction="none", ignore_index=IGNORED
    ).view_as(labels_BT)
    return (nats_BT.sum(1) / (labels_BT != IGNORED).sum(1)).sum()
