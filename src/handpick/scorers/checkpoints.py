"""Which checkpoints a run takes its gradients at: somebody else's, those of its own warmup, or a fresh adapter."""

import math
import shutil
from pathlib import Path
from typing import Any

from handpick.data.pool import Pool
from handpick.data.render import Renderer
from handpick.documents import as_object, reading
from handpick.errors import DataError, SettingsError, StoreError
from handpick.files import place_folder
from handpick.fingerprint import Fingerprint, digest, require_same
from handpick.gradients.carriers import carry_by
from handpick.layer_numbers import ALL
from handpick.layout import CheckpointLayout, CheckpointsLayout, RunLayout, WarmupLayout
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
from handpick.sealed import read_sealed, write_sealed
from handpick.settings import Settings
from handpick.store import Checkpoint
from handpick.store.manifest import contents_of
from handpick.training.checkpoint import check_checkpoint, check_moments
from handpick.training.checkpoint_weights import checkpoint_weights
from handpick.training.disk import translate_disk_errors
from handpick.training.sealed_checkpoint import ADAPTER_CONFIG, ADAPTER_FILE, find_damage, seal_checkpoint
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
    if warmup is not None and (there := read_record(record)) is not None:
        here = _record(settings, warmup, pool, renderer, model)
        # The pool may have grown since; features of its new files belong to the old warmup.
        here["files"] = here["files"][: len(there["files"])]
        there.pop("checkpoints", None)  # what came of it, not what it depends on
        require_same(there, here, what=f"the warmup in {record.parent}")


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
    record = read_record(RunLayout(settings.folder).warmup_record)
    return record is None or "checkpoints" not in record


def find_checkpoints(
    settings: Settings, pool: Pool, renderer: Renderer, model: Fingerprint
) -> tuple[list[Path], list[Checkpoint]]:
    """Return the checkpoint folders and what each weighs; trains the warmup where there is none yet.

    Raises:
        DataError: no example drawn for the warmup can be used.
        ModelError: what training or a foreign checkpoint raises.
        StoreError: the record of the warmup is damaged, or a checkpoint that it names is gone.
    """
    if settings.checkpoints:
        return _weigh_checkpoints([Path(path) for path in settings.checkpoints])
    warmup, _ = warmup_of(settings)
    folder = RunLayout(settings.folder).warmup
    if warmup is None:
        return _weigh_checkpoints([_fresh_adapter(settings, folder, model)])
    record_path = WarmupLayout(folder).record
    record = read_record(record_path) or _record(settings, warmup, pool, renderer, model)
    if "checkpoints" not in record:
        _check_carriers(settings, warmup)
        folder.mkdir(parents=True, exist_ok=True)
        write_sealed(record_path, record)  # a run that is killed from here on is resumed
        n_rows = sum(file["rows"] for file in record["files"])
        record["checkpoints"] = [path.name for path in _train(settings, warmup, pool, n_rows, renderer, folder)]
        write_sealed(record_path, record)
    for own in (CheckpointLayout(folder / name).record for name in record["checkpoints"]):
        if not own.is_file():
            raise StoreError(f"{own} is gone, or the whole of its checkpoint; {_trained_anew(record_path)}")
    return _weigh_checkpoints([folder / name for name in record["checkpoints"]])


def read_record(path: Path) -> dict[str, Any] | None:
    """Read what a warmup was made from, and its checkpoints once there are all; None where none was begun.

    Raises:
        StoreError: it is damaged, or gone from beside its checkpoints.
    """
    advice = _trained_anew(path)
    if not path.exists():
        if CheckpointsLayout(path.parent).checkpoints():
            raise StoreError(f"{path} is gone, which says what the checkpoints beside it are made from; {advice}")
        return None
    record = read_sealed(path, advice)
    with reading(path, StoreError, advice):
        if any(int(as_object(file)["rows"]) < 0 for file in record["files"]):
            raise ValueError("a file has no rows")
        if not all(isinstance(name, str) and Path(name).name == name for name in record.get("checkpoints", [])):
            raise ValueError("checkpoints are no folders beside it")
    return record


def _trained_anew(record: Path) -> str:
    return f"remove {record.parent} and run the same again, and the warmup is trained anew"


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
    if folder.exists() and (damaged := _find_fresh_damage(folder)) is not None:
        log(f"{damaged} is damaged or gone: the adapter is made anew")
        shutil.rmtree(folder)
    if not folder.exists():
        part = layout.fresh_adapter_part(name)
        shutil.rmtree(part, ignore_errors=True)
        base = load_base(model_name(settings), compute_dtype(settings.dtype), settings.quantization)
        with translate_disk_errors(f"an adapter to {part}"):
            new_adapter(base, lora, settings.seed, in_float32=True).save_pretrained(part)  # type: ignore[operator]
            seal_checkpoint(part)
            place_folder(part, folder)  # whole or not at all
    return folder


def _find_fresh_damage(folder: Path) -> Path | None:
    """Return the first file of an adapter that was never trained which is damaged or gone."""
    try:
        damaged = find_damage(folder)
    except StoreError:
        return CheckpointLayout(folder).digests
    gone = (path for path in (folder / ADAPTER_FILE, folder / ADAPTER_CONFIG) if not path.exists())
    return damaged or next(gone, None)


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
