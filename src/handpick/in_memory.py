"""Names for what is handed over in Python.

Settings hold names of files and models. Records and models that exist in memory alone get one too,
``memory:WHAT-DIGEST`` with the digest of their content, so that equal content has one name and what was made of it is
found again. A name can be looked up, in its own process, for as long as somebody holds what it stands for.
"""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

PREFIX = "memory:"
MODEL_IS_HERE_ALONE = "a model that was handed over in Python is in this process alone"


class Held(Protocol):
    """What has a name here."""

    @property
    def name(self) -> str: ...


Kind = TypeVar("Kind", bound=Held)

_HELD: WeakValueDictionary[str, Any] = WeakValueDictionary()


def is_in_memory(name: object) -> bool:
    """Return whether a setting names something that was handed over in Python.

    No other process can look such a name up, so what it stands for cannot be worked on by several.
    """
    return isinstance(name, str) and name.startswith(PREFIX)


def memory_name(what: str, digest: str) -> str:
    """Return the name of what was handed over as ``what`` ("pool", "model") and has this digest, in hex digits."""
    return f"{PREFIX}{what}-{digest[:16]}"


def hold(thing: Kind) -> Kind:
    """Make a thing known under its name for as long as the caller keeps what this returns: it, or an equal one."""
    kept: Kind = _HELD.setdefault(thing.name, thing)
    return kept


def find_held(name: str, kind: type[Kind]) -> Kind | None:
    """Return what a name stands for, None where nobody in this process holds it any more, or it is of another kind."""
    found = _HELD.get(name)
    return found if isinstance(found, kind) else None


def named_in_memory(settings: Mapping[str, object]) -> list[str]:
    """Return which settings name what was handed over in Python, which no file of settings could bring back.

    Args:
        settings: by name, as ``model_dump`` gives them.
    """
    return [name for name, value in settings.items() if _names_memory(value)]


def _names_memory(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_names_memory, value.values()))
    return any(map(_names_memory, value)) if isinstance(value, list | tuple) else is_in_memory(value)
