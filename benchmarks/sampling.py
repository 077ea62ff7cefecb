"""Answers drawn a second: handpick's batched sampling against NICE's way.

    python benchmarks/sampling.py

NICE's released code asks for one prompt at a time, 20 answers a call. Here both draw the same number of answers to the
same prompts of gsm8k's dev set with the shipped model, of the same length (no answer may end early), in turns, in one
run. Writes benchmarks/results/sampling.md.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from finetune import read, renderer_of

from handpick import bundled
from handpick.model import load_base, padding_id
from handpick.sampling.generate import Sampling, sample


class Endless:
    """A tokenizer that knows of no end, so that both ways draw equally many tokens."""

    eos_token_id = None

    def __init__(self, own: Any) -> None:
        self.decode = own.decode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "sampling.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model: Any = load_base(str(bundled.model_path()), torch.float32)
    model.generation_config.eos_token_id = None
    renderer = renderer_of(str(bundled.model_path()))
    pool = read([bundled.target_path("gsm8k")], Path("runs/sampling"))
    prompts = [renderer.prompt(e.messages[:1]) for e in pool.examples(0, args.prompts)]
    tokenizer, pad_id = Endless(renderer.tokenizer), padding_id(renderer.tokenizer)
    sampling = Sampling(samples=args.samples, max_new_tokens=args.tokens)

    def nice() -> None:
        for prompt in prompts:
            ids_1T = torch.tensor([prompt])
            with torch.no_grad():
                model.generate(
                    input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T), do_sample=True, temperature=1.0,
                    top_k=50, top_p=0.95, max_new_tokens=args.tokens, num_return_sequences=args.samples,
                    pad_token_id=pad_id,
                )  # fmt: skip

    def ours(rows: int) -> None:
        for _ in sample(model, tokenizer, prompts, sampling, seed=0, pad_id=pad_id, ends=[], rows=rows):
            pass

    ways = {"NICE's way: a prompt at a time": nice}
    ways |= {f"ours, {rows} answers at a time": lambda rows=rows: ours(rows) for rows in (20, 64, 128, 256, 480)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - began)
    n_tokens = args.prompts * args.samples * args.tokens
    base = took["NICE's way: a prompt at a time"]
    rows = [
        f"| {name} | {n_tokens / median(times):,.0f} | {median(b / t for b, t in zip(base, times, strict=True)):.2f} |"
        for name, times in took.items()
    ]
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    head = (
        f"{cpu}, {args.threads} threads, torch {torch.__version__}; {args.prompts} prompts of {min(map(len, prompts))}"
    )
    head += f" to {max(map(len, prompts))} tokens, {args.samples} answers of {args.tokens}; {args.rounds} rounds."
    page = "\n".join([head, "", "| way | tokens a second | ratio, median of rounds |", "|---|---|---|", *rows]) + "\n"
    args.out.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
