"""handpick's lines, and the floors that they stand on.

Legend: N examples, Q queries, D coordinates, B examples of a batch, T positions, M labelled positions, H hidden size,
V vocabulary, O outputs and I inputs of a layer, K features.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from peers.common import Task, Work
from torch import Tensor, nn

import handpick.gradients.engine
from handpick.data.batching import Batch, collate, token_batches
from handpick.data.render import IGNORED, Rendered
from handpick.gradients.adam import AdamPreconditioner
from handpick.gradients.engine import GradientEngine
from handpick.gradients.layers import Layer, trainable_layers
from handpick.gradients.projection import projection
from handpick.model import load_base
from handpick.objectives.next_token import mean_loss
from handpick.scorers.gradient_encoder import encode_rows
from handpick.training.checkpoint import load_moments
from handpick.training.warmup import load_trainable

PROJECTED = 8192


def features(task: Task) -> Work:
    """One feature row an example; options ``adam`` and ``projected`` as their names say.

    What is not projected is made and dropped.
    """
    model = _model(task)
    engine = GradientEngine(model)
    projected = task.options["projected"]
    project = projection("sparse" if projected else "none", engine.n_coordinates, PROJECTED, seed=0, nonzeros=1)
    moments = load_moments(Path(task.adapter), model) if task.options["adam"] else None
    precondition = AdamPreconditioner(moments, "less") if moments else None

    def rows(sequences: Sequence[Rendered]) -> None:
        encode_rows(engine, [mean_loss(s) for s in sequences], 0, project, task.batch_tokens, precondition)

    def each_batch(batch: Batch) -> None:
        engine.features(batch, mean_weights(batch), project, precondition)

    return _work(task, rows) if projected else _over_batches(task, each_batch)


def cosines(task: Task) -> Tensor:
    """The cosines (N, Q) of Adam's updates of all examples but the last ``queries`` with the gradients of those.

    Whole rows; ``eps_mode`` says where Adam's epsilon stands.
    """
    model = _model(task)
    engine = GradientEngine(model)
    whole = projection("none", engine.n_coordinates, PROJECTED, seed=0, nonzeros=1)
    adam = AdamPreconditioner(load_moments(Path(task.adapter), model), task.options["eps_mode"])
    losses, n_queries = [mean_loss(s) for s in _rendered(task)], task.options["queries"]
    pool_ND, queries_QD = (
        torch.nn.functional.normalize(torch.from_numpy(encode_rows(engine, some, 0, whole, task.batch_tokens, each)))
        for some, each in ((losses[:-n_queries], adam), (losses[-n_queries:], None))
    )
    return pool_ND @ queries_QD.T


def own_floor(task: Task) -> Work:
    """Our forward and backward pass alone: the engine, made to capture nothing, so that no weight has a gradient."""
    engine = GradientEngine(_model(task))

    def each_batch(batch: Batch) -> None:
        with patch.object(handpick.gradients.engine, "capture", _captures_nothing):
            engine.features(batch, mean_weights(batch), _ProjectsNothing())

    return _over_batches(task, each_batch)


def floor(task: Task) -> Work:
    """The same, as plain PyTorch: our batches, the head at labelled positions, no weight's gradient."""
    model = _model(task)
    layers = trainable_layers(model)

    def each_batch(batch: Batch) -> None:
        target_BT = batch.targets_BT.to(task.device)
        labelled_BT = target_BT != IGNORED
        weight_M = mean_weights(batch).float().to(task.device)[labelled_BT.nonzero()[:, 0]]
        with _without_weight_gradients(layers), _head_only_at(model, labelled_BT):
            # padding comes last, where a causal model never looks
            logits_MV = model(input_ids=batch.input_ids_BT.to(task.device), use_cache=False).logits[0]
            nats_M = nn.functional.cross_entropy(logits_MV.float(), target_BT[labelled_BT], reduction="none")
            (weight_M * nats_M).sum().backward()

    return _over_batches(task, each_batch)


def plain(task: Task) -> Work:
    """What training does in the same batches: logits everywhere, and the gradient of the adapter's weights."""
    model = _model(task)

    def each_batch(batch: Batch) -> None:
        inputs = {"input_ids": batch.input_ids_BT, "labels": batch.labels_BT}
        model(**{name: tensor.to(task.device) for name, tensor in inputs.items()}).loss.backward()
        model.zero_grad()

    return _over_batches(task, each_batch)


