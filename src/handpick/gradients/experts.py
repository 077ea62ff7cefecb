"""Per-example gradients of LoRA on fused experts: all experts of a block in one weight of three dimensions.

peft adds the low-rank update to that weight before the module runs, so nothing in its forward pass is one example's.
While a capture is open the module runs here instead: the rows that the router sends to an expert stand together, those
of an example behind one another, and expert e computes x W_e + s · (x F_e) G_e. Of example b, dF_e and dG_e are then
sums over a run of rows; of an expert that none of its tokens met they are zero.

An experts module is taken so only where this forward pass was seen to equal its own, on random tokens and a random
adapter. Of any other, and of experts that are modules of their own, examples are taken alone: there autograd's gradient
is the example's.

Legend: B examples, N tokens of all of them, K experts of a token, S rows (a token and one of its experts each),
E experts, G = E·B runs of rows, I inputs and O outputs of an expert, R rank, U and V columns of two factors.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from handpick.errors import ModelError
from handpick.gradients.forward import eval_mode, replace_forward
from handpick.gradients.layers import Layer

Take = Callable[[Layer, Tensor], None]

# Largest relative difference of the two forward passes: rounding in two orders, where another module's differs by ones.
_SAME = {torch.float64: 1e-9, torch.float32: 1e-4}
_SAME_IN_16_BITS = 0.05


class _Runs(NamedTuple):
    """Where runs of rows end, in rows sorted by expert and by example (int32): each expert's, each example's in it."""

    experts_E: Tensor
    examples_G: Tensor


@dataclass(frozen=True, slots=True)
class _LowRank:
    """LoRA on one weight of an experts module; a layer is None where it is frozen."""

    module_A: nn.Linear
    module_B: nn.Linear
    layer_A: Layer | None
    layer_B: Layer | None
    scaling: float
    a_is_first: bool
    """Whether x meets A before B; where peft took the weight for its transpose it meets B first."""

    @property
    def is_trained(self) -> bool:
        """Whether a gradient is taken of one of its layers."""
        return self.layer_A is not None or self.layer_B is not None

    def factors(self, n_experts: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return F (E, I, R) and G (E, R, O)."""
        weight_A, weight_B = self.module_A.weight, self.module_B.weight
        a_ERV = weight_A.reshape(n_experts, -1, weight_A.shape[1]).to(like.dtype)
        b_EUR = weight_B.reshape(len(weight_B), -1, n_experts).permute(2, 0, 1).to(like.dtype).contiguous()
        return (a_ERV.transpose(1, 2), b_EUR.transpose(1, 2)) if self.a_is_first else (b_EUR, a_ERV)


@dataclass(frozen=True, slots=True)
class KnownExperts:
    """An experts module whose forward pass is known, and the adapter on it."""

    name: str
    wrapper: nn.Module
    """peft's outermost wrapper, which the model calls."""
    module: nn.Module
    adapters: dict[str, _LowRank]
    """By parameter."""
    is_dense: bool
    """Whether every expert gets every token, already weighed (Llama 4), and not those that the router gives it."""

    @property
    def layers(self) -> list[Layer]:
        """Return the layers whose gradients it hands on."""
        both = [layer for low in self.adapters.values() for layer in (low.layer_A, low.layer_B)]
        return [layer for layer in both if layer is not None]

    def forward_for(self, shape_BT: tuple[int, int], take: Take | None) -> Callable[..., Tensor]:
        """Return a forward pass that lets the backward pass hand on each layer's gradients (B, O, I).

        Args:
            shape_BT: of the batch whose tokens it will get.
            take: takes a layer and its per-example gradients; without it the layers' gradients are left to autograd.
        """
        parameters = inspect.signature(self.module.forward)
        anchor = torch.zeros((), requires_grad=True)

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            given = list(parameters.bind(*args, **kwargs).arguments.values())
            run = _Forward(self, shape_BT, take, anchor)
            return run.dense(*given) if self.is_dense else run.routed(*given)

        return forward


@dataclass(frozen=True, slots=True)
class AdaptedExperts:
    """Layers of an adapter that are not met by every token, or are no layers of the forward pass."""

    fused: Sequence[KnownExperts]
    """Experts modules that run here."""
    bare: Sequence[Layer]
    """Of adapters on parameters of any other module."""
    listed: Sequence[Layer]
    """Linear layers of experts that are modules of their own."""

    @property
    def alone(self) -> str | None:
        """Return the name of a layer that needs every example alone, if there is one: the first."""
        return min((layer.name for layer in (*self.bare, *self.listed)), default=None)


