"""LESS's pool side: what Adam would do with one example's gradient at a checkpoint.

Γ(z) = m' / sqrt(v' + ε),  m' = β1 m + (1 − β1) g,  v' = β2 v + (1 − β2) g²
(Xia et al. ICML 2024, section 3, as its released code has it: ε inside the root, no bias correction).
``eps_mode="adam"`` is torch.optim.AdamW's own step: bias correction, ε outside the root.

Legend: B examples, O outputs, I inputs of a layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from handpick.choices import EpsMode


@dataclass(frozen=True, slots=True)
class AdamMoments:
    """Adam's state at a checkpoint, by canonical parameter name; every moment in its weight's shape, float32."""

    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    step: int
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8


class AdamPreconditioner:
    """Maps a layer's per-example gradients to Adam's update of each, without the learning rate.

    Args:
        moments: the checkpoint's state.
        eps_mode: ``less`` or ``adam``, as above.
    """

    def __init__(self, moments: AdamMoments, eps_mode: EpsMode) -> None:
        self.moments = moments
        self.eps_mode = eps_mode

    def __call__(self, name: str, grad_BOI: Tensor) -> Tensor:
        state = self.moments
        first_OI = state.first[name].to(grad_BOI)
        second_OI = state.second[name].to(grad_BOI)
        first_BOI = (1 - state.beta1) * grad_BOI + state.beta1 * first_OI
        second_BOI = (1 - state.beta2) * grad_BOI.square() + state.beta2 * second_OI
        if self.eps_mode == "less":
            return first_BOI * torch.rsqrt(second_BOI + state.eps)
        step = state.step + 1  # the step that this example would be
        first_BOI = first_BOI / (1 - state.beta1**step)
        second_BOI = second_BOI / (1 - state.beta2**step)
        return first_BOI / (second_BOI.sqrt() + state.eps)
