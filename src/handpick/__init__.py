"""handpick chooses, out of a large pool of instruction data, the few examples that teach a language model a task."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handpick.algorithms import rank
    from handpick.api.audition import audition
    from handpick.api.evaluate import evaluate
    from handpick.api.iterselect import iterselect
    from handpick.api.look import look
    from handpick.api.plan import plan
    from handpick.api.select import represent_pool, select
    from handpick.api.study import report, study
    from handpick.api.train import tokenize, train
    from handpick.errors import HandpickError
    from handpick.selection import Selection
    from handpick.settings import Settings
    from handpick.store import FeatureStore

__all__ = [
    "FeatureStore",
    "HandpickError",
    "Selection",
    "Settings",
    "audition",
    "evaluate",
    "iterselect",
    "look",
    "plan",
    "rank",
    "report",
    "represent_pool",
    "select",
    "study",
    "tokenize",
    "train",
]

# Loaded when first used, so that `import handpick` is quick. No room may have one of these names: its import would put
# it in the function's place.
_HOME = {
    "FeatureStore": "handpick.store",
    "HandpickError": "handpick.errors",
    "Selection": "handpick.selection",
    "Settings": "handpick.settings",
    "audition": "handpick.api.audition",
    "evaluate": "handpick.api.evaluate",
    "iterselect": "handpick.api.iterselect",
    "look": "handpick.api.look",
    "plan": "handpick.api.plan",
    "rank": "handpick.algorithms",
    "report": "handpick.api.study",
    "represent_pool": "handpick.api.select",
    "select": "handpick.api.select",
    "study": "handpick.api.study",
    "tokenize": "handpick.api.train",
    "train": "handpick.api.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'handpick' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
