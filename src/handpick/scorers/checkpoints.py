"""Which checkpoints a run takes its gradients at: somebody else's, those of its own warmup, or a fresh adapter."""

import json
import math
from pathlib import Path
from typing import Any

from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.documents import as_object, read_object, reading
from handpick.errors import DataError, SettingsError, StoreError
from handpick.fingerprint import Fingerprint, digest, require_same
from handpick.gradients.carriers import carry_by
from handpick.layer_numbers import ALL
from handpick.layout import RunLayout, WarmupLayout
from handpick.model import (
    TOKENIZER_FILE,
    compute_dtype,
    free_memory,
    load_base,
    load_tokenizer,
    padding_id,
    parameter_count,
    tokenizer_fingerprint,
)
from handpick.objectives.next_token import NextToken
from handpick.progress import log
from handpick.scorers.gradient_encoder import adapter_fingerprint
from handpick.scorers.inputs import model_name
from handpick.settings import Settings
from handpick.store import Checkpoint
from handpick.store.files import atomic_write
from handpick.store.manifest import contents_of
from handpick.training.checkpoint import check_checkpoint, check_moments
from handpick.training.checkpoint_weights import checkpoint_weights
from handpick.training.disk import translate_disk_errors
from handpick.training.settings import SMALL, SMALL_MODEL, LoraSettings, WarmupSettings
from handpick.training.warmup import new_adapter, train, warmup_rows


def check_checkpoints(settings: Settings, optimizer: str, pool: Pool, renderer: Renderer, model: Fingerprint) -> None:
    """Find out, before any training, what would stop ``find_checkpoints`` later.

    Raises:
        ModelError: a named checkpoint is none, or lacks the optimizer state that is needed, or has another optimizer's.
        SettingsError: the settings contradict each other.
        FingerprintMismatch: the output folder holds the warmup of other settings, model, chat template or pool.
    """
    for path in map(Path, settings.checkpoints):
        check_checkpoint(path)
        if optimizer == "adam":
            check_moments(path)
        compare_tokenizers(path, settings, renderer)
    if settings.checkpoints:
        return
    warmup, _ = warmup_of(settings)
    if warmup is None and optimizer == "adam":
        raise SettingsError("without a warmup there is no Adam state: choose --method gradient-rr or --optimizer sgd")
    record = RunLayout(settings.folder).warmup_record
    if warmup is not None and record.exists():
        there = read_warmup_record(record)
        here = _record(settings, warmup, pool, renderer, model)
        # The pool may have grown since; features of its new files belong to the old warmup.
        here["files"] = here["files"][: len(there["files"])]
        there.pop("checkpoints", None)  # what came of it, not what it depends on
        require_same(there, here, what=f"the warmup in {record.parent}")


def read_warmup_record(path: Path) -> dict[str, Any]:
    """Read what a warmup was made from.

    Raises:
        StoreError: it is damaged.
    """
    then = f"remove {path.parent}, and the warmup is trained anew"
    record = read_object(path, StoreError, then)
    with reading(path, StoreError, then):
        if any(int(as_object(file)["rows"]) < 0 for file in record["files"]):
            raise ValueError("a file has no rows")
        if not all(isinstance(name, str) and Path(name).name == name for name in record.get("checkpoints", [])):
            raise ValueError("checkpoints are no folders beside it")
    return record


def compare_tokenizers(checkpoint: Path, settings: Settings, renderer: Renderer) -> None:
    """Say where a trainer has saved another tokenizer or chat template beside a checkpoint than the base model has."""
    if not (checkpoint / TOKENIZER_FILE).exists():
        return
    own, used = tokenizer_fingerprint(Renderer(load_tokenizer(str(checkpoint)))), tokenizer_fingerprint(renderer)
    others = {"template": "chat template", "tokenizer": "tokenizer"}
    differing = [word for key, word in others.items() if own[key] != used[key]]
    if differing:
        log(
            f"{checkpoint} was saved with another {' and '.join(differing)} than {settings.model} has, and the model's "
            "is used: if the checkpoint was trained with its own, put that into the model's folder"
        )


def needs_training(settings: Settings) -> bool:
    """Return whether ``find_checkpoints`` has training to do, or to finish."""
    if settings.checkpoints or warmup_of(settings)[0] is None:
        return False
    record = RunLayout(settings.folder).warmup_record
    return not record.exists() or "checkpoints" not in read_warmup_record(record)


def find_checkpoints(
    settings: Settings, pool: Pool, renderer: Renderer, model: Fingerprint
) -> tuple[list[Path], list[Checkpoint]]:
    """Return the checkpoint folders and what each weighs; trains the warmup where there is none yet.

    Raises:
        DataError: no example drawn for the warmup can be used.
        ModelError: what training or a foreign checkpoint raises.
    """
    if settings.checkpoints:
        return _weigh_checkpoints([Path(path) for path in settings.checkpoints])
    warmup, _ = warmup_of(settings)
    folder = RunLayout(settings.folder).warmup
    if warmup is None:
        return _weigh_checkpoints([_fresh_adapter(settings, folder, model)])
    record_path = WarmupLayout(folder).record
    there = read_warmup_record(record_path) if record_path.exists() else None
    record = there or _record(settings, warmup, pool, renderer, model)
    if "checkpoints" not in record:
        _check_carriers(settings, warmup)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(record_path, json.dumps(record, indent=1).encode())  # a run that is killed from here on is resumed
        n_rows = sum(file["rows"] for file in record["files"])
        record["checkpoints"] = [path.name for path in _train(settings, warmup, pool, n_rows, renderer, folder)]
        atomic_write(record_path, json.dumps(record, indent=1).encode())
    return _weigh_checkpoints([folder / name for name in record["checkpoints"]])


