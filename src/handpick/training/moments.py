"""Adam's moments of what a trainer saved: whose state it is, and what the moments are.

What is Adam's is on a list, by the keys that each implementation saves; everything else is refused by name, for a state
that has ``exp_avg`` and ``exp_avg_sq`` may be another optimizer's all the same (RAdam, NAdam, AMSGrad).
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from handpick.documents import WRONG_CONTENT
from handpick.errors import ModelError, first_line
from handpick.gradients.adam import AdamMoments
from handpick.training.optimizer_state import FourBit, SavedOptimizer, Shapes, State, keys_by_name

_WAY_OUT = "train with AdamW, or choose --optimizer sgd"
_BITSANDBYTES = "__bnb_optimizer_quant_state__"  # where bitsandbytes keeps what has not its parameter's shape


@dataclass(frozen=True, slots=True)
class _Adam:
    """An implementation of Adam, by the keys that it saves.

    ``state`` are keys of every parameter's state, ``also`` of some; ``setting`` is a key of its groups.
    """

    state: frozenset[str]
    also: frozenset[str]
    setting: str
    read: Callable[[State], tuple[Tensor, Tensor]]

    def is_of(self, state: State, group: Mapping[str, Any]) -> bool:
        return self.setting in group and self.state <= state.keys() <= self.state | self.also


def _plain(state: State) -> tuple[Tensor, Tensor]:
    return _whole(state["exp_avg"]), _whole(state["exp_avg_sq"])


def _whole(moment: Tensor) -> Tensor:
    """Return a state of torchao's as the numbers that its codes stand for; a plain one as it is."""
    codes: Tensor | None = getattr(moment, "codes", None)
    scale: Tensor | None = getattr(moment, "scale", None)
    if codes is None or scale is None:
        return moment
    qmap: Tensor | None = getattr(moment, "qmap", None)
    values = codes.float() if qmap is None else qmap[codes.int()]
    return (values.view(len(scale), -1) * scale[:, None]).view(codes.shape)


def _bitsandbytes(state: State) -> tuple[Tensor, Tensor]:
    return _blockwise(state, 1), _blockwise(state, 2)


