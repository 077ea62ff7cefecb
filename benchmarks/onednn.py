"""float32 products through PyTorch's default library and through oneDNN: what each costs on this processor.

    python benchmarks/onednn.py

Milliseconds, medians of nine in turn, of what the engine asks for: the layers of a Llama of hidden size 512, its head
on some positions, and attention forward and backward. Decides nothing: handpick.gradients.kernels does, by the
processor's maker.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from handpick.gradients.kernels import onednn_is_exact, takes_onednn

WORDS = {"highest": "default", "medium": "oneDNN"}


def linear(m: int, k: int, n: int) -> Callable[[], Tensor]:
    x_MK, weight_NK = torch.randn(m, k), torch.randn(n, k)
    return lambda: torch.nn.functional.linear(x_MK, weight_NK)


def input_gradient(m: int, k: int, n: int) -> Callable[[], Tensor]:
    grad_MN, weight_NK = torch.randn(m, n), torch.randn(n, k)
    return lambda: grad_MN @ weight_NK


def attention(b: int, h: int, t: int, d: int) -> Callable[[], object]:
    q, k, v = (torch.randn(b, t, h, d).transpose(1, 2).requires_grad_() for _ in range(3))
    grad = torch.randn(b, t, h, d).transpose(1, 2)

    def run() -> object:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return torch.autograd.grad(out, (q, k, v), grad)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/onednn.md"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    cases: dict[str, Callable[[], object]] = {
        "layer, 1,024 tokens, 512 → 1,376": linear(1024, 512, 1376),
        "the same, gradient of its input": input_gradient(1024, 512, 1376),
        "adapter, 1,024 tokens, 512 → 128": linear(1024, 512, 128),
        "head, 170 positions, 512 → 24,576": linear(170, 512, 24576),
        "head's gradient, 170 positions": input_gradient(170, 512, 24576),
        "attention, both ways, 40 × 25 tokens": attention(40, 8, 25, 64),
        "attention, both ways, 13 × 78 tokens": attention(13, 8, 78, 64),
        "attention, both ways, 2 × 512 tokens": attention(2, 8, 512, 64),
    }
    took: dict[tuple[str, str], list[float]] = {(case, word): [] for case in cases for word in WORDS}
    before = torch.get_float32_matmul_precision()
    for _ in range(10):
        for case, run in cases.items():
            for word in WORDS:
                torch.set_float32_matmul_precision(word)
                began = time.perf_counter()
                run()
                took[case, word].append(1000 * (time.perf_counter() - began))
    torch.set_float32_matmul_precision(before)
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    lines = [
        f"{names[0]}, torch {torch.__version__}, {args.threads} thread(s). oneDNN's float32 is exact here: "
        f"{'yes' if onednn_is_exact() else 'no'}; taken: {'oneDNN' if takes_onednn() else 'default'}.",
        "",
        "| what | default, ms | oneDNN, ms |",
        "|---|---|---|",
    ]
    lines += [
        f"| {case} | " + " | ".join(f"{median(took[case, word][1:]):.1f}" for word in WORDS) + " |" for case in cases
    ]
    args.out.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
