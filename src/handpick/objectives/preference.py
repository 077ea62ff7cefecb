"""Preference losses (ROSE: Wu et al., EMNLP Findings 2025, arXiv 2412.00631): which of two answers is the better one.

With r = log π_θ − log π_ref of an answer, summed over its tokens, w the preferred answer and l the other:

    dpo      −log σ(β (r_w − r_l))                          Rafailov et al. 2023; ROSE's
    ipo      (r_w − r_l − 1/(2β))²                          Azar et al. 2023, arXiv 2310.12036
    simpo    −log σ(β (log π_θ(w)/|w| − log π_θ(l)/|l|) − γ)   Meng et al. 2024, arXiv 2405.14734; no reference

A pair is one row. Its gradient is a weighted sum of the two answers' gradients, whose weights are the derivatives of
the loss by their log-probabilities: so the answers need not share a batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from handpick.choices import PreferenceLoss
from handpick.data.examples import Example
from handpick.data.render import Rendered, Renderer
from handpick.errors import DataError
from handpick.fingerprint import Fingerprint, file_digest
from handpick.objectives.protocol import Policy, Prepared, Row, WeightedSequence, prepare_each
from handpick.training.sealed_checkpoint import ADAPTER_FILE

Floats = NDArray[np.float64]


class Pair(NamedTuple):
    """Both answers after the same prompt; labels on the answers alone."""

    chosen: Rendered
    rejected: Rendered


@dataclass(frozen=True, slots=True)
class _Sides:
    """What a loss may look at, (2, pairs), the preferred answers first: log-probabilities, and numbers of tokens."""

    policy: Tensor
    reference: Tensor
    tokens: Tensor

    def margin(self) -> Tensor:
        """Compute r_w − r_l."""
        ratio = self.policy - self.reference
        return ratio[0] - ratio[1]

    def mean_margin(self) -> Tensor:
        """Return the difference of the mean log-probabilities of a token."""
        mean = self.policy / self.tokens
        return mean[0] - mean[1]


_LOSSES: dict[PreferenceLoss, Callable[[_Sides, float, float], Tensor]] = {
    "dpo": lambda sides, beta, gamma: -logsigmoid(beta * sides.margin()),
    "ipo": lambda sides, beta, gamma: (sides.margin() - 1 / (2 * beta)).square(),
    "simpo": lambda sides, beta, gamma: -logsigmoid(beta * sides.mean_margin() - gamma),
}
_BETA: dict[PreferenceLoss, float] = {"dpo": 0.1, "ipo": 0.1, "simpo": 2.0}


class Preference:
    """The loss of a pair.

    Args:
        renderer: makes the tokens.
        max_length: tokens of either answer with its prompt that are kept.
        loss: which of the three.
        beta: their β; None: 0.1, and 2 for ``simpo``.
        gamma: ``simpo``'s γ, the margin by which the better answer should win.
        reference: π_ref, a LoRA checkpoint; None: the base model.
    """

    advice = "name other pairs"

    def __init__(
        self,
        renderer: Renderer,
        max_length: int,
        *,
        loss: PreferenceLoss = "dpo",
        beta: float | None = None,
        gamma: float = 1.0,
        reference: Path | None = None,
    ) -> None:
        self._renderer = renderer
        self._max_length = max_length
        self._loss = loss
        self._beta = _BETA[loss] if beta is None else beta
        self._gamma = gamma
        self._reference = reference

    def fingerprint(self) -> Fingerprint:
        found: Fingerprint = {"objective": "preference", "loss": self._loss, "beta": self._beta}
        if self._loss == "simpo":
            return found | {"gamma": self._gamma}
        adapter = None if self._reference is None else self._reference / ADAPTER_FILE
        return found | {"reference": "base" if adapter is None else file_digest(adapter)[:16]}

    def prepare(self, examples: Sequence[Example]) -> Prepared:
        """Prepare a pair per record; refused is one without two answers, or with one that is cut away."""
        return prepare_each(examples, self._pair)

    def _pair(self, example: Example) -> Pair:
        if example.rejected is None:
            raise DataError("no rejected answer: a preference needs records with `chosen` and `rejected`")
        chosen, rejected = example.messages, example.rejected
        shared = next(
            (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
            min(len(chosen), len(rejected)),
        )
        if shared == max(len(chosen), len(rejected)):
            raise DataError("the chosen and the rejected answer are the same")
        return Pair(*(self._renderer(side, self._max_length, labelled_from=shared) for side in (chosen, rejected)))

    def rows(self, items: Sequence[Pair], policy: Policy) -> list[Row]:
        if not items:
            return []
        sequences = [pair.chosen for pair in items] + [pair.rejected for pair in items]
        policy_2P = policy.log_likelihoods(sequences).reshape(2, -1)
        reference_2P = np.zeros_like(policy_2P)
        if self._loss != "simpo":
            with policy.as_reference(self._reference):
                reference_2P = policy.log_likelihoods(sequences).reshape(2, -1)
        weight_2P = self.weights(policy_2P, reference_2P, np.array([s.n_labels for s in sequences]).reshape(2, -1))
        return [
            [WeightedSequence(sequence, float(weight)) for sequence, weight in zip(pair, weight_2P[:, p], strict=True)]
            for p, pair in enumerate(items)
        ]

    def weights(self, policy_2P: Floats, reference_2P: Floats, tokens_2P: NDArray[np.int64]) -> Floats:
        """Compute −∂loss/∂log π of both answers of each pair, (2, pairs): what the nll of their tokens weighs."""
        own = torch.from_numpy(policy_2P).requires_grad_()
        sides = _Sides(own, torch.from_numpy(reference_2P), torch.from_numpy(tokens_2P))
        loss = _LOSSES[self._loss](sides, self._beta, self._gamma).sum()
        (by_log_probability,) = torch.autograd.grad(loss, own)
        weight_2P: Floats = -by_log_probability.numpy()
        return weight_2P
