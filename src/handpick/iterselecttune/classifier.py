"""A text classifier that says how likely an example is hard, trained anew in every round from its encoder.

The model M of IterSelectTune (arXiv 2410.13464), which takes BERT: its [CLS] state, or what else an architecture's
head in transformers reads, and two outputs. Hard examples are the fewer as a rule, so the cross-entropy weighs a class
by n / (2 · n_class).

Nothing here runs code that comes with an encoder, and nothing is pickled.

Legend: N texts, B texts of a batch, T tokens.
"""

import glob
import json
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from handpick.documents import DAMAGED
from handpick.errors import DataError, ModelError, StoreError
from handpick.files import place_folder
from handpick.fingerprint import Fingerprint, digest, file_digest
from handpick.gradients.kernels import fast_exact_float32
from handpick.iterselecttune.classifier_settings import ClassifierSettings
from handpick.iterselecttune.encoder import max_readable_tokens, new_classifier, padding_token
from handpick.layout import ClassifierLayout
from handpick.listing import files_below, matching
from handpick.model import device, has_bfloat16, load_tokenizer, load_weights
from handpick.progress import progress
from handpick.training.disk import translate_disk_errors

_BATCH = 32  # texts of like length that are read together
_PART = 4  # texts of like length that are trained on together on a CPU; all of a step's texts still make one loss
_WINDOW = 4096  # texts whose tokens are held at a time