def matrix_peak(task: Task) -> Work:
    """The fastest that the device multiplies: 20 products of square matrices; ``examples`` counts operations."""
    n = 8192 if task.device == "cuda" else 2048
    left, right = (torch.randn(n, n, device=task.device, dtype=task.torch_dtype) for _ in range(2))

    def run() -> None:
        for _ in range(20):
            left @ right

    return Work(run, run, 20 * 2 * n**3)


def mean_weights(batch: Batch) -> Tensor:
    """What makes a sequence's loss the mean over its labelled tokens, (B,)."""
    return 1 / (batch.targets_BT != IGNORED).sum(1).double()


def _model(task: Task) -> Any:
    return load_trainable(load_base(task.base, task.torch_dtype), [Path(task.adapter)]).eval()


def _work(task: Task, run: Callable[[Sequence[Rendered]], None]) -> Work:
    """``run`` on all sequences of the task, and on a few to warm up."""
    sequences = _rendered(task)
    few = sequences if task.device == "cuda" else sequences[:4]
    return Work(lambda: run(sequences), lambda: run(few), len(sequences))


def _rendered(task: Task) -> list[Rendered]:
    return [Rendered(s["input_ids"], s["labels"], len(s["input_ids"])) for s in task.sequences()]


def _over_batches(task: Task, each_batch: Callable[[Batch], None]) -> Work:
    """``each_batch`` on the batches that the engine would get."""

    def run(sequences: Sequence[Rendered]) -> None:
        for members in token_batches([len(s.input_ids) for s in sequences], task.batch_tokens):
            each_batch(collate([sequences[i] for i in members], pad_id=0))

    return _work(task, run)


@contextmanager
def _head_only_at(model: Any, labelled_BT: Tensor) -> Iterator[None]:
    """While open, the language-model head sees the labelled positions alone, (1, M, H)."""
    handle = model.get_output_embeddings().register_forward_pre_hook(
        lambda _module, args: (args[0][labelled_BT][None], *args[1:])
    )
    try:
        yield
    finally:
        handle.remove()


class _NoWeightGradient(torch.autograd.Function):
    """A linear layer with nothing in its backward pass but the gradient of its input."""

    @staticmethod
    def forward(ctx: Any, x_BTI: Tensor, anchor: Tensor, weight_OI: Tensor) -> Tensor:
        ctx.save_for_backward(weight_OI)
        return nn.functional.linear(x_BTI, weight_OI)

    @staticmethod
    def backward(ctx: Any, dy_BTO: Tensor) -> tuple[Tensor | None, None, None]:
        (weight_OI,) = ctx.saved_tensors
        return (dy_BTO @ weight_OI if ctx.needs_input_grad[0] else None), None, None


@contextmanager
def _without_weight_gradients(layers: Sequence[Layer]) -> Iterator[None]:
    """While open, a backward pass reaches every trainable layer, as far down as ours goes, and leaves no gradient."""
    anchor = torch.zeros((), requires_grad=True)  # makes a layer's output need a gradient though its input does not
    for layer in layers:
        weight_OI = layer.module.weight.detach()
        layer.module.forward = lambda x_BTI, weight_OI=weight_OI: _NoWeightGradient.apply(x_BTI, anchor, weight_OI)
    try:
        yield
    finally:
        for layer in layers:
            del layer.module.forward  # the class's own is seen again


@contextmanager
def _captures_nothing(
    model: Any, layers: Sequence[Layer], shape_BT: tuple[int, int], receive: Any, experts: Any = None
) -> Iterator[Callable[[], None]]:
    """In ``capture``'s place: the engine is told of one gradient without coordinates."""
    receive(layers[0], torch.empty(shape_BT[0], 0, 0))
    with _without_weight_gradients(layers):
        yield lambda: None


class _ProjectsNothing:
    """In a projection's place."""

    dim = 0

    def begin(self, n_examples: int, like: Tensor) -> Tensor:
        return like.new_empty(n_examples, 0)

    def add(self, sums: Tensor, rows_BP: Tensor, offset: int) -> None:
        pass

    def finish(self, sums: Tensor) -> Tensor:
        return sums
