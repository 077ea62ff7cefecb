"""The float32 product that is chosen rounds nothing, and the caller's choice comes back."""

from pathlib import Path

import pytest
import torch

from handpick.gradients import kernels
from handpick.gradients.kernels import fast_exact_float32, onednn_is_exact, takes_onednn


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


@pytest.mark.parametrize(
    ("vendor", "exact", "word"),
    [
        ("AuthenticAMD", True, "medium"),
        ("AuthenticAMD", False, "highest"),
        ("GenuineIntel", True, "highest"),
        (None, True, "highest"),
    ],
)
def test_onednn_is_taken_on_amd_and_only_where_it_rounds_nothing(
    vendor: str | None, exact: bool, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    if vendor is not None:
        info.write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    monkeypatch.setattr(kernels, "_CPU_INFO", info)
    monkeypatch.setattr(kernels, "onednn_is_exact", lambda: exact)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    takes_onednn.cache_clear()
    try:
        with fast_exact_float32():
            assert torch.get_float32_matmul_precision() == word
    finally:
        takes_onednn.cache_clear()


def test_what_rounds_to_bfloat16_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return own(a.bfloat16().float(), b.bfloat16().float()) if a.dtype == torch.float32 else own(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not onednn_is_exact.__wrapped__()
