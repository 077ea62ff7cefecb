"""The gradient engine on several architectures, against an earlier commit of the project, in turns.

    python benchmarks/architectures.py COMMIT [--rounds 5] [--examples 48]

A model of random weights of each kind (about 30 million parameters), LoRA of rank 16 on the same layers in both trees,
rows projected to 8192 without Adam, two threads, float32. Every round runs each tree in a process of its own, first
the one and then the other, and the ratio is taken within the round. Both trees' rows are compared bit for bit. The
table is written to benchmarks/results/architectures.md.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.worktree import REPOSITORY, git, worktree

RESULTS = Path(__file__).parent / "results"
_LLAMA_LIKE = {
    "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 8, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 8192, "max_position_embeddings": 1024,
}  # fmt: skip
_ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MODELS: dict[str, tuple[dict[str, object], list[str]]] = {
    "llama": (_LLAMA_LIKE, _ATTENTION),
    "qwen3": (_LLAMA_LIKE, [*_ATTENTION, "gate_proj", "up_proj", "down_proj"]),
    "gemma3_text": (_LLAMA_LIKE, [*_ATTENTION, "gate_proj", "up_proj", "down_proj"]),
    "gpt2": ({"n_embd": 512, "n_layer": 8, "n_head": 8, "vocab_size": 8192, "n_positions": 1024}, ["c_attn", "c_proj"]),
}


def time_rows(name: str, n_examples: int) -> None:
    """Print the examples a second of one model, the best of three passes, and a digest of its rows."""
    import torch
    from peft import LoraConfig, get_peft_model
    from random_rows import draw, rows_of
    from transformers import AutoConfig, AutoModelForCausalLM

    from handpick.gradients.engine import GradientEngine

    config, targets = MODELS[name]
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **config)).requires_grad_(False)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules=targets))
    for parameter_name, parameter in model.named_parameters():
        if "lora_B" in parameter_name:
            torch.nn.init.normal_(parameter, std=0.02)
    compute = rows_of(GradientEngine(model), draw(n_examples))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        rows_NK = compute()
        seconds.append(time.perf_counter() - began)
    digest = hashlib.sha256(rows_NK.numpy().tobytes()).hexdigest()[:16]
    print(json.dumps({"rate": n_examples / min(seconds), "digest": digest}))


def run(tree: Path, name: str, n_examples: int) -> dict[str, object]:
    """Return what one tree's process found."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--time", name, "--examples", str(n_examples), "-"],
        env={**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "2"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the earlier tree")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=48)
    parser.add_argument("--time", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.time:
        time_rows(arguments.time, arguments.examples)
        return
    lines = [
        "| model | LoRA on | examples/s, earlier | now | now ÷ earlier (rounds) | rows |",
        "|---|---|---|---|---|---|",
    ]
    with worktree(arguments.commit) as earlier:
        for name, (_, targets) in MODELS.items():
            rounds = []
            for i in range(arguments.rounds):
                pair = [earlier, REPOSITORY] if i % 2 == 0 else [REPOSITORY, earlier]
                found = {tree: run(tree, name, arguments.examples) for tree in pair}
                rounds.append((found[earlier], found[REPOSITORY]))
            ratios = [float(now["rate"]) / float(then["rate"]) for then, now in rounds]  # type: ignore[arg-type]
            rates = [median(float(each[k]["rate"]) for each in rounds) for k in (0, 1)]  # type: ignore[arg-type]
            same = {each["digest"] for pair in rounds for each in pair}
            lines.append(
                f"| {name} | {', '.join(targets)} | {rates[0]:.1f} | {rates[1]:.1f} | **{median(ratios):.2f}** "
                f"({', '.join(f'{ratio:.2f}' for ratio in ratios)}) | {'bit-equal' if len(same) == 1 else 'DIFFER'} |"
            )
            print(lines[-1], flush=True)
    command = " ".join(["python benchmarks/architectures.py", *sys.argv[1:]])
    head = f"`{command}`, {time.strftime('%Y-%m-%d')}; earlier is {git('rev-parse', '--short', arguments.commit)}."
    (RESULTS / "architectures.md").write_text(f"{head}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