class Classifier:
    """How likely texts are hard, by a model in a folder: ``train`` makes one, ``open`` reads one."""

    def __init__(self, model: nn.Module, tokenizer: Any, record: Mapping[str, Any], folder: Path) -> None:
        self.folder = folder
        self._model: Any = model.to(device()).eval()
        self._tokenizer = tokenizer
        self._record = record

    @classmethod
    def train(
        cls,
        texts: Sequence[str],
        hard: Sequence[bool],
        folder: Path,
        settings: ClassifierSettings,
        *,
        seed: int,
        quiet: bool = False,
    ) -> "Classifier":
        """Fine-tune the encoder of ``settings.model`` and save it; the head is drawn anew every time.

        On a CPU the same texts, settings, seed and number of threads give the same weights, bit for bit. The folder
        appears when it is whole; a classifier that is there is replaced.

        Args:
            texts: of examples that were judged, N; one may be empty, and is cut off at ``max_length`` tokens.
            hard: whether each is hard, (N,).
            folder: of the classifier.
            settings: the encoder and the recipe. AdamW with weight decay 0.01, a learning rate that rises for a tenth
                of the steps and falls to zero in a line.
            seed: of the head, the order and the dropout.
            quiet: no progress bar.

        Raises:
            DataError: there are not as many labels as texts, or fewer than two texts of a kind.
            SettingsError: the package with the encoder is not installed.
            ModelError: the encoder cannot be loaded or classifies no texts; training diverged or memory ran out.
            StoreError: the folder holds something else, or cannot be written.
        """
        labels_N = _labels(texts, hard)
        _check_free(folder)
        with _silence_transformers(), _fix_seed(seed), _translate_errors(folder):
            model, tokenizer = new_classifier(settings.model)
            max_length = min(settings.max_length, max_readable_tokens(model, tokenizer))
            rows = [
                {"ids": ids, "label": label}
                for ids, label in zip(
                    _ids(tokenizer, texts, max_length, padding_token(model)), labels_N.tolist(), strict=True
                )
            ]
            with tempfile.TemporaryDirectory() as scratch:
                trainer = _trainer(model, rows, settings, _class_weights(labels_N), seed, scratch)
                _fit(trainer, 0 if quiet else -(-len(rows) // settings.batch) * settings.epochs)
            record = {
                "settings": settings.model_dump(mode="json"),
                "seed": seed,
                "examples": len(rows),
                "hard": int(labels_N.sum()),
                "max_length": max_length,
            }
            _save(model, tokenizer, record, folder)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> "Classifier":
        """Load the classifier of a folder that ``train`` wrote, on ``handpick.model.device()``.

        Raises:
            StoreError: there is none, or a file is missing or damaged.
            ModelError: it cannot be loaded with the transformers installed here.
        """
        from transformers import AutoModelForSequenceClassification

        record = _read_record(folder)
        with _silence_transformers():
            model = load_weights(AutoModelForSequenceClassification, str(folder), torch.float32, "classifier")
            return cls(model, load_tokenizer(str(folder)), record, folder)

    def probabilities(
        self, texts: Sequence[str], advance: Callable[[float], None] = lambda n: None
    ) -> NDArray[np.float32]:
        """Return the probability of being hard, float32 (N,), in the order of the texts.

        It computes in float32 everywhere; with what other texts a text stands changes no more than rounding.

        Args:
            texts: N, of any length; empty ones too.
            advance: told how many more are done.
        """
        hard_N = np.empty(len(texts), dtype=np.float32)
        # tokens are counted a window at a time, so windows are made of texts of like length: little is padded
        by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        pad = padding_token(self._model)
        with torch.inference_mode(), fast_exact_float32():
            for start in range(0, len(texts), _WINDOW):
                window = by_length[start : start + _WINDOW]
                ids = _ids(self._tokenizer, [texts[i] for i in window], self._record["max_length"], pad)
                by_tokens = sorted(range(len(ids)), key=lambda j: len(ids[j]))
                for first in range(0, len(ids), _BATCH):
                    members = by_tokens[first : first + _BATCH]
                    inputs = {name: t.to(device()) for name, t in _pad([ids[j] for j in members], pad).items()}
                    probability_B2 = self._model(**inputs).logits.float().softmax(-1)
                    hard_N[[window[j] for j in members]] = probability_B2[:, 1].cpu().numpy()
                    advance(len(members))
        return hard_N

    def fingerprint(self) -> Fingerprint:
        """Return the bytes of its files, and how much of a text it reads."""
        return {"classifier": digest(self._record["files"]), "max_length": self._record["max_length"]}


def _labels(texts: Sequence[str], hard: Sequence[bool]) -> NDArray[np.int64]:
    if len(texts) != len(hard):
        raise DataError(f"{len(texts):,} texts do not go with {len(hard):,} labels")
    labels_N = np.asarray(hard, dtype=bool).astype(np.int64)
    n_hard = int(labels_N.sum())
    for n, kind in ((n_hard, "hard"), (len(labels_N) - n_hard, "easy")):
        if n < 2:
            raise DataError(
                f"{n} of {len(labels_N):,} judged examples {'is' if n == 1 else 'are'} {kind}, and a classifier needs "
                "two of either kind: judge more examples a round"
            )
    return labels_N


def _class_weights(labels_N: NDArray[np.int64]) -> torch.Tensor:
    """Return n / (2 · n_class), float32 (2,): the same weight for either class as a whole."""
    return torch.tensor(len(labels_N) / (2 * np.bincount(labels_N, minlength=2)), dtype=torch.float32)


def _ids(tokenizer: Any, texts: Sequence[str], max_length: int, pad: int) -> list[list[int]]:
    """Return the tokens of each text, at least one."""
    if not texts:
        return []
    found = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return [ids or [pad] for ids in found["input_ids"]]


def _pad(rows: Sequence[Sequence[int]], pad: int) -> dict[str, torch.Tensor]:
    """Return token ids and attention mask, int64 (B, T), filled up on the right."""
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([[*ids, *[pad] * (longest - len(ids))] for ids in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in rows]),
    }


def _trainer(
    model: Any,
    rows: Sequence[Mapping[str, Any]],
    settings: ClassifierSettings,
    weights_2: torch.Tensor,
    seed: int,
    scratch: str,
) -> Any:
    """Make transformers' Trainer with our loss, which writes nothing. It puts the model on ``device()``."""
    from transformers import PrinterCallback, Trainer, TrainingArguments

    on_cpu = device().type == "cpu"
    n_steps = -(-len(rows) // settings.batch) * settings.epochs
    arguments = TrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=settings.batch,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.01,
        optim="adamw_torch",
        # an only step would have a learning rate of zero, and teach nothing
        warmup_steps=0.1 if n_steps > 1 else 0,
        seed=seed % 2**32,
        data_seed=seed % 2**32,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=on_cpu,
        bf16=not on_cpu and has_bfloat16(),
        dataloader_pin_memory=not on_cpu,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # without a launcher, one of the GPUs
    pad = padding_token(model)

    def collate(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        items = sorted(items, key=lambda item: len(item["ids"]))
        return {**_pad([item["ids"] for item in items], pad), "labels": torch.tensor([i["label"] for i in items])}

    def loss(outputs: Any, labels_B: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        return F.cross_entropy(outputs.logits.float(), labels_B, weight=weights_2.to(labels_B.device))

    class InParts(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            in_parts = partial(_logits_in_parts, model, _PART if on_cpu else settings.batch)
            return super().compute_loss(in_parts, inputs, *args, **kwargs)  # type: ignore[arg-type]

    trainer: Any = InParts(
        model=model, args=arguments, train_dataset=rows, data_collator=collate, compute_loss_func=loss
    )
    trainer.model_accepts_loss_kwargs = False  # else the number of examples goes into the model, which may refuse it
    trainer.remove_callback(PrinterCallback)
    return trainer


def _logits_in_parts(model: Any, n: int, **inputs: torch.Tensor) -> SimpleNamespace:
    """Compute a batch's logits (B, 2), sorted by length, ``n`` texts at a time, so that little is padded."""
    logits = []
    for start in range(0, len(inputs["input_ids"]), n):
        longest = int(inputs["attention_mask"][start : start + n].sum(1).max())
        logits.append(model(**{name: t[start : start + n, :longest] for name, t in inputs.items()}).logits)
    return SimpleNamespace(logits=torch.cat(logits))


def _fit(trainer: Any, n_steps: int) -> None:
    """Train, with a bar of so many steps, or none."""
    from transformers import TrainerCallback

    with progress("training the classifier", total=n_steps) if n_steps else nullcontext(lambda n: None) as advance:

        class ProgressCallback(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                advance(1)

        trainer.add_callback(ProgressCallback())
        with fast_exact_float32():
            trainer.train()
    for name, weight in trainer.model.named_parameters():
        if not bool(torch.isfinite(weight).all()):
            raise ModelError(f"the classifier's training diverged: {name} is not finite; give a lower learning rate")


def _check_free(folder: Path) -> None:
    """Refuse to write over what is no classifier."""
    if folder.exists() and not (
        folder.is_dir() and (not any(folder.iterdir()) or ClassifierLayout(folder).record.exists())
    ):
        raise StoreError(f"{folder} holds something that is no classifier; name another folder")


def _save(model: Any, tokenizer: Any, record: Mapping[str, Any], folder: Path) -> None:
    """Write the classifier beside its folder and rename it: it is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part, old = (folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.partial") for _ in range(2))
    try:
        model.save_pretrained(str(part))
        tokenizer.save_pretrained(str(part))
        files = {path.relative_to(part).as_posix(): file_digest(path) for path in files_below(part)}
        kept = ClassifierLayout(part).record
        kept.write_text(json.dumps({**record, "files": files}, indent=2, sort_keys=True) + "\n", "utf-8")
        if folder.exists():
            os.replace(folder, old)
        place_folder(part, folder)
    finally:  # also of runs that were killed
        with suppress(OSError):  # a folder that cannot be listed, or is not ours to clear
            for left_over in matching(folder.parent, f".{glob.escape(folder.name)}.*.partial"):
                shutil.rmtree(left_over, ignore_errors=True)


def _read_record(folder: Path) -> dict[str, Any]:
    """Read what ``train`` wrote about a folder, every file of which is as it was."""
    kept = ClassifierLayout(folder).record
    try:
        record: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        files, max_length = dict(record["files"]), int(record["max_length"])
    except FileNotFoundError as error:
        raise StoreError(f"there is no whole classifier in {folder}; train it again") from error
    except DAMAGED as error:
        raise StoreError(f"{kept} is damaged; remove {folder} and train the classifier again") from error
    for name, want in files.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != want:
            raise StoreError(
                f"{path} is {'damaged' if path.exists() else 'missing'}; remove {folder} and train the classifier again"
            )
    return {**record, "files": files, "max_length": max_length}


@contextmanager
def _silence_transformers() -> Iterator[None]:
    """Let transformers tell errors alone while open; a head that is drawn is nothing to warn of."""
    from transformers import logging

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()


@contextmanager
def _fix_seed(seed: int) -> Iterator[None]:
    """Set every random state to this seed while open; the caller's are put back, which the Trainer would not do."""
    from transformers import set_seed

    of_python, of_numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device()] if device().type == "cuda" else []):
        try:
            set_seed(seed % 2**32)
            yield
        finally:
            random.setstate(of_python)
            np.random.set_state(of_numpy)


@contextmanager
def _translate_errors(folder: Path) -> Iterator[None]:
    """Report what the disk or the GPU refuses as one sentence."""
    try:
        with translate_disk_errors(f"the classifier to {folder}"):
            yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "the GPU's memory does not hold the classifier's training: lower its batch or its max_length"
        ) from error
