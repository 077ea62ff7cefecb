"""What rows of experts cost over rows of attention alone, in one process, in turns.

    python benchmarks/experts.py [--rounds 3] [--examples 12]

Models of random weights in the form of Qwen3-MoE, LoRA of rank 8 on attention, on all fused experts, or on both; rows
projected to 8192 without Adam, one thread, float32, sequences of 30 to 400 tokens. Every round computes the same rows
with each adapter, and the ratio is taken within the round; seconds are the processor's. "autograd" is what experts that
are not known take: both adapters, one example at a time, through peft's own forward pass. The table is written to
benchmarks/results/experts.md.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median

import torch
from peft import LoraConfig, get_peft_model
from random_rows import VOCAB, draw, rows_of
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from handpick.gradients.engine import GradientEngine
from handpick.gradients.experts import AdaptedExperts

RESULTS = Path(__file__).parent / "results"
MODELS: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
    },
    "mid-size": {
        "hidden_size": 512, "num_hidden_layers": 8, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
        "num_experts": 32, "num_experts_per_tok": 4, "moe_intermediate_size": 256,
    },
}  # fmt: skip
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
ADAPTERS: dict[str, tuple[list[str], list[str]]] = {
    "attention": (ATTENTION, []),
    "experts": ([], EXPERTS),
    "both": (ATTENTION, EXPERTS),
    "both, autograd": (ATTENTION, EXPERTS),
}


def adapted(size: str, adapter: str) -> GradientEngine:
    """Return an engine on a model with LoRA on these layers, trained a little."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("qwen3_moe", vocab_size=VOCAB, intermediate_size=512, **MODELS[size])
    base = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    modules, parameters = ADAPTERS[adapter]
    lora = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=modules, target_parameters=parameters)
    model = get_peft_model(base, lora)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    engine = GradientEngine(model)
    if "autograd" in adapter:
        bare = [layer for fused in engine.experts.fused for layer in fused.layers]
        engine.experts = AdaptedExperts((), bare, ())
    return engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "| model | weights, M | LoRA on | adapter, M | ms an example | ÷ attention alone (rounds) |",
        "|---|---|---|---|---|---|",
    ]
    batches = draw(arguments.examples)
    for size in MODELS:
        engines = {adapter: adapted(size, adapter) for adapter in ADAPTERS}
        compute = {adapter: rows_of(engine, batches) for adapter, engine in engines.items()}
        rows = {adapter: compute[adapter]() for adapter in ADAPTERS}  # what is made once is there from now on
        off = (rows["both"] - rows["both, autograd"]).norm(dim=1) / rows["both, autograd"].norm(dim=1)
        assert off.max() < 1e-4, f"rows are off by {off.max():.0e}"
        took: dict[str, list[float]] = {adapter: [] for adapter in ADAPTERS}
        for _ in range(arguments.rounds):
            for adapter in ADAPTERS:
                began = time.process_time()
                compute[adapter]()
                took[adapter].append((time.process_time() - began) / arguments.examples)
        for adapter, engine in engines.items():
            ratios = [mine / attention for mine, attention in zip(took[adapter], took["attention"], strict=True)]
            of_rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            weights = sum(p.numel() for n, p in engine.model.named_parameters() if ".lora_" not in n)
            lines.append(
                f"| {size} | {weights / 1e6:.1f} | {adapter} | {engine.n_coordinates / 1e6:.2f} | "
                f"{1e3 * median(took[adapter]):.1f} | **{median(ratios):.2f}** ({of_rounds}) |"
            )
            print(lines[-1], flush=True)
    command = " ".join(["python benchmarks/experts.py", *sys.argv[1:]])
    head = f"`{command}`, {time.strftime('%Y-%m-%d')}, torch {torch.__version__}, one thread."
    (RESULTS / "experts.md").write_text(f"{head}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
