"""Which float32 matrix product a CPU is asked for.

PyTorch has two: MKL's, which it takes by itself and which is slow on processors that are not Intel's, and oneDNN's,
where bfloat16 is allowed in float32 products. That also allows oneDNN to round to bfloat16, which it does where
the processor has AMX, and on Intel's oneDNN makes attention four times slower (docs/gradients.md). So oneDNN is taken
on AMD's processors alone, and there only after a trial has shown that it rounds nothing. The choice is by name and not
by speed, so that every run on a machine computes the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

_IEEE, _UNSET, _ONEDNN = "ieee", "none", "bf16"  # as torch.backends.….fp32_precision has them
_EXACT = 1e-5  # relative error; bfloat16 would be near 2e-3, float32 near 1e-6
_CPU_INFO = Path("/proc/cpuinfo")


@contextmanager
def _float32_products(on_cpu: str) -> Iterator[None]:
    """Make float32 products on the CPU in this way and on CUDA in IEEE float32 while open.

    PyTorch's newer switches, one a backend: the older ``set_float32_matmul_precision`` refuses to be read where a
    caller has used these, and sets more than it gives back.
    """
    backends: Any = torch.backends  # whose attributes carry no types
    wanted = ((backends.mkldnn.matmul, on_cpu), (backends.cuda.matmul, _IEEE))
    before = [(backend, backend.fp32_precision) for backend, _ in wanted]
    try:
        for backend, precision in wanted:
            if backend.fp32_precision not in ((precision, _UNSET) if precision == _IEEE else (precision,)):
                backend.fp32_precision = precision
        yield
    finally:
        for backend, precision in before:
            if backend.fp32_precision != precision:
                backend.fp32_precision = _UNSET  # so it inherits again, where it did
            if backend.fp32_precision != precision:
                backend.fp32_precision = precision


def _is_amd() -> bool:
    return _CPU_INFO.exists() and "AuthenticAMD" in _CPU_INFO.read_text()


@cache
def onednn_is_exact() -> bool:
    """Return whether this processor's oneDNN multiplies float32 as float32, found by doing it."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    with _float32_products(_ONEDNN):
        got = a @ b
    want = a.double() @ b.double()
    return bool((got - want).norm() / want.norm() < _EXACT)


@cache
def takes_onednn() -> bool:
    """Return whether ``fast_exact_float32`` means oneDNN here."""
    return not torch.cuda.is_available() and _is_amd() and onednn_is_exact()


@contextmanager
def fast_exact_float32() -> Iterator[None]:
    """Use the fastest float32 products on the CPU that do not round their factors while open.

    On CUDA it is IEEE float32, no TF32. The caller's setting is put back.
    """
    with _float32_products(_ONEDNN if takes_onednn() else _IEEE):
        yield
