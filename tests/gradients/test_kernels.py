"""The float32 product that is chosen rounds nothing, and the caller's choice comes back."""

import pytest
import torch

from handpick.gradients import kernels
from handpick.gradients.kernels import fast_exact_float32, onednn_is_exact


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_products_are_float32_and_the_setting_comes_back(before: str) -> None:
    own = torch.get_float32_matmul_precision()
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(1))
    try:
        torch.set_float32_matmul_precision(before)
        with fast_exact_float32():
            got = a @ b
        assert torch.get_float32_matmul_precision() == before
        with pytest.raises(ZeroDivisionError), fast_exact_float32():
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(own)
    want = a.double() @ b.double()
    assert float((got - want).norm() / want.norm()) < 1e-6


@pytest.mark.parametrize(("exact", "word"), [(True, "medium"), (False, "highest")])
def test_onednn_is_taken_only_where_it_rounds_nothing(exact: bool, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "onednn_is_exact", lambda: exact)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with fast_exact_float32():
        assert torch.get_float32_matmul_precision() == word


def test_what_rounds_to_bfloat16_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return own(a.bfloat16().float(), b.bfloat16().float()) if a.dtype == torch.float32 else own(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not onednn_is_exact.__wrapped__()
