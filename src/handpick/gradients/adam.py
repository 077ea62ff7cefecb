"""LESS's pool side: what Adam would do with one example's gradient at a checkpoint.

Γ(z) = m' / sqrt(v' + ε),  m' = β1 m + (1 − β1) g,  v' = β2 v + (1 − β2) g²
(Xia et al. ICML 2024, section 3, as its released code has it: ε inside the root, no bias correction).
``eps_mode="adam"`` is torch.optim.AdamW's own step: bias correction, ε outside the root.

Legend: B examples, P coordinates of a layer, or a block of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from handpick.choices import EpsMode


@dataclass(frozen=True, slots=True)
class AdamMoments:
    """Adam's state at a checkpoint, by canonical parameter name; every moment in its weight's shape, float32.

    ``own_steps`` are those of parameters that had fewer than ``step`` (a step without a gradient is none for them);
    ``rates`` the learning rates of parameters that have another than the one logged (LoRA+'s B), in units of it.
    """

    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    step: int
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    own_steps: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, float] = field(default_factory=dict)


class AdamPreconditioner:
    """Maps a layer's per-example gradients to Adam's update of each, without the learning rate that all share.

    Args:
        moments: the checkpoint's state.
        eps_mode: ``less`` or ``adam``, as above.
    """

    def __init__(self, moments: AdamMoments, eps_mode: EpsMode) -> None:
        self.eps_mode = eps_mode
        self._step, self._own_steps, self._rates = moments.step, moments.own_steps, moments.rates
        self._eps = moments.eps
        self._beta1, self._beta2 = moments.beta1, moments.beta2
        # β1 m, and β2 v + ε where ε stands inside the root: what is the same for every example
        inside = moments.eps if eps_mode == "less" else 0.0
        self._first = {name: (moments.beta1 * m).flatten() for name, m in moments.first.items()}
        self._second = {name: (moments.beta2 * v + inside).flatten() for name, v in moments.second.items()}

    def __call__(self, name: str, grad_BP: Tensor, start: int = 0) -> Tensor:
        """Apply Γ to a layer's coordinates ``start`` … ``start + P``, in float32 or the gradients' wider dtype."""
        block = slice(start, start + grad_BP.shape[1])
        first_BP = torch.add(self._first[name][block].to(grad_BP), grad_BP, alpha=1 - self._beta1)
        second_BP = torch.addcmul(self._second[name][block].to(grad_BP), grad_BP, grad_BP, value=1 - self._beta2)
        rate = self._rates.get(name)
        if rate is not None:
            first_BP.mul_(rate)
        if self.eps_mode == "less":
            return first_BP.mul_(second_BP.rsqrt_())
        step = self._own_steps.get(name, self._step) + 1  # the step that an example would be
        root_BP = second_BP.sqrt_().div_(math.sqrt(1 - self._beta2**step)).add_(self._eps)
        return first_BP.div_(root_BP).div_(1 - self._beta1**step)
