"""Tune the preset for small models on random selections alone.

    python benchmarks/small_preset.py

Each setting is fine-tuned on random draws of 100 from the demo pool and judged by the loss on 300 other random
records of that pool. No target, no query and no selection method is looked at. The best learning rate is frozen in
handpick/training/settings.py; rank 16 and batch 8 were set by hand, and so were the warmup's one epoch, which lets the
demo end in three minutes, and the four epochs of fine-tuning in benchmarks/finetune.py.
"""

import argparse
from itertools import product
from pathlib import Path

import numpy as np
from finetune import RECIPE, Job, read, rendered, renderer_of, run

from handpick import bundled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(bundled.model_path()))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/small_preset.json"))
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4])
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    scratch = Path("runs/small_preset")
    pool = rendered(read(bundled.pool_paths(), scratch), renderer_of(args.model))
    order = np.random.default_rng(1).permutation(len(pool))
    held_out = {"pool": [pool[i] for i in order[:300]]}
    draws = [[pool[i] for i in order[300 + 100 * d : 400 + 100 * d]] for d in range(args.draws)]
    jobs = [Job("zero-shot", args.model, [], held_out, seed=0)]
    for rate, epochs in product(args.rates, args.epochs):
        recipe = RECIPE.model_copy(update={"learning_rate": rate, "epochs": epochs})
        for number, draw in enumerate(draws):
            jobs.append(Job(f"rate {rate} epochs {epochs} draw", args.model, draw, held_out, number, recipe))
    losses = run(jobs, args.out, args.workers)
    print(f"zero-shot {losses['zero-shot 0']['pool']:.4f}")
    for rate, epochs in product(args.rates, args.epochs):
        mean = np.mean([losses[f"rate {rate} epochs {epochs} draw {d}"]["pool"] for d in range(args.draws)])
        print(f"rate {rate} epochs {epochs}: {mean:.4f}")


if __name__ == "__main__":
    main()
