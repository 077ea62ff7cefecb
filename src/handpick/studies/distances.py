"""How far every subset of a study is from the queries, in each of the study's kinds of features."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from handpick.algorithms import AlgorithmSettings
from handpick.fingerprint import digest
from handpick.layout import StepLayout
from handpick.pipeline.distances import distances_of, run_to_features
from handpick.progress import log
from handpick.sealed import read_sealed, write_sealed
from handpick.settings import Settings
from handpick.settings.constraints import Constraints
from handpick.studies.cells import FULL, ZERO_SHOT, CellKey
from handpick.studies.choosing import PlannedSelection
from handpick.studies.chosen import CellSelections
from handpick.studies.opened import StudyInputs
from handpick.studies.steps import step_name
from handpick.studies.trained import reason_of

NAMES = ("query_to_subset", "subset_to_query", "wasserstein", "mmd", "energy")
LARGEST = 3000  # examples: beyond, a distance takes a minute and gigabytes
_OF_THE_ALGORITHM = {*Constraints.model_fields, *AlgorithmSettings.model_fields}

Found = dict[str, dict[str, float]]


class StudyDistances:
    """How far the choices of a study's cells are from their queries."""

    def __init__(self, opened: StudyInputs, chosen: CellSelections) -> None:
        self._opened = opened
        self._chosen = chosen
        self._measured: dict[str, Found] = {}
        self._subset_names: dict[object, str] = {}
        self._features_of: dict[tuple[str, str], dict[str, PlannedSelection]] = {}

    def measure_all(self) -> None:
        """Measure what is missing; what cannot be is said, and stops nothing."""
        if find_spec("ot") is None:
            log("no distances: POT is not installed (pip install 'handpick[transport]')")
            return
        subsets: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
        too_large: set[str] = set()
        for place in self._opened.places:
            ids = self._ids(place)
            if ids and len(ids) <= LARGEST:
                subsets[place.model, place.target][self._subset(place, ids)] = ids
            elif ids:
                too_large.add(self._subset(place, ids))
        if too_large:
            log(f"no distances of {len(too_large):,} choices of more than {LARGEST:,} examples, which take too long")
        for (model, target), named in subsets.items():
            for method, choice in self._features(model, target).items():
                folder = self._opened.steps.path(_step_of(choice))
                if named.keys() <= read_distances(folder).keys():
                    continue
                try:
                    log(f"distances of {len(named)} subsets to {target}, by the features of {method}")
                    measure(self._chosen.chooser.prepare_settings(choice), named, folder)
                except Exception as error:
                    log(f"no distances by the features of {method} for {target}: {reason_of(error)}")

    def of_cell(self, place: CellKey) -> dict[str, dict[str, float]]:
        """Return a cell's distances, by the features that they are measured in."""
        ids = self._ids(place)
        if not ids:
            return {}
        found = {}
        for method, choice in self._features(place.model, place.target).items():
            name = _step_of(choice)
            if name not in self._measured:
                self._measured[name] = read_distances(self._opened.steps.path(name))
            if (own := self._measured[name].get(self._subset(place, ids))) is not None:
                found[method] = own
        return found

    def _ids(self, place: CellKey) -> list[str] | None:
        return None if place.method in (ZERO_SHOT, FULL) else self._chosen.ids(place)

    def _subset(self, place: CellKey, ids: list[str]) -> str:
        """Name a cell's subset by its ids, in whatever order."""
        key = self._chosen.subset(place)
        if key not in self._subset_names:
            self._subset_names[key] = digest(sorted(ids))
        return self._subset_names[key]

    def _features(self, model: str, target: str) -> dict[str, PlannedSelection]:
        """Return the kinds of features of a study, by the first method that has them."""
        key = (model, target)
        if key not in self._features_of:
            kinds: dict[str, tuple[str, PlannedSelection]] = {}  # by the step
            for place in self._opened.places:
                choice = self._chosen.choice(place) if (place.model, place.target) == key else None
                if choice is not None and choice.features is not None:
                    kinds.setdefault(_step_of(choice), (place.method, choice))
            self._features_of[key] = dict(kinds.values())
        return self._features_of[key]


def _step_of(choice: PlannedSelection) -> str:
    """Return what is measured: rows of the pool and of the queries, whatever then chooses by them."""
    what = ("features", "representation", "query", "objective", "reward")
    own = {n: value for n, value in choice.inputs["settings"].items() if n not in _OF_THE_ALGORITHM}
    return step_name("distances", {n: choice.inputs.get(n) for n in what} | {"settings": own})


def read_distances(folder: Path) -> Found:
    """Read what was measured so far, by the subset's name."""
    path = StepLayout(folder).distances
    found: Found = read_sealed(path, "remove it, and it is measured again") if path.exists() else {}
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
    _, features, column_of = run_to_features(settings.model_copy(update={"budget": "1"}))
    columns = {name: np.array([column_of[i] for i in own if i in column_of]) for name, own in missing.items()}
    found = distances_of(features, {name: own for name, own in columns.items() if len(own)})
    there |= {name: {each: float(getattr(own, each)) for each in NAMES} for name, own in found.items()}
    there = {name: there[name] for name in subsets if name in there} | there  # whatever was measured first
    folder.mkdir(parents=True, exist_ok=True)
    write_sealed(StepLayout(folder).distances, there)
    return there
