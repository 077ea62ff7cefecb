"""Adam preconditioning against the formula in numpy and against torch.optim.AdamW itself."""

import numpy as np
import pytest
import torch

from handpick.gradients.adam import AdamMoments, AdamPreconditioner


def moments(shape: tuple[int, ...], *, scale: float, step: int, seed: int = 0) -> AdamMoments:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(shape, generator=generator) * scale
    second = torch.rand(shape, generator=generator) * scale**2
    return AdamMoments({"w": first}, {"w": second}, step)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])  # the last two put v under and far under ε
def test_less_has_epsilon_inside_the_root_and_no_bias_correction(scale: float) -> None:
    state = moments((3, 4), scale=scale, step=7)
    grad = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(1)) * scale
    m = 0.9 * state.first["w"].double().numpy() + 0.1 * grad.double().numpy()
    v = 0.999 * state.second["w"].double().numpy() + 0.001 * grad.double().numpy() ** 2
    got = AdamPreconditioner(state, "less")("w", grad.flatten(1)).reshape(grad.shape)
    np.testing.assert_allclose(got, m / np.sqrt(v + 1e-8), rtol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-5])
@pytest.mark.parametrize("steps", [1, 12])
def test_adam_is_the_step_that_adamw_would_take(scale: float, steps: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=1.0, weight_decay=0.0)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        weight.grad = torch.randn(3, 4, generator=generator, dtype=torch.float64) * scale
        optimizer.step()
    state = optimizer.state[weight]
    kept = AdamMoments({"w": state["exp_avg"].clone()}, {"w": state["exp_avg_sq"].clone()}, int(state["step"]))
    grad = torch.randn(3, 4, generator=generator, dtype=torch.float64) * scale
    before = weight.detach().clone()
    weight.grad = grad.clone()
    optimizer.step()
    got = AdamPreconditioner(kept, "adam")("w", grad.flatten()[None])
    torch.testing.assert_close(got[0].reshape(3, 4), before - weight.detach(), rtol=1e-9, atol=1e-9)


def test_where_epsilon_matters_the_two_modes_point_elsewhere() -> None:
    state = moments((8, 8), scale=1e-4, step=10)
    grad = torch.randn(1, 64, generator=torch.Generator().manual_seed(2)) * 1e-4
    less = AdamPreconditioner(state, "less")("w", grad).flatten()
    adam = AdamPreconditioner(state, "adam")("w", grad).flatten()
    assert torch.nn.functional.cosine_similarity(less, adam, dim=0) < 0.999
