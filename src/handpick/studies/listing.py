"""The steps of a study, done and to do, without doing any."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from handpick.errors import HandpickError
from handpick.studies.cells import ZERO_SHOT, CellKey
from handpick.studies.chosen import CellSelections
from handpick.studies.opened import StudyInputs
from handpick.studies.steps import step_name
from handpick.studies.trainings import Trainings

UNNAMED = "named once chosen"


@dataclass(frozen=True, slots=True)
class ListedStep:
    """A step of a study as ``--dry-run`` lists it; ``places`` are the cells that it is for."""

    kind: str
    name: str
    done: bool
    what: str
    places: list[CellKey] = field(default_factory=list)


def list_steps(opened: StudyInputs, chosen: CellSelections, trainings: Trainings) -> list[ListedStep]:
    """List every step once, in the order in which they are needed first.

    Fine-tunings are named by what they train on, so those of selections to be made are listed by their cells, and what
    is measured of them is not listed. A fine-tuning is done where its model is there, or nothing waits for it. Cells
    that cannot be done have no step; why stands in ``opened.reasons``.
    """
    waiting = trainings.waiting_cells()
    steps: dict[object, ListedStep] = {}

    def add(step: ListedStep, place: CellKey, key: object = None) -> None:
        steps.setdefault(key or step.name, step).places.append(place)

    for place in opened.places:
        for step in _choosing_steps(place, opened, chosen):
            add(step, place)
        try:
            name = trainings.name(place)
            evaluations = {} if name is None else trainings.evaluations(place, name)
        except HandpickError as error:
            opened.reasons[place] = str(error)
            continue
        if name is None:
            if place not in opened.reasons:
                step = ListedStep("training", UNNAMED, False, what_of(place))
                add(step, place, (chosen.subset(place), place.seed))
            continue
        if place.method != ZERO_SHOT:
            done = name not in waiting or trainings.has_model(name)
            again = "" if done or opened.steps.read_record(name) is None else "; again, since its model was not kept"
            add(ListedStep("training", name, done, what_of(place) + again), place)
        for each in evaluations.values():
            add(ListedStep("evaluation", each, opened.steps.read_record(each) is not None, what_of(place)), place)
    return list(steps.values())


def _choosing_steps(place: CellKey, opened: StudyInputs, chosen: CellSelections) -> Iterator[ListedStep]:
    """Yield the warmup and the choice of a cell."""
    choice = chosen.choice(place)
    if choice is None:
        return
    if choice.warmup is not None:
        name = step_name("warmup", choice.warmup)
        yield ListedStep("warmup", name, opened.steps.read_record(name) is not None, place.model)
    done = opened.steps.read_record(choice.name) is not None
    yield ListedStep(choice.name.partition("-")[0], choice.name, done, f"{place.method}, {place.target}")


def what_of(place: CellKey) -> str:
    """Return a cell, in words."""
    named = (place.method, place.target, place.budget)
    return ", ".join(str(each) for each in named if each is not None) + f", seed {place.seed}"
