"""How far every subset of a study is from the queries, in each of the study's kinds of features."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from handpick.fingerprint import digest
from handpick.pipeline.measured import distances_of
from handpick.pipeline.ready import make_ready
from handpick.settings import Settings
from handpick.store.files import write_whole

NAMES = ("query_to_subset", "subset_to_query", "wasserstein", "mmd", "energy")
LARGEST = 3000  # examples: beyond, a distance takes a minute and gigabytes
_FILE = "distances.json"

Found = dict[str, dict[str, float]]


def can_measure() -> bool:
    """Whether POT is installed."""
    return find_spec("ot") is not None


def subset_name(ids: Sequence[str]) -> str:
    """Of a subset: its ids, in whatever order."""
    return digest(sorted(ids))


def read_distances(folder: Path) -> Found:
    """What was measured so far, by the subset's name."""
    path = folder / _FILE
    found: Found = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def measure(settings: Settings, subsets: Mapping[str, Sequence[str]], folder: Path) -> Found:
    """Measure what ``folder`` does not have yet, and keep it there.

    What has no features counts as not chosen: nothing is left of it to train on either. A subset without any is left
    out.

    Args:
        settings: of a selection by these features, for these queries.
        subsets: ids by the subset's name.
        folder: of the step.

    Raises:
        HandpickError: as ``run_select``.
    """
    there = read_distances(folder)
    missing = {name: ids for name, ids in subsets.items() if name not in there}
    if not missing:
        return there
    ready = make_ready(settings.model_copy(update={"budget": "1"}), None)
    ids = ready.pool.ids()
    column_of = {ids[row]: column for column, row in enumerate(ready.compared.rows.tolist())}
    columns = {name: np.array([column_of[i] for i in own if i in column_of]) for name, own in missing.items()}
    found = distances_of(ready.compared, {name: own for name, own in columns.items() if len(own)})
    there |= {name: {each: float(getattr(own, each)) for each in NAMES} for name, own in found.items()}
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / _FILE, json.dumps(there, indent=1).encode())
    return there
