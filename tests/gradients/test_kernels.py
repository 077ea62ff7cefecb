"""The float32 product that is chosen rounds nothing, and the caller's choice comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from handpick.gradients import kernels
from handpick.gradients.kernels import fast_exact_float32, onednn_is_exact, takes_onednn


def settings() -> list[str]:
    backends = torch.backends
    return [backends.mkldnn.matmul.fp32_precision, backends.cuda.matmul.fp32_precision, backends.fp32_precision]


@pytest.fixture
def own_settings() -> Iterator[None]:
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for backend in (torch.backends.mkldnn.matmul, torch.backends.cuda.matmul):
        backend.fp32_precision = "none"


CALLERS: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "highest": lambda: torch.set_float32_matmul_precision("highest"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "everything in tf32": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "CUDA in tf32": lambda: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "oneDNN in bfloat16": lambda: setattr(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
    "CUDA, the old way": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("onednn", [False, True])
@pytest.mark.usefixtures("own_settings")
def test_products_are_float32_and_the_setting_comes_back(
    caller: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "takes_onednn", lambda: onednn)
    a, b = torch.randn(2, 300, 300, generator=torch.Generator().manual_seed(1))
    CALLERS[caller]()
    before = settings()
    with fast_exact_float32():
        got = a @ b
        assert (torch.backends.mkldnn.matmul.fp32_precision == "bf16") == onednn
        assert torch.backends.cuda.matmul.fp32_precision in ("ieee", "none")
    assert settings() == before
    with pytest.raises(ZeroDivisionError), fast_exact_float32():
        raise ZeroDivisionError
    assert settings() == before
    if not onednn:
        want = a.double() @ b.double()
        assert float((got - want).norm() / want.norm()) < 1e-6


@pytest.mark.usefixtures("own_settings")
def test_what_the_caller_sets_for_everything_still_arrives_afterwards() -> None:
    torch.backends.fp32_precision = "tf32"
    with fast_exact_float32():
        pass
    torch.backends.fp32_precision = "none"
    assert settings() == ["none", "none", "none"]


@pytest.mark.parametrize(
    ("vendor", "exact", "word"),
    [
        ("AuthenticAMD", True, "bf16"),
        ("AuthenticAMD", False, "none"),
        ("GenuineIntel", True, "none"),
        (None, True, "none"),
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
            assert torch.backends.mkldnn.matmul.fp32_precision in (word, "ieee" if word == "none" else word)
    finally:
        takes_onednn.cache_clear()


def test_what_rounds_to_bfloat16_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    own = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return own(a.bfloat16().float(), b.bfloat16().float()) if a.dtype == torch.float32 else own(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not onednn_is_exact.__wrapped__()
