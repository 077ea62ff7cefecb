"""What a model makes of each of its layers when it reads a text, found by letting it read one.

An adapter stands where a text passes: a layer that no text reaches has no gradient, and one whose class does something
of its own with its weight is not the layer that the adapter changes. Names tell neither.

Legend: B examples, T positions, I inputs, O outputs of a layer, V vocabulary.
"""

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from handpick.errors import ModelError, first_line
from handpick.gradients.experts import is_list_of_experts
from handpick.gradients.forward import decoder_of, eval_mode
from handpick.gradients.per_example import rows_by_example
from handpick.model.tokens import plain_tokens

Role = Literal["plain", "expert", "router"]

_B, _T = 2, 11  # sequences that are read, and their tokens: a prime, which no width of a model is by chance
# reasons
UNUSED = "not used by a text"
NO_GRADIENT = "no gradient reaches them"
OF_HEAD = "part of the language-model head"
_MIXED = "examples of a batch cannot be told apart in their input"
_OF_BITSANDBYTES = ("Linear4bit", "Linear8bitLt")  # linear layers whose weight is stored in few bits


@dataclass(slots=True)
class LayerUse:
    """One layer that peft has an adapter for, and what speaks against one.

    Args:
        name: its whole path.
        module: the layer.
        role: what it is for, in a mixture of experts.
        untrainable: why an adapter on it would not train, or be another than it says; None where it would.
        inexact: why the gradient of one example could not be told from those of its batch; None where it can.
    """

    name: str
    module: nn.Module
    role: Role = "plain"
    untrainable: str | None = None
    inexact: str | None = None
    calls: int = 0
    reached: bool = False

    @property
    def leaf(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def is_linear(self) -> bool:
        return is_linear(self.module)

    @property
    def size(self) -> int:
        """How many weights it has, however few bits they are stored in."""
        module: Any = self.module
        if isinstance(module, nn.Linear):
            return module.in_features * module.out_features
        return int(module.weight.numel())


@dataclass(frozen=True, slots=True)
class FusedExperts:
    """The weights of all experts of a block in single parameters.

    ``parameters`` are the paths of those of shape (experts, ·, ·), which peft tells apart by expert.
    """

    name: str
    module: nn.Module
    parameters: list[str]

    @property
    def size(self) -> int:
        return sum(weight.numel() for weight in self.module.parameters(recurse=False) if weight.ndim > 1)

    @property
    def n_experts(self) -> int | None:
        stacked = [weight for weight in self.module.parameters(recurse=False) if weight.ndim == 3]
        named = [value for name, value in vars(self.module).items() if "num_experts" in name]
        return len(stacked[0]) if stacked else next((n for n in named if isinstance(n, int)), None)


@dataclass(frozen=True, slots=True)
class Use:
    """What a text makes of a model: of layers, of fused experts; and how many weights it passes."""

    layers: list[LayerUse]
    experts: list[FusedExperts]
    n_weights: int

    @property
    def listed_experts(self) -> list[LayerUse]:
        """Linear layers of experts that are modules of their own."""
        return [layer for layer in self.layers if layer.role == "expert" and layer.is_linear]

    @property
    def share_of_experts(self) -> float:
        """What part of all weights is experts'."""
        return (
            sum(each.size for each in self.experts) + sum(each.size for each in self.listed_experts)
        ) / self.n_weights


def is_linear(module: nn.Module) -> bool:
    """Return whether peft's "all-linear" would take a layer, were it not the head."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def look_at_layers(base: nn.Module, *, per_example: bool) -> Use:
    """Let a frozen model read two short sequences, in evaluation and in training, and say what became of each layer.

    In evaluation the loss is that of the first sequence, so that a layer whose rows are not one example's shows itself:
    a gradient comes to where the other's should be. In training it is the model's own, as the trainer has it. Random
    numbers and the model's mode are as before.

    Args:
        base: the model.
        per_example: whether it is the warmup's trainer that will train it.

    Raises:
        ModelError: the model cannot read a text.
    """
    layers = _adaptable_layers(base)
    decoder = decoder_of(base)
    below_head = set(base.modules() if decoder is None else decoder.modules())
    experts = _fused_experts(base)
    _assign_roles(base, layers, experts)
    passed: set[nn.Module] = set()
    mask = torch.bool if per_example else torch.int64
    for loss in (_loss_of_first, partial(_own_loss, mask=mask)):
        for layer in layers:
            layer.calls, layer.reached = 0, False
        _read(base, layers, passed, loss)
        for layer in layers:
            layer.untrainable = layer.untrainable or _why_unused(layer)
    head = base.get_output_embeddings()  # type: ignore[operator]
    takes = _PeftOnModel(base)
    for layer in layers:
        if layer.untrainable is None and layer.is_linear:
            layer.untrainable = takes.why_not(layer.leaf)
        if layer.role == "expert":
            layer.inexact = None  # the engine takes examples alone
        elif layer.module is head or layer.module not in below_head:
            layer.inexact = OF_HEAD
        elif not layer.is_linear:
            layer.inexact = "no linear layer"
    n_weights = sum(_n_weights(module) for module in passed if module is not head)
    return Use(layers, [each for each in experts if each.module in passed], n_weights)


def takes_all_linear(base: nn.Module) -> bool:
    """Return whether peft's "all-linear" is, on this kind of model, all linear layers and nothing else."""
    return _PeftOnModel(base).all_linear()


def _adaptable_layers(base: nn.Module) -> list[LayerUse]:
    kinds = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        LayerUse(name, module)
        for name, module in base.named_modules()
        if is_linear(module) or isinstance(module, kinds)
    ]