def _blockwise(state: State, which: int) -> Tensor:
    """Return a state of bitsandbytes' as the numbers that its codes stand for, block by block; a plain one as it is."""
    codes: Tensor = state[f"state{which}"]
    if f"absmax{which}" not in state:
        return codes
    largest: Tensor = state[f"absmax{which}"]
    values: Tensor = state[f"qmap{which}"][codes.flatten().int()]
    # 256 numbers a block, 2,048 before 0.44
    block = next(size for size in (256, 2048) if -(-values.numel() // size) == largest.numel())
    return (values * largest.repeat_interleave(block)[: values.numel()]).view(codes.shape)


_TORCH = frozenset({"step", "exp_avg", "exp_avg_sq"})
_EIGHT_BIT = frozenset({"qmap1", "qmap2", "absmax1", "absmax2"})
_ADAMS = (
    _Adam(_TORCH, frozenset(), "amsgrad", _plain),  # torch's, fused or not; torchao's
    _Adam(_TORCH, frozenset(), "correct_bias", _plain),  # transformers' own, of 4.x
    _Adam(frozenset({"step", "state1", "state2"}), _EIGHT_BIT, "betas", _bitsandbytes),
)

# What else is met in such files → what tells it. The first that fits is named.
_OTHERS: tuple[tuple[str, Callable[[State, Mapping[str, Any]], Any]], ...] = (
    ("Adam with AMSGrad, which divides by the largest second moment", lambda s, g: g.get("amsgrad")),
    ("Adam with AMSGrad, which divides by the largest second moment", lambda s, g: "max_exp_avg_sq" in s),
    ("Adam that maximizes", lambda s, g: g.get("maximize")),
    (
        "Adam with weight decay in its gradients (L2), which its moments then hold",
        lambda s, g: g.get("decoupled_weight_decay") is False and g["weight_decay"] and "amsgrad" in g,
    ),
    ("NAdam", lambda s, g: "mu_product" in s),
    ("RAdam", lambda s, g: "differentiable" in g and "amsgrad" not in g and s.keys() == _TORCH),
    ("a schedule-free optimizer, which keeps no first moment", lambda s, g: "z" in s),
    (
        "Adafactor, which keeps its second moment by rows and columns",
        lambda s, g: {"exp_avg_sq_row", "row_var"} & s.keys(),
    ),
    ("Adafactor, which keeps its second moment by rows and columns", lambda s, g: "scale_parameter" in g),
    ("AdEMAMix, which has two first moments", lambda s, g: "betas" in g and (len(g["betas"]) == 3 or g.get("alpha"))),
    ("Muon, which keeps no second moment", lambda s, g: "ns_steps" in g),
    ("SGD, which keeps no second moment", lambda s, g: "dampening" in g),
    ("Lion, which keeps no second moment", lambda s, g: s.keys() - {"step"} == {"exp_avg"} and "eps" not in g),
    ("an optimizer of one moment (Lion, SGD, RMSprop, Adagrad)", lambda s, g: "state1" in s and "state2" not in s),
    ("LAMB", lambda s, g: "unorm_vec" in s),
    ("Adagrad, which keeps no first moment", lambda s, g: "sum" in s),
    ("RMSprop, which keeps no first moment", lambda s, g: "square_avg" in s),
    ("Adamax, which keeps a maximum for a second moment", lambda s, g: "exp_inf" in s),
)


def adam_of(saved: SavedOptimizer) -> Callable[[State], tuple[Tensor, Tensor]]:
    """Return what reads the two moments of a state of this optimizer.

    Raises:
        ModelError: it is no Adam's, or one whose moments are not those of the gradients; the message names it.
    """
    states = [_flat(state) for state in saved.states.values()]
    settings = saved.settings
    if not settings:
        raise ModelError(f"{saved.file} holds no parameter's state")
    for state in states or [{}]:
        if any(isinstance(value, FourBit) or type(value).__name__ == "OptimState4bit" for value in state.values()):
            raise ModelError(
                f"{saved.file} is the state of an Adam that keeps its moments in 4 bits, too coarse to be taken for "
                f"moments; {_WAY_OUT}"
            )
        for group in settings:
            name = next((name for name, tells in _OTHERS if tells(state, group)), None)
            if name is not None:
                raise ModelError(f"{saved.file} is the state of {name}, and AdamW's moments are needed; {_WAY_OUT}")
    if not states:
        raise ModelError(f"{saved.file} holds no parameter's state, as before the first step; {_WAY_OUT}")
    adam = next((adam for adam in _ADAMS if adam.is_of(states[0], settings[0])), None)
    odd = next((state for state in states if adam is None or not adam.is_of(state, settings[0])), None)
    if adam is None or odd is not None:
        kept = ", ".join(sorted(map(str, odd or [])))
        raise ModelError(
            f"{saved.file} is not the state of an Adam that handpick knows: it keeps {kept or 'nothing'}; {_WAY_OUT}"
        )
    return adam.read


def _flat(state: State) -> State:
    return {**{key: value for key, value in state.items() if key != _BITSANDBYTES}, **state.get(_BITSANDBYTES, {})}


def check_kind(saved: SavedOptimizer) -> None:
    """Raise ModelError unless the state is an Adam's, with the same β and ε for all parameters."""
    with _of(saved):
        adam_of(saved)
        _shared_settings(saved)
        _rates(saved)


@contextmanager
def _of(saved: SavedOptimizer) -> Iterator[None]:
    """Read a state within the block: what it holds in the place of what an optimizer saves is one sentence."""
    try:
        yield
    except (RuntimeError, StopIteration, MemoryError, *WRONG_CONTENT) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise ModelError(
            f"{saved.file} is not what an optimizer saves ({what}); name another checkpoint, or choose --optimizer sgd"
        ) from error


def check_fits(saved: SavedOptimizer, trained: Shapes, wanted: Shapes) -> None:
    """Raise ModelError unless there is an Adam's state for these parameters; looks at shapes alone.

    Args:
        saved: the file's content.
        trained: of all parameters that the adapter trains, in the model's order.
        wanted: of those whose moments are asked for.
    """
    check_kind(saved)
    with _of(saved):
        keys = keys_by_name(saved, trained)
        for name, shape in wanted.items():
            for value in _moment_tensors(_flat(saved.states.get(keys[name], {}))):
                if value.shape != shape:
                    raise ModelError(
                        f"{saved.file}: the optimizer state for {name} is {tuple(value.shape)}, the weight "
                        f"{tuple(shape)}; it belongs to another adapter"
                    )


def _moment_tensors(state: State) -> list[Tensor]:
    return [state[key] for key in ("exp_avg", "exp_avg_sq", "state1", "state2") if key in state]


def moments_of(saved: SavedOptimizer, trained: Shapes, wanted: Shapes) -> AdamMoments:
    """Return Adam's moments by name, float32, on the CPU.

    A parameter that the file knows and has no state of never had a gradient: its moments are zero, at step 0.

    Raises:
        ModelError: as ``check_fits``.
    """
    check_fits(saved, trained, wanted)
    with _of(saved):
        return _read_moments(saved, trained, wanted)


def _read_moments(saved: SavedOptimizer, trained: Shapes, wanted: Shapes) -> AdamMoments:
    read, keys = adam_of(saved), keys_by_name(saved, trained)
    first, second, steps = {}, {}, {}
    for name, shape in wanted.items():
        state = _flat(saved.states.get(keys[name], {}))
        m, v = read(state) if state else (torch.zeros(shape), torch.zeros(shape))
        first[name], second[name] = m.to(torch.float32), v.to(torch.float32)
        steps[name] = int(state["step"]) if state else 0
    beta1, beta2, eps = _shared_settings(saved)
    step = max(steps.values())
    rate_of = _rates(saved)
    return AdamMoments(
        first,
        second,
        step,
        beta1,
        beta2,
        eps,
        own_steps={name: own for name, own in steps.items() if own != step},
        rates={name: rate_of[keys[name]] for name in wanted if rate_of[keys[name]] != 1},
    )


def _shared_settings(saved: SavedOptimizer) -> tuple[float, float, float]:
    """Return β1, β2 and ε.

    Raises:
        ModelError: they differ between the groups.
    """
    found = {(*map(float, group["betas"]), float(group["eps"])) for group in saved.settings}
    if len(found) > 1:
        raise ModelError(f"{saved.file}: its groups of parameters have different betas or eps; choose --optimizer sgd")
    (shared,) = found
    beta1, beta2, eps = shared
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1 and 0 <= eps < math.inf):
        raise ValueError(f"betas {beta1}, {beta2} and eps {eps} are none of Adam's")
    return beta1, beta2, eps


def _rates(saved: SavedOptimizer) -> dict[Any, float]:
    """Return each parameter's learning rate in units of the first group's, which is the one that trainers log.

    Raises:
        ModelError: it is not to be found, since the first group's is zero and others are not.
    """
    rates = [float(group.get("initial_lr", group["lr"])) for group in saved.groups]
    if not all(0 <= rate < math.inf for rate in rates):
        raise ValueError("a learning rate is no positive number")
    if len({rate for rate, group in zip(rates, saved.groups, strict=True) if group["params"]} | {rates[0]}) == 1:
        rates = [1.0] * len(rates)
    elif rates[0] == 0:
        raise ModelError(
            f"{saved.file}: its first group's learning rate is zero and others are not: how they compare is not known; "
            "choose --optimizer sgd"
        )
    else:
        rates = [rate / rates[0] for rate in rates]
    return {key: rate for rate, group in zip(rates, saved.groups, strict=True) for key in group["params"]}
