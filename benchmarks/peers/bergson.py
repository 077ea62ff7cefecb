"""Bergson (EleutherAI/bergson), through its Python API: gradients of an adapter's modules, projected on both sides.

``as_shipped``: its defaults but for the projection of 16 × 16, which its trackstar command has: float32, batches of
2048 tokens, the summed loss, an index on disk. Else like for like: our dtype and batches, the mean loss, and its own
in-memory collector, or no store at all where nothing is projected. ``adam``: its normalizer from Adam's second moments,
read from the optimizer state of a checkpoint.

Loading the model, making the projection matrices and (``warm``) a first batch are not timed.
"""

import shutil
from pathlib import Path
from typing import Any

from bergson import CollectorComputer, GradientCollector, IndexConfig, InMemoryCollector, collect_gradients
from bergson.data import allocate_batches
from bergson.utils.worker_utils import create_processor, setup_model_and_peft
from datasets import Dataset
from peers.common import Task, Work

PROJECTED = 16


def index(task: Task) -> Work:
    """All examples into a fresh index."""
    cfg = _config(task)
    # Bergson saves the processor and a record of the run there, whichever collector is used
    cfg.partial_run_path.mkdir(parents=True)
    model, target_modules = setup_model_and_peft(cfg)
    processor = create_processor(model, cfg, target_modules)
    data = Dataset.from_list([{**s, "length": len(s["input_ids"])} for s in task.sequences()])

    def run(data: Dataset) -> None:
        batches = allocate_batches(data["length"][:], cfg.token_batch_size)
        if task.options["store"] == "disk":
            collect_gradients(model, data, processor, cfg, batches=batches, target_modules=target_modules)
            return
        collector = _collector(task, cfg, model, data, processor, target_modules)
        CollectorComputer(model, data, collector=collector, batches=batches, cfg=cfg).run_with_collector_hooks()

    few = data if task.device == "cuda" else data.select(range(min(4, len(data))))
    return Work(lambda: run(data), lambda: run(few), len(data))


def _config(task: Task) -> IndexConfig:
    run_path = Path(task.scratch) / "bergson"
    for path in (run_path, Path(f"{run_path}.part")):
        shutil.rmtree(path, ignore_errors=True)
    settings: dict[str, Any] = {"run_path": str(run_path), "model": task.adapter}
    if task.options["projected"]:
        settings["projection_dim"] = PROJECTED
    if task.options["adam"]:
        settings["optimizer_state"] = str(Path(task.adapter) / "optimizer.pt")
    if not task.options["as_shipped"]:
        settings["precision"] = {"float32": "fp32", "bfloat16": "bf16"}[task.dtype]
        settings["token_batch_size"] = task.batch_tokens
        settings["loss_reduction"] = "mean"
    return IndexConfig(**settings)


def _collector(
    task: Task, cfg: IndexConfig, model: Any, data: Dataset, processor: Any, target_modules: set[str] | None
) -> Any:
    settings = {
        "model": model.base_model, "cfg": cfg, "processor": processor, "target_modules": target_modules, "data": data,
    }  # fmt: skip
    if task.options["store"] == "memory":
        return InMemoryCollector(**settings)
    return GradientCollector(**settings, skip_index=True)