def _fused_experts(base: nn.Module) -> list[FusedExperts]:
    found = []
    for path, module in base.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if "expert" in type(module).__name__.lower() and any(weight.ndim > 1 for weight in own.values()):
            if is_linear(module):  # one expert's layer, or what weighs a shared expert
                continue
            found.append(FusedExperts(path, module, [f"{path}.{name}" for name, w in own.items() if w.ndim == 3]))
    return found


def _assign_roles(base: nn.Module, layers: Sequence[LayerUse], experts: Sequence[FusedExperts]) -> None:
    """Find experts that are layers, and what shares tokens out among experts: a layer with an output for each."""
    places: dict[str, int | None] = {each.name: each.n_experts for each in experts}
    for path, module in base.named_modules():
        if is_list_of_experts(path, module):
            places[path] = len(module)
    for layer in layers:
        for path, n_experts in places.items():
            if layer.name.startswith(f"{path}."):
                layer.role = "expert"
            elif layer.name.startswith(f"{_block_of(path)}.") and _n_outputs(layer.module) == n_experts:
                layer.role = "router"


def _block_of(path: str) -> str:
    """Return the module that experts and their router share: what holds the outermost place called experts."""
    parts = path.split(".")
    outermost = next((i for i, part in enumerate(parts) if "expert" in part), len(parts) - 1)
    return ".".join(parts[:outermost])


def _read(base: nn.Module, layers: Sequence[LayerUse], passed: set[nn.Module], loss: Callable[..., Tensor]) -> None:
    """Let the model read, and note of each layer how it was called and whether a gradient came back."""
    place = next(base.parameters()).device
    with (
        torch.random.fork_rng(devices=[place] if place.type == "cuda" else []),
        eval_mode(base),
        torch.enable_grad(),
        warnings.catch_warnings(),
        ExitStack() as hooks,
    ):
        warnings.simplefilter("ignore")
        ids_BT = plain_tokens(base, _B * _T).reshape(_B, _T).to(place)
        check_rows = loss is _loss_of_first
        for layer in layers:
            hooks.callback(layer.module.register_forward_hook(_note(layer, check_rows), with_kwargs=True).remove)
        for module in base.modules():
            hooks.callback(module.register_forward_pre_hook(lambda module, _inputs: passed.add(module)).remove)
        try:
            total = loss(base, ids_BT)
            if total.requires_grad:
                total.backward()
        except Exception as error:  # whatever a model's own code raises
            raise ModelError(f"{type(base).__name__} cannot learn from text alone: {first_line(error)}") from error


def _loss_of_first(model: nn.Module, ids_BT: Tensor) -> Tensor:
    """Compute what the first sequence's tokens cost, in evaluation."""
    logits_BTV = model.eval()(input_ids=ids_BT, use_cache=False).logits
    return nn.functional.cross_entropy(logits_BTV[0, :-1].float(), ids_BT[0, 1:])


