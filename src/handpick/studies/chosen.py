"""What every cell of a study is trained on: its choice, made once for all cells that share it, and its ids."""

from collections.abc import Callable
from itertools import takewhile

from handpick.errors import HandpickError, SettingsError
from handpick.model import free_memory
from handpick.progress import log
from handpick.studies.cells import FULL, ZERO_SHOT, CellKey
from handpick.studies.choosing import Chooser, GivenSelection, PlannedSelection, prefix_holds
from handpick.studies.grid import budgets_of, quantile_of
from handpick.studies.opened import StudyInputs
from handpick.studies.trained import reason_of


class CellSelections:
    """The choices of a study's cells; what stops one is among the reasons of its cells."""

    def __init__(self, opened: StudyInputs) -> None:
        self._opened = opened
        self.chooser = Chooser(opened.settings, opened.steps, opened.pool)
        self._choices: dict[CellKey, PlannedSelection] = {}
        self._ids: dict[str, list[str]] = {}  # by the choice's name

    def choice(self, place: CellKey) -> PlannedSelection | None:
        """Return what a cell's examples come from; None where it has none of its own, or it cannot be had."""
        if place in self._choices:
            return self._choices[place]
        opened = self._opened
        if not opened.is_open(place) or place.method in (ZERO_SHOT, FULL) or place in opened.reasons:
            return None
        try:
            usable = opened.n_usable(place.model)
            if place.quantile is None and place.budget is not None and place.budget > usable:
                raise SettingsError(f"the budget is {place.budget:,}, and {usable:,} of the pool can be trained on")
            choice = self._choose_for(place)
            if choice.given is not None:
                self._check_holds_budget(place, choice.given)
            self._choices[place] = choice
        except Exception as error:
            opened.reasons[place] = reason_of(error)
            return None
        return self._choices[place]

    def _choose_for(self, place: CellKey) -> PlannedSelection:
        opened = self._opened
        model = opened.models[place.model]
        if opened.settings.selection_of(place.method) is not None:
            return self.chooser.given_selection(place.method, model, place.target)
        ask = (place.method, model, place.target, opened.targets[place.target].query)
        exclude_ids = opened.unusable(place.model)
        if place.budget is None or place.quantile is not None:
            return self.chooser.plan_selection(*ask, None, place.seed, exclude_ids)
        choice = self.chooser.plan_selection(*ask, self._largest(place.model), place.seed, exclude_ids)
        if choice.settings is not None and not prefix_holds(choice.settings):
            choice = self.chooser.plan_selection(*ask, place.budget, place.seed, exclude_ids)
        return choice

    def _check_holds_budget(self, place: CellKey, given: GivenSelection) -> None:
        """Raise SettingsError where a selection that was made elsewhere holds fewer than the budget."""
        unusable = self._opened.unusable(place.model)
        left_out = sum(example_id in unusable for example_id in given.ids)
        usable = len(given.ids) - left_out
        if place.budget is not None and place.budget > usable:
            but = f" that can be trained on, and {left_out:,} that cannot" if left_out else ""
            raise SettingsError(
                f"the budget is {place.budget:,}, and the selection in {given.folder} holds {usable:,}{but}"
            )

    def _largest(self, model: str) -> int:
        """Return the largest of the budgets that the pool has enough examples for."""
        usable = self._opened.n_usable(model)
        return max(b for b in budgets_of(self._opened.settings, self._opened.pool) if b <= usable)

    def by_choice(self) -> dict[str, tuple[PlannedSelection, list[CellKey]]]:
        """Return the choices of all cells, with the cells that share one, by name, in the order of the grid."""
        found: dict[str, tuple[PlannedSelection, list[CellKey]]] = {}
        for place in self._opened.places:
            choice = self.choice(place)
            if choice is not None:
                found.setdefault(choice.name, (choice, []))[1].append(place)
        return found

    def choose_all(self, go_on: Callable[[], bool] = lambda: True) -> None:
        """Make what is missing, as long as it may go on; a choice that cannot be made fails its cells alone."""
        wanted = self.by_choice()
        missing = [name for name, (choice, places) in wanted.items() if self._is_missing(choice, places)]
        if missing:
            log(f"{len(missing)} of {len(wanted)} selections to make")
        made: set[str] = set()
        for name in takewhile(lambda _: go_on(), missing):
            choice, places = wanted[name]
            first = places[0]
            log(
                f"choosing: {first.method} for {first.target}"
                if "query" in choice.inputs
                else f"choosing: {first.method}"
            )
            try:
                self._ids[name] = self.chooser.choose(choice)
                made.add(name)
            except Exception as error:  # whatever it is, the other cells go on
                for place in places:
                    self._opened.reasons[place] = reason_of(error)
                log(f"failed: {first.method}: {reason_of(error)}")
                free_memory()
        self._restore_last([choice for choice, _ in wanted.values() if choice.name in self._ids], made)

    def _restore_last(self, there: list[PlannedSelection], made: set[str]) -> None:
        """Have folders that choices share hold the last of the grid's, as if none had failed before and been made now.

        Args:
            there: the choices that are made, in the order of the grid.
            made: the names of those that were made just now.
        """
        of_folder: dict[str, list[PlannedSelection]] = {}
        for choice in there:
            if choice.settings is not None and choice.settings.out is not None:
                of_folder.setdefault(choice.settings.out, []).append(choice)
        for folder, choices in of_folder.items():
            if choices[-1].name not in made and any(choice.name in made for choice in choices):
                try:
                    self.chooser.select(choices[-1])
                except Exception as error:  # the choice itself stands in a folder of its own
                    log(f"{choices[-1].name} is not the last in {folder}: {reason_of(error)}")

    def _is_missing(self, choice: PlannedSelection, places: list[CellKey]) -> bool:
        try:
            return self._cached_ids(choice) is None
        except HandpickError as error:  # half of the step was removed
            for place in places:
                self._opened.reasons[place] = f"{error}; or remove {self._opened.steps.path(choice.name)}"
            return False

    def _cached_ids(self, choice: PlannedSelection) -> list[str] | None:
        """Return the ids of a choice that is made, read once."""
        if choice.name not in self._ids:
            there = self.chooser.read_ids(choice)
            if there is None:
                return None
            self._ids[choice.name] = there
        return self._ids[choice.name]

    def ids(self, place: CellKey) -> list[str] | None:
        """Return what a cell is trained on; None where that is not chosen."""
        if place.model not in self._opened.models:
            return None
        if place.method == FULL:
            unusable = self._opened.unusable(place.model)
            return [example_id for example_id in self._opened.pool.ids() if example_id not in unusable]
        choice = self.choice(place)
        found = None if choice is None or place in self._opened.reasons else self._cached_ids(choice)
        if found is None:
            return None
        unusable = self._opened.unusable(place.model)  # one made elsewhere may have some
        ids = [example_id for example_id in found if example_id not in unusable]
        quantiles = self._opened.settings.quantiles
        if quantiles is not None and place.quantile is not None:
            return quantile_of(ids, quantiles.bins, place.quantile, quantiles.each)
        return ids[: place.budget]

    def subset(self, place: CellKey) -> tuple[str, str, int | None, int | None] | None:
        """Return what tells a cell's examples from others', whatever its seed; None where it has no choice."""
        if place.method == FULL:
            return place.model, FULL, None, None
        choice = self._choices.get(place)
        return None if choice is None else (place.model, choice.name, place.budget, place.quantile)
