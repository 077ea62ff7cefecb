"""GIST's subspace against numpy's singular value decomposition, and its projection a layer at a time."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from handpick.errors import DataError, FingerprintMismatch, StoreError
from handpick.scorers.gist_subspace import BasisProjection, KeptSubspace, Subspace, query_subspace

Floats = NDArray[np.float32]


def gradients(n: int, d: int, seed: int = 0) -> Floats:
    """Rows of very different norms, as gradients are."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * rng.lognormal(sigma=2, size=(n, 1))).astype(np.float32)


def by_svd(grad_QD: Floats, kept: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """U_k S_k and V_k = Gᵀ U_k S_k⁻¹ of the definition; of every pair the sign that makes U's largest positive."""
    U_QQ, S_Q, _ = np.linalg.svd(grad_QD.astype(np.float64), full_matrices=False)
    U_QK, S_K = U_QQ[:, :kept], S_Q[:kept]
    U_QK = U_QK * np.sign(U_QK[np.abs(U_QK).argmax(axis=0), np.arange(kept)])
    return U_QK * S_K, grad_QD.T @ U_QK / S_K


@pytest.mark.parametrize(("n", "dim", "kept"), [(6, 150, 6), (6, 4, 4), (1, 150, 1), (6, 1, 1)])
def test_equals_the_formula(n: int, dim: int, kept: int) -> None:
    grad_QD = gradients(n, 300)
    found = query_subspace(grad_QD, dim)
    want_QK, want_DK = by_svd(grad_QD, kept)
    assert (found.query_QK.dtype, found.query_QK.shape) == (np.float32, (n, kept))
    np.testing.assert_allclose(found.query_QK, want_QK, rtol=1e-3, atol=1e-5 * np.abs(want_QK).max())
    np.testing.assert_allclose(found.basis_DK.numpy(), want_DK, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 8), d=st.integers(1, 40), dim=st.integers(1, 10), seed=st.integers(0, 999))
def test_the_basis_is_orthonormal_and_gives_the_queries_their_features(n: int, d: int, dim: int, seed: int) -> None:
    """Also where there are more queries than coordinates."""
    grad_QD = gradients(n, d, seed)
    query_QK, basis_DK = query_subspace(grad_QD, dim)
    kept = query_QK.shape[1]
    assert 1 <= kept <= min(n, d, dim)
    # a direction whose singular value is a thousandth of the largest is known to about four digits
    np.testing.assert_allclose(basis_DK.T @ basis_DK, np.eye(kept), atol=2e-2)
    np.testing.assert_allclose(grad_QD @ basis_DK.numpy(), query_QK, atol=1e-4 * np.abs(query_QK).max())


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 6), seed=st.integers(0, 999))
def test_inner_products_on_the_span_are_kept(n: int, seed: int) -> None:
    """g · g' of a query and any example: what of the example lies off the span has no part in it."""
    grad_QD, pool_ND = gradients(n, 60, seed), gradients(9, 60, seed + 1)
    query_QK, basis_DK = query_subspace(grad_QD, 150)
    want_QN = grad_QD.astype(np.float64) @ pool_ND.T
    np.testing.assert_allclose(query_QK @ (pool_ND @ basis_DK.numpy()).T, want_QN, atol=1e-4 * np.abs(want_QN).max())


def test_null_directions_are_dropped() -> None:
    grad_QD = gradients(3, 100)
    twice_QD = np.concatenate([grad_QD, 2 * grad_QD[:1], grad_QD[1:2] - grad_QD[2:]])
    found = query_subspace(twice_QD, 150)
    assert found.query_QK.shape == (5, 3)
    np.testing.assert_allclose(
        found.query_QK @ found.query_QK.T, twice_QD @ twice_QD.T, rtol=1e-4, atol=1e-4 * np.abs(twice_QD).max() ** 2
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_query_without_a_gradient_has_no_features(seed: int) -> None:
    """Not even the rounding of an eigenvector, which would be a feature like any other at unit norm."""
    grad_QD = gradients(6, 50, seed)
    silent = seed % 6
    grad_QD[silent] = 0
    found = query_subspace(grad_QD, 150)
    assert not found.query_QK[silent].any()
    assert np.delete(found.query_QK, silent, axis=0).any(axis=1).all()
    assert found.query_QK.shape == (6, 5)


def test_no_gradient_at_all() -> None:
    with pytest.raises(DataError, match="no query has a gradient"):
        query_subspace(np.zeros((3, 10), np.float32), 150)


def test_long_gradients_are_added_up_in_pieces() -> None:
    """Longer than a piece of the Gram matrix, and no multiple of it."""
    grad_QD = gradients(2, (1 << 18) + 100)
    found = query_subspace(grad_QD, 150)
    want_QK, _ = by_svd(grad_QD, 2)
    np.testing.assert_allclose(found.query_QK, want_QK, rtol=1e-4, atol=1e-4 * np.abs(want_QK).max())


@pytest.mark.parametrize("edges", [[0, 12], [0, 5, 12], [0, 1, 2, 9, 12]])
def test_a_layer_at_a_time_is_the_whole_product(edges: list[int]) -> None:
    rows_BD = torch.from_numpy(gradients(4, 12)).double()
    basis_DK = torch.from_numpy(gradients(12, 3, seed=1))
    project = BasisProjection(basis_DK)
    sums = project.begin(4, rows_BD)
    for start, stop in pairwise(edges):
        project.add(sums, rows_BD[:, start:stop], start)
    found_BK = project.finish(sums)
    assert (project.dim, found_BK.dtype) == (3, torch.float64)
    np.testing.assert_allclose(found_BK, rows_BD.numpy() @ basis_DK.double().numpy(), rtol=1e-12)


def test_a_subspace_is_computed_once(tmp_path: Path) -> None:
    made = query_subspace(gradients(3, 20), 2)
    kept = KeptSubspace(tmp_path / "kept", {"seed": 0}, lambda: made)
    again = KeptSubspace(tmp_path / "kept", {"seed": 0}, lambda: pytest.fail("computed again"))
    for each in (kept, again):
        assert (each.dim, each.digest) == (2, kept.digest)
        assert each.query_QK.tobytes() == made.query_QK.tobytes()
        assert torch.equal(each.basis_DK, made.basis_DK)
    with pytest.raises(FingerprintMismatch, match=r"the queries' subspace in .*kept does not match: seed is 0"):
        KeptSubspace(tmp_path / "kept", {"seed": 1}, lambda: made)


def test_a_subspace_that_was_cut_off_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other() -> Subspace:
        return query_subspace(gradients(3, 20, seed=1), 2)

    with monkeypatch.context() as patched:
        patched.setattr("handpick.scorers.gist_subspace.write_sealed", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            KeptSubspace(tmp_path, {}, lambda: query_subspace(gradients(3, 20), 2))
    assert torch.equal(KeptSubspace(tmp_path, {}, other).basis_DK, other().basis_DK)


@pytest.mark.parametrize("name", ["basis.npy", "queries.npy", "subspace.json"])
def test_a_damaged_subspace_is_named(name: str, tmp_path: Path) -> None:
    KeptSubspace(tmp_path, {}, lambda: query_subspace(gradients(3, 20), 2))
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-20])

    def read() -> None:
        kept = KeptSubspace(tmp_path, {}, lambda: pytest.fail("computed again"))
        _ = kept.query_QK, kept.basis_DK

    with pytest.raises(StoreError, match=rf"{name} is damaged \(.*\); delete .*subspace\.json and run the same again"):
        read()