def _check_carriers(settings: Settings, warmup: WarmupSettings) -> None:
    """Find out before the training, which may take long, that some of the adapter's layers are to carry the gradient.

    Raises:
        SettingsError, ModelError: as ``carry_by``.
    """
    if settings.layers != ALL:
        base = load_base(model_name(settings), compute_dtype(settings.dtype), settings.quantization)
        carry_by(new_adapter(base, warmup.lora, settings.seed, in_float32=False), settings.layers)
        del base
        free_memory()


def warmup_of(settings: Settings) -> tuple[WarmupSettings | None, str]:
    """Return the warmup that the settings stand for, None for a fresh adapter; and its name."""
    if isinstance(settings.warmup, WarmupSettings):
        return settings.warmup, "own"
    if settings.warmup == "none":
        return None, "none"
    is_small = settings.warmup == "small" or (settings.warmup == "auto" and _is_small(settings))
    preset, name = (SMALL, "small") if is_small else (WarmupSettings(), "less")
    return preset.model_copy(update={"lora": _on_targets(preset.lora, settings)}), name


def _on_targets(lora: LoraSettings, settings: Settings) -> LoraSettings:
    """Return an adapter's shape, on the layers that the settings name where they do."""
    return lora if settings.lora_targets is None else lora.model_copy(update={"targets": settings.lora_targets})


def _is_small(settings: Settings) -> bool:
    return parameter_count(model_name(settings)) < SMALL_MODEL


def _record(
    settings: Settings, warmup: WarmupSettings, pool: Pool, renderer: Renderer, model: Fingerprint
) -> dict[str, Any]:
    """Return what the weights of a warmup depend on."""
    quantized = {} if settings.quantization == "none" else {"quantization": settings.quantization}
    return quantized | {
        "warmup": warmup.model_dump(mode="json"),
        "model": model,
        **tokenizer_fingerprint(renderer),
        "seed": settings.seed,
        "max_length": settings.max_length,
        "dtype": str(compute_dtype(settings.dtype)),
        "files": contents_of(pool.files),
    }


def _train(
    settings: Settings, warmup: WarmupSettings, pool: Pool, n_rows: int, renderer: Renderer, folder: Path
) -> list[Path]:
    """Train on the first ``n_rows`` of the pool, which were all there were when the warmup began."""
    examples = [pool[row] for row in warmup_rows(n_rows, warmup, settings.seed)]
    _, sequences, _ = NextToken(renderer, settings.max_length).prepare(examples)
    if not sequences:
        raise DataError("none of the records drawn for the warmup leaves a response to learn from")
    steps = math.ceil(len(sequences) / warmup.batch) * warmup.epochs
    log(
        f"warmup ({warmup_of(settings)[1]} settings): {len(sequences):,} examples × {warmup.epochs}, "
        f"{steps} steps, LoRA rank {warmup.lora.rank}"
    )
    then = "The same command goes on from the last epoch that was finished"
    with translate_disk_errors(f"the warmup to {folder}", then):
        return train(
            model_name(settings),
            sequences,
            warmup,
            out=folder,
            seed=settings.seed,
            pad_id=padding_id(renderer.tokenizer),
            dtype=settings.dtype,
            quantization=settings.quantization,
            gradient_checkpointing=settings.gradient_checkpointing,
        )


def new_lora(settings: Settings) -> LoraSettings:
    """Return the shape of an adapter that no warmup has trained: the preset's for the model's size."""
    return _on_targets(SMALL.lora if _is_small(settings) else WarmupSettings().lora, settings)


def _fresh_from(settings: Settings, model: Fingerprint) -> Fingerprint:
    """Return what an adapter that was never trained depends on."""
    return {"model": model, "seed": settings.seed, "lora": new_lora(settings).model_dump(mode="json")}


def _fresh_adapter(settings: Settings, parent: Path, model: Fingerprint) -> Path:
    """Return a folder with an adapter that was never trained, made once for a model and a seed."""
    lora, made_from = new_lora(settings), _fresh_from(settings, model)
    layout, name = WarmupLayout(parent), digest(made_from)
    folder = layout.fresh_adapter(name)
    if not folder.exists():
        part = layout.fresh_adapter_part(name)
        base = load_base(model_name(settings), compute_dtype(settings.dtype), settings.quantization)
        with translate_disk_errors(f"an adapter to {part}"):
            new_adapter(base, lora, settings.seed, in_float32=True).save_pretrained(part)  # type: ignore[operator]
            part.rename(folder)  # whole or not at all
    return folder


def _weigh_checkpoints(paths: list[Path]) -> tuple[list[Path], list[Checkpoint]]:
    weights = checkpoint_weights(paths)
    if weights is None:
        weights = [1 / len(paths)] * len(paths)
        if len(paths) > 1:
            log("the checkpoints record no learning rates: each weighs the same")
    return paths, [Checkpoint(name=path.name, weight=weight) for path, weight in zip(paths, weights, strict=True)]


def checkpoint_inputs(settings: Settings, pool: Pool, renderer: Renderer, model: Fingerprint) -> Fingerprint:
    """Return what the checkpoints depend on, known before any is trained."""
    if settings.checkpoints:
        return {"adapters": adapter_fingerprint([Path(path) for path in settings.checkpoints])}
    warmup, _ = warmup_of(settings)
    if warmup is None:
        return {"adapter": _fresh_from(settings, model)}
    return {"warmup": _record(settings, warmup, pool, renderer, model)}