NO_EXPERTS = AdaptedExperts((), (), ())


def adapted_experts(model: nn.Module, layers: Sequence[Layer]) -> AdaptedExperts:
    """Return which of a model's trainable layers are an expert's, and how their gradients are come by."""
    by_module = {id(layer.module): layer for layer in layers}
    wrappers = {name: module for name, module in model.named_modules() if _is_wrapper(module)}
    inner = {id(module.base_layer) for module in wrappers.values()}
    seen_to_run: dict[type[nn.Module], bool] = {}
    fused: list[KnownExperts] = []
    bare: list[Layer] = []
    for name, outermost in wrappers.items():
        if id(outermost) in inner:
            continue
        chain: list[Any] = [outermost]
        while _is_wrapper(chain[-1].base_layer):
            chain.append(chain[-1].base_layer)
        experts = _fused(name, chain, by_module)
        if experts is not None and type(experts.module) not in seen_to_run:
            seen_to_run[type(experts.module)] = _runs_the_same(experts)
        if experts is not None and seen_to_run[type(experts.module)]:
            fused.append(experts)
        else:
            pairs = [low for wrapper in chain for low in (*wrapper.lora_A.values(), *wrapper.lora_B.values())]
            bare += [by_module[id(module)] for module in pairs if id(module) in by_module]
    lists = [module for name, module in model.named_modules() if is_list_of_experts(name, module)]
    inside = {id(module) for experts_list in lists for module in experts_list.modules()}
    return AdaptedExperts(fused, bare, [layer for layer in layers if id(layer.module) in inside])


def is_list_of_experts(name: str, module: nn.Module) -> bool:
    """Return whether a module of this name is a list of experts that are modules of their own."""
    return isinstance(module, nn.ModuleList | nn.ModuleDict) and "expert" in name.rpartition(".")[2]


def _is_wrapper(module: Any) -> bool:
    """Return whether a module is peft's, around another one parameter of which has an adapter."""
    return type(module).__name__ == "ParamWrapper"


def _fused(name: str, chain: Sequence[Any], by_module: dict[int, Layer]) -> KnownExperts | None:
    """Return what a module's wrappers adapt, or None where it is not laid out as experts are."""
    module = chain[-1].base_layer
    arguments = list(inspect.signature(module.forward).parameters.values())
    up, down = getattr(module, _up(module), None), getattr(module, "down_proj", None)
    if up is None or down is None or len(arguments) not in (1, 3):
        return None
    if up.ndim != 3 or down.ndim != 3 or len(up) != len(down):
        return None
    is_dense = len(arguments) == 1
    adapters: dict[str, _LowRank] = {}
    for wrapper in chain:
        is_on = not (wrapper.merged or wrapper.disable_adapters) and len(wrapper.active_adapters) == 1
        parameter, adapter = wrapper.parameter_name, wrapper.active_adapters[0]
        if not is_on or parameter not in (_up(module), "down_proj") or parameter in adapters:
            return None
        if adapter not in wrapper.lora_A:
            continue
        module_A, module_B = wrapper.lora_A[adapter], wrapper.lora_B[adapter]
        adapters[parameter] = _LowRank(
            module_A,
            module_B,
            by_module.get(id(module_A)),
            by_module.get(id(module_B)),
            wrapper.scaling[adapter],
            # peft takes (E, O, I) for granted unless the module says otherwise, and Llama 4's does not
            a_is_first=getattr(module, "is_transposed", False) == _is_transposed(module, is_dense=is_dense),
        )
    return KnownExperts(name, chain[0], module, adapters, is_dense)


def _up(module: nn.Module) -> str:
    """Return the name of the first of an expert's two weights."""
    return "gate_up_proj" if hasattr(module, "gate_up_proj") else "up_proj"


def _is_transposed(module: nn.Module, *, is_dense: bool) -> bool:
    """Return whether weights are (E, I, O), and not (E, O, I) as linear layers have them."""
    return bool(getattr(module, "is_transposed", is_dense))


