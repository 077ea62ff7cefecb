"""Checkpoints of our own making say what their files are, so that a damaged one is not trained on or scored by.

``digests.json`` has the SHA-256 of every file that was in the folder when it was written. Folders of other trainers,
and ours of before, have none, and are taken as they are.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from handpick.errors import ModelError
from handpick.files import atomic_write, sync_folder
from handpick.fingerprint import file_digest
from handpick.layout import CheckpointLayout, TacsPathLayout, WarmupLayout
from handpick.listing import files_below
from handpick.sealed import read_sealed, write_sealed

# peft's names
ADAPTER_FILE = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

_SETS = ("target_modules", "exclude_modules")  # of peft's config, written in the order of their hashes


def order_adapter_config(folder: Path) -> None:
    """Write what is a set in peft's config in one order, which peft does not: the same adapter, the same bytes."""
    path = folder / ADAPTER_CONFIG
    config = json.loads(path.read_bytes())
    for name in _SETS:
        if isinstance(config.get(name), list):
            config[name] = sorted(config[name])
    atomic_write(path, json.dumps(config, indent=2, sort_keys=True).encode())


def seal_checkpoint(folder: Path) -> None:
    """Write down what the files of a checkpoint are, when all are there; on the disk when this returns.

    Raises:
        StoreError, OSError: the file system refuses.
    """
    if (folder / ADAPTER_CONFIG).exists():
        order_adapter_config(folder)
    names = sorted(path.relative_to(folder).as_posix() for path in files_below(folder))
    write_sealed(CheckpointLayout(folder).digests, {"files": {name: file_digest(folder / name) for name in names}})
    sync_folder(folder)


def remove_files(folder: Path, paths: Iterable[Path]) -> None:
    """Remove files of a checkpoint that was written, and what is said of them.

    Raises:
        StoreError, OSError: the file system refuses.
    """
    for path in paths:
        path.unlink()
    left = {name: sha256 for name, sha256 in _digests(folder).items() if (folder / name).exists()}
    write_sealed(CheckpointLayout(folder).digests, {"files": left})


def find_damage(folder: Path) -> Path | None:
    """Return the first file of a checkpoint that is not what was written; those that are gone are not looked at.

    Raises:
        StoreError: its digests are damaged themselves.
    """
    for name, wanted in _digests(folder).items():
        path = folder / name
        if path.is_file() and file_digest(path) != wanted:
            return path
    return None


def check_file(path: Path) -> None:
    """Raise ModelError where a file of a checkpoint of ours is not what was written, or is not there any more.

    Raises:
        DataError: the system does not let it be read.
    """
    digests = _digests(path.parent)
    if path.name not in digests:
        return
    if not path.is_file() or file_digest(path) != digests[path.name]:
        raise ModelError(
            f"{path} is damaged or gone: its checksum is another than when it was written; "
            f"{repair_advice(path.parent)}; where the change is meant, remove {CheckpointLayout(path.parent).digests}"
        )


def _digests(folder: Path) -> dict[str, str]:
    path = CheckpointLayout(folder).digests
    if not path.exists():
        return {}
    files: dict[str, str] = read_sealed(path, repair_advice(folder)).get("files", {})
    return files


def repair_advice(folder: Path) -> str:
    """Return what to do about a damaged checkpoint: its run's folder is named where it stands in one."""
    if WarmupLayout(folder.parent).record.exists() or TacsPathLayout(folder.parent).record.exists():
        return f"remove {folder.parent} and run the same again, and it is trained anew"
    return "put back the one that was written, or name another checkpoint"
