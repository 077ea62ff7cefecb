"""``train.yaml``: what a fine-tuned model was made from, kept beside its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from handpick.documents import parse_yaml
from handpick.errors import ModelError, first_line
from handpick.fingerprint import Fingerprint, require_same
from handpick.layout import FinetuneLayout
from handpick.model import MODEL_CONFIG
from handpick.store.files import open_atomically
from handpick.training.checkpoint import ADAPTER_CONFIG


def read_record(folder: Path) -> dict[str, Any] | None:
    """Read the record of a folder that ``finetune`` has begun or finished; None where there is none.

    Raises:
        ModelError: it cannot be read.
    """
    path = FinetuneLayout(folder).record
    try:
        found = parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({first_line(error)}); remove {folder}") from error
    if not isinstance(found, dict) or not isinstance(found.get("made_from"), dict):
        raise ModelError(f"{path} is no record of a fine-tuning; remove it, or give another --out")
    return found


def is_finished(folder: Path, made_from: Fingerprint) -> bool:
    """Return whether a folder holds the finished model of these inputs; False where it was begun, or nothing is there.

    Raises:
        FingerprintMismatch: it was begun or finished with others.
        ModelError: a model is there that no record tells of, or the record cannot be read.
    """
    path = FinetuneLayout(folder).record
    record = read_record(folder)
    if record is not None:
        require_same(record["made_from"], made_from, what=f"the model in {folder}")
        return bool(record.get("finished"))
    for name in (ADAPTER_CONFIG, MODEL_CONFIG):
        if (folder / name).exists():
            raise ModelError(f"{folder} holds another model ({name}) and no {path.name}; give another --out")
    return False


def write_record(folder: Path, made_from: Fingerprint, about: Mapping[str, Any], *, finished: bool) -> None:
    """Write the record whole. ``about`` is what else a reader wants to know; nothing compares it."""
    text = yaml.safe_dump({"finished": finished, **about, "made_from": made_from}, sort_keys=False, allow_unicode=True)
    with open_atomically(FinetuneLayout(folder).record) as file:
        file.write(text.encode())