def _runs_the_same(experts: KnownExperts) -> bool:
    """Return whether the forward pass here is the module's own: on random tokens, under a random adapter."""
    weight = next(parameter for parameter in experts.module.parameters() if parameter.ndim == 3)
    if not weight.is_floating_point():
        return False
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, scale: float = 1) -> Tensor:
        return (torch.randn(*shape, generator=generator) * scale).to(weight.device, weight.dtype)

    n_experts, n_tokens, n_top = len(weight), 6, min(2, len(weight))
    n_in = weight.shape[1 if _is_transposed(experts.module, is_dense=experts.is_dense) else 2]
    given: tuple[Tensor, ...] = (draw(n_experts * n_tokens, n_in),)
    if not experts.is_dense:
        index_NK = torch.rand(n_tokens, n_experts, generator=generator).topk(n_top).indices.to(weight.device)
        given = (draw(n_tokens, n_in), index_NK, draw(n_tokens, n_top).abs())
    adapter = {
        name: draw(*parameter.shape, scale=parameter.shape[1] ** -0.5)
        for name, parameter in experts.wrapper.named_parameters()
        if ".lora_" in f".{name}"
    }
    ours = experts.forward_for((1, n_tokens), None)
    with torch.no_grad(), eval_mode(experts.wrapper):
        try:
            want = torch.func.functional_call(experts.wrapper, adapter, given)
            with replace_forward(experts.wrapper, ours):
                got = torch.func.functional_call(experts.wrapper, adapter, given)
        except (RuntimeError, IndexError, TypeError, ValueError, AttributeError):
            return False  # its arguments mean something else, or its parts have other shapes
    if not isinstance(want, Tensor) or want.shape != got.shape:
        return False
    off = (got.double() - want.double()).norm() / want.double().norm()
    return bool(off <= _SAME.get(weight.dtype, _SAME_IN_16_BITS))