def _own_loss(model: nn.Module, ids_BT: Tensor, mask: torch.dtype) -> Tensor:
    """Compute the model's own loss, in training."""
    mask_BT = torch.ones_like(ids_BT, dtype=mask)
    loss: Tensor = model.train()(input_ids=ids_BT, attention_mask=mask_BT, labels=ids_BT, use_cache=False).loss
    return loss


def _note(layer: LayerUse, check_rows: bool) -> Callable[..., Any]:
    """Return a hook that keeps what a call of a layer shows, and lets its output have a gradient.

    With ``check_rows`` the loss depends on the first sequence alone.
    """

    def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        layer.calls += 1
        if not isinstance(output, Tensor):
            layer.untrainable = f"a {type(module).__name__} is no plain linear layer"
            return None
        n_of_first = 1  # rows of the output that are the first example's
        if layer.is_linear:
            x = inputs[0] if len(inputs) == 1 and not named else None
            if not isinstance(x, Tensor) or not _is_faithful(module, x, output):
                layer.untrainable = f"a {type(module).__name__} is no plain linear layer"
                return None
            if rows_by_example(x, _B, _T) is None:
                layer.inexact = _MIXED
            n_of_first = len(x) // _B
        if not torch.is_grad_enabled():
            return None
        traced = output if output.requires_grad else output.detach().requires_grad_() * 1

        def receive(dy: Tensor) -> None:
            layer.reached = True
            if check_rows and not dy.is_meta and layer.inexact is None and bool((dy[n_of_first:] != 0).any()):
                layer.inexact = _MIXED

        traced.register_hook(receive)
        return traced

    return hook


def _is_faithful(module: Any, x: Tensor, output: Tensor) -> bool:
    """Return whether a layer's output is that of the plain linear layer which peft adds its adapter to."""
    if output.shape != (*x.shape[:-1], _n_outputs(module)):
        return False
    is_plain = type(module) is nn.Linear or not isinstance(module, nn.Linear)
    if is_plain or type(module).__name__ in _OF_BITSANDBYTES or not module.weight.is_floating_point():
        return True
    with torch.no_grad():
        plain = nn.functional.linear(x, module.weight, module.bias)
    return torch.allclose(plain, output, rtol=1e-2, atol=1e-2 * float(plain.abs().max()))


def _n_outputs(module: Any) -> int | None:
    """Return O of a linear layer; a Conv1D has it as ``nf``."""
    return getattr(module, "out_features", None) or getattr(module, "nf", None)


def _why_unused(layer: LayerUse) -> str | None:
    if layer.role == "expert" and not layer.reached:
        return None  # so short a text is not sent to all of them
    if layer.calls == 0:
        return UNUSED
    return None if layer.reached else NO_GRADIENT


def _n_weights(module: nn.Module) -> int:
    """Count the weights that are a module's own."""
    if is_linear(module):
        return LayerUse("", module).size
    return sum(weight.numel() for weight in module.parameters(recurse=False))


class _PeftOnModel:
    """What peft does with names on this kind of model, asked of peft itself on a stand-in of one layer."""

    def __init__(self, base: nn.Module) -> None:
        self.config = base.config
        self.known: dict[str, bool] = {}

    def why_not(self, leaf: str) -> str | None:
        """Return why a linear layer of this name would get no adapter of its own; None where it would."""
        if leaf not in self.known:
            self.known[leaf] = self._adapts([leaf], leaf)
        if self.known[leaf]:
            return None
        does = "refuses such names" if self.all_linear() else "takes such names for experts'"
        return f"peft {does} in a model of this type"

    def all_linear(self) -> bool:
        return self._adapts("all-linear", "linear")

    def _adapts(self, targets: list[str] | str, leaf: str) -> bool:
        from peft import LoraConfig, inject_adapter_in_model

        config = LoraConfig(r=1, target_modules=targets)
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            stand_in = nn.Module()
            stand_in.config = self.config
            stand_in.block = nn.Module()
            stand_in.block.add_module(leaf, nn.Linear(1, 1))
            try:
                inject_adapter_in_model(config, stand_in)
            except ValueError:
                return False
        return not config.target_parameters and hasattr(getattr(stand_in.block, leaf), "lora_A")
