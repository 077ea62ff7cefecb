"""What handpick ships: a small language model, a demo pool, the dev sets of three targets, and punkt's parameters.

``LICENSES.md`` beside this file says where each comes from and under which licence it stands.
"""

from importlib import resources
from pathlib import Path

from handpick.errors import DataError, ModelError, SettingsError

TARGETS = ("gsm8k", "boolq", "mbpp")

__all__ = ["TARGETS", "model_path", "pool_paths", "punkt_path", "target_path"]


def _root() -> Path:
    return Path(str(resources.files(__name__)))


def model_path() -> Path:
    """Return the folder of the shipped model and its tokenizer.

    Raises:
        ModelError: this installation came without the model.
    """
    path = _root() / "model"
    if not (path / "model.safetensors").is_file():
        raise ModelError(f"the bundled model is missing from {path}; reinstall handpick, or name a model with --model")
    return path


def pool_paths() -> list[Path]:
    """Return the files of the demo pool: the permissive part, then the share-alike part.

    Raises:
        DataError: this installation came without them.
    """
    return [_data(Path("pool", f"{part}.jsonl.gz")) for part in ("permissive", "share_alike")]


def target_path(name: str) -> Path:
    """Return the dev set of one of ``TARGETS``.

    Raises:
        SettingsError: no such target is shipped.
        DataError: this installation came without it.
    """
    if name not in TARGETS:
        raise SettingsError(f"no bundled target {name!r}; choose one of {', '.join(TARGETS)}")
    return _data(Path("targets", f"{name}.jsonl.gz"))


def punkt_path() -> Path:
    """Return the parameters by which English sentences are told apart.

    Raises:
        DataError: this installation came without it.
    """
    return _data(Path("punkt", "english.json.gz"))


def _data(relative: Path) -> Path:
    path = _root() / relative
    if not path.is_file():
        raise DataError(f"the bundled file {path} is missing; reinstall handpick")
    return path
