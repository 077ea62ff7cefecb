"""handpick chooses, out of a large pool of instruction data, the few examples that teach a language model a task."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handpick.algorithms import rank
    from handpick.errors import HandpickError
    from handpick.pipeline import represent_pool, select
    from handpick.selection import Selection
    from handpick.store import FeatureStore

__all__ = ["FeatureStore", "HandpickError", "Selection", "rank", "represent_pool", "select"]

# Loaded when first used, so that `import handpick` is quick.
_HOME = {
    "FeatureStore": "handpick.store",
    "HandpickError": "handpick.errors",
    "Selection": "handpick.selection",
    "rank": "handpick.algorithms",
    "represent_pool": "handpick.pipeline",  # `represent` is the room of the representations
    "select": "handpick.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'handpick' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
