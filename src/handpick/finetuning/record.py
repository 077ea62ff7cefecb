"""``train.yaml``: what a fine-tuned model was made from and what its weights are, kept beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from handpick.documents import DAMAGED, parse_yaml
from handpick.errors import ModelError, first_line
from handpick.files import open_atomically
from handpick.fingerprint import Fingerprint, file_digest, require_same
from handpick.layout import FinetuneLayout
from handpick.listing import matching
from handpick.model import MODEL_CONFIG
from handpick.progress import log
from handpick.sealed import seal, unseal
from handpick.training.sealed_checkpoint import ADAPTER_CONFIG, ADAPTER_FILE


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of a folder that ``finetune`` has begun or finished; None where there is none.

    Raises:
        ModelError: it cannot be read.
    """
    path = FinetuneLayout(folder).record
    try:
        found = unseal(parse_yaml(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except DAMAGED as error:
        raise ModelError(f"{path} is damaged ({first_line(error)}); remove it, or give another --out") from error
    if not isinstance(found.get("made_from"), dict):
        raise ModelError(f"{path} is no record of a fine-tuning; remove it, or give another --out")
    return found


def is_finished(folder: Path, made_from: Fingerprint) -> bool:
    """Return whether a folder holds the finished model of these inputs; False where it was begun, or nothing is there.

    A model whose weights are gone or cut short is not finished, which is said.

    Raises:
        FingerprintMismatch: it was begun or finished with others.
        ModelError: a model is there that no record tells of, or the record cannot be read; or the weights are others
            than were written.
    """
    path = FinetuneLayout(folder).record
    record = read_record(folder)
    if record is not None:
        require_same(record["made_from"], made_from, what=f"the model in {folder}")
        if not record.get("finished"):
            return False
        if (missing := missing_weights(folder, record)) is not None:
            log(f"{missing} is gone or cut short: the model is trained again")
            return False
        check_weights(folder, record)
        return True
    for name in (ADAPTER_CONFIG, MODEL_CONFIG):
        if (folder / name).exists():
            raise ModelError(f"{folder} holds another model ({name}) and no {path.name}; give another --out")
    return False


def missing_weights(folder: Path, record: Mapping[str, Any]) -> Path | None:
    """Return the first file of a finished model's weights that is gone, empty or cut short; nothing is read of them."""
    wanted: Mapping[str, Mapping[str, Any]] = record.get("weights") or {}
    for name, facts in wanted.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size < facts["bytes"]:
            return path
    if wanted:
        return None
    # a record of before, which does not say what the weights are
    there = list(matching(folder, "*.safetensors"))
    return next((path for path in there if path.stat().st_size == 0), None if there else folder / ADAPTER_FILE)


def check_weights(folder: Path, record: Mapping[str, Any]) -> None:
    """Raise ModelError where the weights of a finished model are others than were written; a record of before does not
    say which they were.
    """
    for name, facts in (record.get("weights") or {}).items():
        path = folder / name
        if not path.is_file() or file_digest(path) != facts["sha256"]:
            raise ModelError(
                f"{path} is damaged: its checksum is not the one in {FinetuneLayout(folder).record}; remove it and "
                "run the same training again"
            )


def write_record(folder: Path, made_from: Fingerprint, about: Mapping[str, Any], *, finished: bool) -> None:
    """Write the record whole. ``about`` is what else a reader wants to know; nothing compares it."""
    document: dict[str, Any] = {"finished": finished, **about, "made_from": made_from}
    if finished:
        weights = list(matching(folder, "*.safetensors"))
        document["weights"] = {
            path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)} for path in weights
        }
    text = yaml.safe_dump(seal(document), sort_keys=False, allow_unicode=True)
    with open_atomically(FinetuneLayout(folder).record) as file:
        file.write(text.encode())
