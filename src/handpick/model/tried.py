"""What tries of a model have shown, kept for the next command: by what the model is, how it computes, whose code ran.

Every command would try a model anew: some seconds, the same each time. Kept is what a model stands for; a refusal is
found again. The records are small files in ``HANDPICK_CACHE``, else in the user's cache folder; where none can be
written or read, everything is tried.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import nn

from handpick.errors import HandpickError, StoreError
from handpick.fingerprint import Fingerprint, digest
from handpick.layout import TriedLayout, user_cache
from handpick.listing import files_below
from handpick.sealed import unseal, write_sealed

T = TypeVar("T")
_NAMED = ("torch", "transformers", "peft")  # libraries that what was found hangs on

_identities: "WeakKeyDictionary[nn.Module, Callable[[], Fingerprint]]" = WeakKeyDictionary()


def identify(model: nn.Module, what: Callable[[], Fingerprint]) -> None:
    """Take note of what a loaded model is; found out when it is first asked for."""
    _identities[model] = cache(what)


def try_once(model: nn.Module, attempt: str, find: Callable[[], T]) -> T:
    """Return what an attempt shows of a model: what it has shown before, else what ``find`` finds, which is kept.

    Args:
        model: tried every time where nobody has identified it.
        attempt: what is tried, in words.
        find: returns something that JSON can hold; what it raises is raised, and nothing is kept.
    """
    made = _made_with(model)
    if made is None:
        return find()
    there = _read(made)
    if attempt in there:
        known: T = there[attempt]
        return known
    shown = find()
    _write(made, _read(made) | {attempt: shown})
    return shown


def _write(made: Fingerprint, shown: dict[str, Any]) -> None:
    path = _path(made)
    with suppress(OSError, StoreError):  # a folder that nobody may write to: the next command tries again
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sealed(path, {"made with": made, "shown": shown})


def _made_with(model: nn.Module) -> Fingerprint | None:
    """Return all that decides what a try shows; None of a model that nobody has identified."""
    identity = _identities.get(model)
    if identity is None:
        return None
    try:
        own = identity()
    except HandpickError:  # whoever needs to know what the model is says why that cannot be told
        return None
    place = next(model.parameters()).device.type
    kind = torch.cuda.get_device_name() if place == "cuda" else torch.backends.cpu.get_cpu_capability()
    return own | {"device": f"{place} {kind}", "code": _own_code()} | {name: version(name) for name in _NAMED}


@cache
def _own_code() -> str:
    """Return what this handpick's files are known by, so that whoever changes one tries again."""
    root = Path(__file__).parents[1]
    files = [(path, path.stat()) for path in files_below(root) if path.suffix == ".py"]
    return digest([[str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns] for path, stat in files])


def _read(made: Fingerprint) -> dict[str, Any]:
    """Return what is kept of a model; nothing where the file is missing, damaged, or of another."""
    with suppress(OSError, ValueError, RecursionError):
        kept = unseal(json.loads(_path(made).read_text()))
        if kept.get("made with") == made and isinstance(kept.get("shown"), dict):
            shown: dict[str, Any] = kept["shown"]
            return shown
    return {}


def _path(made: Fingerprint) -> Path:
    return TriedLayout(user_cache()).of_model(digest(made))
