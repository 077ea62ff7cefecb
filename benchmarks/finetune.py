"""Fine-tune on a few examples with one recipe, and measure the loss on tests: what the benchmarks share.

The recipe was tuned on random selections alone (small_preset.py) and then frozen.
"""

import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from handpick.data.batching import collate, token_batches
from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import IGNORED, Rendered, Renderer
from handpick.model import has_bfloat16, load_base, load_tokenizer, padding_id
from handpick.objectives.next_token import NextToken
from handpick.training.settings import SMALL, WarmupSettings
from handpick.training.warmup import load_trainable, train

MAX_LENGTH = 512
RECIPE = SMALL.model_copy(update={"epochs": 4})


def read(sources: Sequence[str | Path], scratch: Path) -> Pool:
    """A pool or a test set, parsed once under ``scratch``."""
    return Pool.open(list(sources), cache=scratch / "parsed", quarantine=Quarantine(scratch / "quarantine.jsonl"))


def renderer_of(model: str) -> Renderer:
    return Renderer(load_tokenizer(model))


def rendered(pool: Pool, renderer: Renderer) -> list[Rendered]:
    """Everything in a pool that leaves a response to learn from."""
    return NextToken(renderer, MAX_LENGTH).prepare(pool.examples(0, len(pool))).items


@torch.no_grad()
def test_loss(model: nn.Module, sequences: Sequence[Rendered], pad_id: int) -> float:
    """Mean over examples of the mean cross-entropy of an example's response tokens."""
    total = 0.0
    head = model.get_output_embeddings()
    for members in token_batches([len(s.input_ids) for s in sequences], 8192):
        batch = collate([sequences[i] for i in members], pad_id)
        target_BT = batch.labels_BT[:, 1:]
        kept_BT = target_BT != IGNORED
        captured = head.register_forward_pre_hook(lambda _m, args, kept=kept_BT: (args[0][:, :-1][kept],))
        logits_MV = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT, use_cache=False).logits
        captured.remove()
        nats_M = nn.functional.cross_entropy(logits_MV.float(), target_BT[kept_BT], reduction="none")
        sums_B = torch.zeros(len(members)).index_add(0, kept_BT.nonzero()[:, 0], nats_M)
        total += float((sums_B / kept_BT.sum(1)).sum())
    return total / len(sequences)


@dataclass(frozen=True)
class Job:
    """One fine-tuning and what is measured after it; with nothing chosen, the model as it is."""

    name: str
    model: str
    chosen: list[Rendered]
    tests: dict[str, list[Rendered]]
    seed: int
    recipe: WarmupSettings = RECIPE

    @property
    def key(self) -> str:
        return f"{self.name} {self.seed}"


def losses(job: Job) -> dict[str, float]:
    """The test losses after a job's fine-tuning."""
    pad_id = padding_id(load_tokenizer(job.model))
    tuned = load_base(job.model, torch.float32)
    scratch = Path(tempfile.mkdtemp())
    try:
        if job.chosen:
            paths = train(job.model, job.chosen, job.recipe, out=scratch, seed=job.seed, pad_id=pad_id, dtype="float32")
            tuned = load_trainable(tuned, paths[-1:])
        tuned.eval()
        return {name: test_loss(tuned, sequences, pad_id) for name, sequences in job.tests.items()}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def against_random(
    model: str,
    chosen: Mapping[str, tuple[list[str], dict[str, list[Rendered]]]],
    usable: Sequence[str],
    sequences: Callable[[list[str]], list[Rendered]],
    tests: dict[str, list[Rendered]],
    *,
    budget: int,
    draws: int,
    seeds: int,
) -> list[Job]:
    """The model as it is on all tests, each choice (by name: ids and its own tests), and random draws on all tests."""
    jobs = [Job("zero-shot", model, [], tests, seed=0)]
    for seed in range(seeds):
        jobs += [Job(name, model, sequences(ids), own, seed) for name, (ids, own) in chosen.items()]
        for draw in range(draws):
            order = np.random.default_rng([7, draw]).permutation(len(usable))[:budget]
            jobs.append(Job(f"random-{draw}", model, sequences([usable[i] for i in order]), tests, seed))
    return jobs


def run(jobs: Sequence[Job], results: Path, workers: int) -> dict[str, dict[str, float]]:
    """Losses by job, each job in one thread of one of ``workers`` processes; those in ``results`` are not redone."""
    done: dict[str, dict[str, float]] = json.loads(results.read_text()) if results.exists() else {}
    results.parent.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_one_thread) as pool:
        started = {pool.submit(losses, job): job for job in jobs if job.key not in done}
        for finished in as_completed(started):
            key = started[finished].key
            done[key] = finished.result()
            results.write_text(json.dumps(done, indent=1, sort_keys=True))
            print(key, {name: round(loss, 4) for name, loss in done[key].items()}, flush=True)
    return done


def _one_thread() -> None:
    import transformers

    torch.set_num_threads(1)
    # matrix products in bfloat16 where the CPU has instructions for them; elsewhere "medium" is no faster, or slower
    torch.set_float32_matmul_precision("medium" if has_bfloat16() else "highest")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
