"""Random projections: the matrix is the same everywhere, and inner products are unbiased."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from handpick.gradients.projection import Projection, projection, random_bits

KINDS = [("sparse", 1), ("sparse", 4), ("rademacher", 1), ("none", 1)]


def project(p: Projection, rows_BP: Tensor, cuts: list[int]) -> Tensor:
    """Feed the coordinates in pieces that end at ``cuts``."""
    sums = p.begin(len(rows_BP), rows_BP)
    start = 0
    for end in [*sorted({c for c in cuts if 0 < c < rows_BP.shape[1]}), rows_BP.shape[1]]:
        p.add(sums, rows_BP[:, start:end], start)
        start = end
    return p.finish(sums)


def matrix(p: Projection, n: int) -> Tensor:
    """P itself (K, n), a column a coordinate."""
    return project(p, torch.eye(n, dtype=torch.float64), []).T


def splitmix64(counter: int, seed: int) -> int:
    """The generator in Python's own integers."""
    mask = (1 << 64) - 1

    def mix(z: int) -> int:
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        return z ^ z >> 31

    key = mix((seed * 0x9E3779B97F4A7C15 + 0xBF58476D1CE4E5B9) & mask)
    return mix((mix((counter * 0x9E3779B97F4A7C15 + key) & mask) + key) & mask)


@given(st.integers(0, 2**62), st.integers(0, 2**31))
def test_bits_are_splitmix64(counter: int, seed: int) -> None:
    got = int(random_bits(torch.tensor([counter]), seed)[0])
    assert got % (1 << 64) == splitmix64(counter, seed)


@pytest.mark.parametrize(("kind", "nonzeros"), KINDS)
@given(cuts=st.lists(st.integers(1, 299), max_size=5), rows=st.integers(1, 5), seed=st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_blocks_and_batches_change_nothing(kind: str, nonzeros: int, cuts: list[int], rows: int, seed: int) -> None:
    rows_BP = torch.randn(5, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    whole = project(projection(kind, 300, 64, seed, nonzeros), rows_BP, [])  # type: ignore[arg-type]
    pieces = project(projection(kind, 300, 64, seed, nonzeros), rows_BP[:rows], cuts)  # type: ignore[arg-type]
    torch.testing.assert_close(pieces, whole[:rows], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("nonzeros", [1, 2, 4, 8])
def test_sparse_columns_have_s_entries_of_weight_one_over_root_s(nonzeros: int) -> None:
    columns_KP = matrix(projection("sparse", 500, 64, 0, nonzeros), 500)
    assert ((columns_KP != 0).sum(0) == nonzeros).all()
    torch.testing.assert_close(columns_KP.abs().max(0).values, torch.full((500,), nonzeros**-0.5, dtype=torch.float64))


@pytest.mark.parametrize("nonzeros", [1, 4])
def test_the_coordinates_of_a_run_never_meet_and_runs_are_rotated_apart(nonzeros: int) -> None:
    columns_KP = matrix(projection("sparse", 640, 64, 3, nonzeros), 640)
    width = 64 // nonzeros
    for run_KW in columns_KP.split(width, dim=1):
        assert ((run_KW != 0).sum(1) == 1).all()
    first = columns_KP[:width, ::width].abs().argmax(0)  # where each run's first coordinate goes in the first block
    assert len(set(first.tolist())) > min(width, len(first)) // 2


def test_what_is_kept_of_the_signs_does_not_depend_on_the_blocks() -> None:
    rows_BP = torch.randn(2, 640, dtype=torch.float64)
    p = projection("sparse", 640, 64, 0)
    for cuts in ([], [100, 333], [1, 50, 639]):
        project(p, rows_BP, cuts)
    assert sum(signs_W.numel() for signs_S in p._signs.values() for signs_W in signs_S) == 640  # type: ignore[attr-defined]


def test_rademacher_entries_are_plus_or_minus_one_over_root_k() -> None:
    p = projection("rademacher", 5000, 96, 0)  # more than one block, and no whole number of words
    signs_KP = matrix(p, 5000)
    torch.testing.assert_close(signs_KP.abs(), torch.full_like(signs_KP, 96**-0.5))
    assert abs(float(signs_KP.sign().mean())) < 4 / (96 * 5000) ** 0.5


def test_none_keeps_the_gradient() -> None:
    rows_BP = torch.randn(3, 40)
    assert torch.equal(project(projection("none", 40, 8192, 0), rows_BP, [7, 30]), rows_BP)


@pytest.mark.parametrize(("kind", "nonzeros"), KINDS[:3])
def test_inner_products_are_unbiased(kind: str, nonzeros: int) -> None:
    """Over 400 seeds the mean of ⟨Px, Py⟩ is within four standard errors of ⟨x, y⟩, and its spread as theory has it."""
    generator = torch.Generator().manual_seed(0)
    x_P = torch.randn(200, generator=generator, dtype=torch.float64)
    y_P = 0.5 * x_P + torch.randn(200, generator=generator, dtype=torch.float64)
    rows_BP = torch.stack([x_P, y_P])
    exact = float(x_P @ y_P)
    products = []
    for seed in range(400):
        projected = project(projection(kind, 200, 32, seed, nonzeros), rows_BP, [])  # type: ignore[arg-type]
        products.append(float(projected[0] @ projected[1]))
    spread = np.std(products)
    assert abs(np.mean(products) - exact) < 4 * spread / 400**0.5
    # Var⟨Px, Py⟩ ≤ (‖x‖²‖y‖² + ⟨x, y⟩²) / K for all three
    bound = (float(x_P @ x_P) * float(y_P @ y_P) + exact**2) / 32
    assert 0.5 * bound < spread**2 < 1.3 * bound


@pytest.mark.parametrize(("kind", "nonzeros"), KINDS[:3])
def test_neighbouring_coordinates_and_seeds_are_unlike(kind: str, nonzeros: int) -> None:
    # so few outputs that some runs are rotated alike: with one entry, the coordinates of two runs all meet or none do
    columns_KP = matrix(projection(kind, 2000, 16, 0, nonzeros), 2000)  # type: ignore[arg-type]
    other_KP = matrix(projection(kind, 2000, 16, 1, nonzeros), 2000)  # type: ignore[arg-type]
    lag = 17 if (kind, nonzeros) == ("sparse", 1) else 1  # those of one run never meet at all
    for lag_KP in (columns_KP[:, :-lag] * columns_KP[:, lag:], columns_KP * other_KP):
        cosine = lag_KP.sum(0)
        assert abs(float(cosine.mean())) < 5 * float(cosine.std()) / len(cosine) ** 0.5
    used = (columns_KP != 0).sum(1).double()
    assert used.min() > 0.4 * used.mean()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("kind", "nonzeros"), KINDS)
def test_the_gpu_has_the_same_matrix(kind: str, nonzeros: int) -> None:
    rows_BP = torch.randn(4, 3000, dtype=torch.float64)
    cpu = project(projection(kind, 3000, 64, 0, nonzeros), rows_BP, [])  # type: ignore[arg-type]
    gpu = project(projection(kind, 3000, 64, 0, nonzeros), rows_BP.cuda(), [])  # type: ignore[arg-type]
    torch.testing.assert_close(gpu.cpu(), cpu, rtol=1e-12, atol=1e-12)