class _Forward:
    """One run of an experts module over a batch."""

    def __init__(self, experts: KnownExperts, shape_BT: tuple[int, int], take: Take | None, anchor: Tensor) -> None:
        self.experts = experts
        self.module: Any = experts.module
        self.n_examples, self.n_positions = shape_BT
        self.n_experts = len(getattr(self.module, _up(self.module)))
        self.take = take
        self.anchor = anchor

    def routed(self, hidden_NI: Tensor, index_NK: Tensor, weight_NK: Tensor) -> Tensor:
        """Send each token to its experts, and add up what they make of it, weighed."""
        self._check_rows(hidden_NI, self.n_examples * self.n_positions)
        n_tokens, n_top = index_NK.shape
        example_N = torch.arange(n_tokens, device=hidden_NI.device) // self.n_positions
        run_S = (index_NK * self.n_examples + example_N[:, None]).flatten()
        order_S = run_S.argsort(stable=True)
        n_rows_G = torch.zeros(self.n_experts * self.n_examples, dtype=torch.int32, device=run_S.device)
        n_rows_G.scatter_add_(0, run_S, torch.ones_like(run_S, dtype=torch.int32))
        expert_S = index_NK.flatten()[order_S]
        out_SO = self._expert(hidden_NI[order_S // n_top], expert_S, self._runs(n_rows_G))
        weighed_SO = out_SO * weight_NK.flatten()[order_S, None]
        back_S = torch.empty_like(order_S)
        back_S[order_S] = torch.arange(len(order_S), device=order_S.device)
        return weighed_SO[back_S].view(n_tokens, n_top, -1).sum(1).to(hidden_NI.dtype)

    def dense(self, hidden_SI: Tensor) -> Tensor:
        """Run every expert on its block of rows, one a token."""
        self._check_rows(hidden_SI, self.n_experts * self.n_examples * self.n_positions)
        n_runs = self.n_experts * self.n_examples
        n_rows_G = torch.full((n_runs,), self.n_positions, dtype=torch.int32, device=hidden_SI.device)
        expert_S = torch.arange(len(hidden_SI), device=hidden_SI.device) // (self.n_examples * self.n_positions)
        return self._expert(hidden_SI, expert_S, self._runs(n_rows_G))

    def _check_rows(self, hidden: Tensor, expected: int) -> None:
        if hidden.ndim != 2 or len(hidden) != expected:
            raise ModelError(
                f"{self.experts.name} gets its tokens as {tuple(hidden.shape)}, not as {expected} rows; leave it "
                "out of the adapter"
            )

    def _runs(self, n_rows_G: Tensor) -> _Runs:
        ends_G = n_rows_G.cumsum(0, dtype=torch.int32)
        return _Runs(ends_G[self.n_examples - 1 :: self.n_examples].contiguous(), ends_G)

    def _expert(self, x_SI: Tensor, expert_S: Tensor, runs: _Runs) -> Tensor:
        """Compute what each row's expert makes of it."""
        module = self.module
        inner = self._linear(_up(module), x_SI, expert_S, runs)
        if _up(module) == "up_proj":
            inner = module.act_fn(inner)
        elif hasattr(module, "_apply_gate"):
            inner = module._apply_gate(inner)
        else:
            gate, up = inner.chunk(2, dim=-1)
            inner = module.act_fn(gate) * up
        out_SO = self._linear("down_proj", inner, expert_S, runs)
        return module.post_expert_norm(out_SO) if getattr(module, "has_post_expert_norm", False) else out_SO

    def _linear(self, parameter: str, x_SI: Tensor, expert_S: Tensor, runs: _Runs) -> Tensor:
        """Multiply rows by their expert's weight, with its adapter and its bias where it has them."""
        weight = getattr(self.module, parameter).detach()
        weight_EIO = weight if _is_transposed(self.module, is_dense=self.experts.is_dense) else weight.transpose(1, 2)
        low = self.experts.adapters.get(parameter)
        if low is None or self.take is None or not low.is_trained:
            out_SO = by_run(x_SI, weight_EIO, runs.experts_E)
            if low is not None:
                first_EIR, second_ERO = low.factors(self.n_experts, weight)
                inner_SR = by_run(x_SI, first_EIR, runs.experts_E) * low.scaling
                out_SO = out_SO + by_run(inner_SR, second_ERO, runs.experts_E)
        else:
            first_EIR, second_ERO = (factor.detach() for factor in low.factors(self.n_experts, weight))
            hand_on = _HandOn(low, self.n_experts, self.n_examples, self.take)
            out_SO = _RoutedLinear.apply(  # type: ignore[no-untyped-call]
                x_SI, self.anchor, weight_EIO, first_EIR, second_ERO, low.scaling, runs, hand_on
            )
        bias = getattr(self.module, f"{parameter}_bias", None)
        return out_SO if bias is None else out_SO + bias[expert_S]


@dataclass(frozen=True, slots=True)
class _HandOn:
    """What becomes of the factors of one weight's gradients."""

    low: _LowRank
    n_experts: int
    n_examples: int
    take: Take

    def __call__(self, x_SI: Tensor, d_inner_SR: Tensor, inner_SR: Tensor, dy_SO: Tensor, runs: _Runs) -> None:
        """Hand on dF = Σ x d_innerᵀ and dG = Σ inner dyᵀ of each example, in the layout of A and of B."""
        pairs = [(d_inner_SR, x_SI), (inner_SR, dy_SO)]  # the rank's columns first, as A has them
        (rank_A, other_A), (rank_B, other_B) = pairs if self.low.a_is_first else pairs[::-1]
        ends_G, by_example = runs.examples_G, (self.n_experts, self.n_examples)
        if self.low.layer_A is not None:
            a_EBRV = products_by_run(rank_A, other_A, ends_G).unflatten(0, by_example)
            self.take(self.low.layer_A, a_EBRV.transpose(0, 1).flatten(1, 2))
            del a_EBRV
        if self.low.layer_B is not None:
            b_EBUR = products_by_run(other_B, rank_B, ends_G).unflatten(0, by_example)
            self.take(self.low.layer_B, b_EBUR.permute(1, 2, 3, 0).flatten(2, 3))


class _RoutedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_SI: Tensor,
        anchor: Tensor,
        weight_EIO: Tensor,
        first_EIR: Tensor,
        second_ERO: Tensor,
        scaling: float,
        runs: _Runs,
        hand_on: _HandOn,
    ) -> Tensor:
        inner_SR = by_run(x_SI, first_EIR, runs.experts_E) * scaling
        ctx.save_for_backward(x_SI, inner_SR, weight_EIO, first_EIR, second_ERO, *runs)
        ctx.scaling, ctx.hand_on = scaling, hand_on
        return by_run(x_SI, weight_EIO, runs.experts_E).add_(by_run(inner_SR, second_ERO, runs.experts_E))

    @staticmethod
    def backward(ctx: Any, dy_SO: Tensor) -> tuple[Tensor | None, ...]:
        x_SI, inner_SR, weight_EIO, first_EIR, second_ERO, *ends = ctx.saved_tensors
        runs = _Runs(*ends)
        dy_SO = dy_SO.contiguous()
        d_inner_SR = by_run(dy_SO, second_ERO.transpose(1, 2), runs.experts_E) * ctx.scaling
        ctx.hand_on(x_SI, d_inner_SR, inner_SR, dy_SO, runs)
        dx_SI = None
        if ctx.needs_input_grad[0]:
            dx_SI = by_run(dy_SO, weight_EIO.transpose(1, 2), runs.experts_E)
            dx_SI.add_(by_run(d_inner_SR, first_EIR.transpose(1, 2), runs.experts_E))
        return dx_SI, None, None, None, None, None, None, None


def by_run(x_SU: Tensor, weight_EUV: Tensor, ends_E: Tensor) -> Tensor:
    """Multiply each run of rows by a matrix of its own, (S, V)."""
    if _takes_runs(x_SU, weight_EUV) and weight_EUV.shape[2] * x_SU.itemsize % 16 == 0:  # so its way back does too
        return nn.functional.grouped_mm(x_SU, weight_EUV, offs=ends_E)
    return torch.cat([x_SU[rows] @ weight_UV for weight_UV, rows in zip(weight_EUV, _slices(ends_E), strict=True)])


def products_by_run(u_SU: Tensor, v_SV: Tensor, ends_G: Tensor) -> Tensor:
    """Compute uᵀv of each run of rows, (G, U, V); zero where a run has none."""
    if not _takes_runs(u_SU.T, v_SV):
        return torch.stack([u_SU[rows].T @ v_SV[rows] for rows in _slices(ends_G)])
    out_GUV = nn.functional.grouped_mm(u_SU.T, v_SV, offs=ends_G)
    is_empty_G = ends_G.diff(prepend=ends_G.new_zeros(1)) == 0
    return out_GUV.masked_fill_(is_empty_G[:, None, None], 0)  # no document promises it


def _slices(ends: Tensor) -> Iterator[slice]:
    start = 0
    for end in ends.tolist():
        yield slice(start, end)
        start = end


def _takes_runs(*operands: Tensor) -> bool:
    """Return whether PyTorch's product of runs takes these: its types, and strides of whole 16 bytes."""
    first = operands[0]
    if first.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return False
    if first.is_cuda and torch.cuda.get_device_capability(first.device) < (8, 0):
        return False
    for operand in operands:
        longer, unit = sorted(operand.stride()[-2:], reverse=True)
        if unit != 1 or longer * operand.itemsize % 16 or operand.data_ptr() % 16:
            return False
    return True


@contextmanager
def as_here(experts: Sequence[KnownExperts], shape_BT: tuple[int, int]) -> Iterator[None]:
    """Run experts modules as the engine runs them, while open, with gradients by autograd.

    In 16 bits peft rounds a weight with its update, which the engine does not: a token near the border of two experts
    may then go to the other, and gradients that are both right differ.
    """
    with ExitStack() as stack:
        for fused in experts:
            stack.enter_context(replace_forward(fused.wrapper, fused.forward_for(shape_BT, None)))
        yield


@contextmanager
def autograds_own(layers: Sequence[Layer], take: Take) -> Iterator[None]:
    """Let a backward pass over one example, while open, hand on layers' gradients (1, O, I) as autograd has them."""
    kept = [(layer.module.weight, layer.module.weight.grad) for layer in layers]

    def hook_of(layer: Layer) -> Callable[[Tensor], None]:
        def hook(weight_OI: Tensor) -> None:
            grad_OI, weight_OI.grad = weight_OI.grad, None
            assert grad_OI is not None
            take(layer, grad_OI[None])

        return hook

    handles = []
    for layer in layers:
        layer.module.weight.grad = None
        handles.append(layer.module.weight.register_post_accumulate_grad_hook(hook_of(layer)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for weight, grad in kept:
            weight.grad = grad
