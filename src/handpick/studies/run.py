"""A study from settings to results: what is made already is found by its name, the rest is done, failures are told."""

from collections.abc import Callable, Mapping
from itertools import takewhile
from typing import Any

from handpick.executors import calls_for
from handpick.files import remove_left_overs
from handpick.layout import StudyLayout
from handpick.progress import log, progress
from handpick.run_place import hold_place
from handpick.studies.cells import ZERO_SHOT, Cell, CellKey, Results
from handpick.studies.chosen import CellSelections
from handpick.studies.distances import StudyDistances
from handpick.studies.listing import ListedStep, list_steps
from handpick.studies.opened import StudyInputs
from handpick.studies.settings import StudySettings
from handpick.studies.steps import read_seconds
from handpick.studies.trained import drop_model, evaluation_of, run_jobs
from handpick.studies.trainings import Trainings


def run_study(settings: StudySettings) -> Results:
    """Do what is missing of a study; ``results.json`` in its folder is written after every fine-tuning.

    Raises:
        HandpickError: the pool cannot be read, or the folder not be written. Whatever stops a single method, target,
            model or cell is in its cells.
    """
    with hold_place(settings.place):
        remove_left_overs(settings.folder)  # of one that was killed
        return Study(settings).run()


def plan_steps(settings: StudySettings) -> tuple[list[ListedStep], dict[CellKey, str]]:
    """List the steps of a study, done and to do, without doing any; and the cells that will fail, with why.

    Raises:
        HandpickError: the pool cannot be read.
    """
    study = Study(settings)
    return study.list_steps(), study.opened.reasons


class Study:
    """A study that is opened, and what is known of its cells so far."""

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings
        self.opened = StudyInputs(settings)
        self.chosen = CellSelections(self.opened)
        self.trainings = Trainings(self.opened, self.chosen)
        self._distances = StudyDistances(self.opened, self.chosen)
        self._done: dict[CellKey, Cell] = {}

    def run(self, go_on: Callable[[], bool] = lambda: True, *, distances: bool = True) -> Results:
        """Choose, measure how far the choices are, train, evaluate.

        Args:
            go_on: asked before each choice and each fine-tuning; once it says no, what is left stays missing.
            distances: whether to measure how far the choices are from the queries.
        """
        places, reasons = self.opened.places, self.opened.reasons
        calls = calls_for(self.opened.folder, **self.settings.who_computes)
        self.chosen.choose_all(go_on)
        if distances:
            self._distances.measure_all()
        waiting = self.trainings.waiting_cells()
        for name in self.trainings.finished_trainings(waiting):
            self._drop_model(name)
        done = sum(cell.status == "done" for cell in self._save_results().cells)
        with progress("cells", total=len(places), done=done) as advance:
            jobs = takewhile(lambda _: go_on(), self.trainings.jobs(waiting))
            for job, found in run_jobs(jobs, calls):
                for place in waiting[job.name]:
                    evaluations = self.trainings.evaluations(place, job.name).values()
                    failed = [reason for name in evaluations if (reason := found.get(name))]
                    if failed:
                        reasons[place] = failed[0]
                if job.recipe is not None and not any(found.values()):
                    self._drop_model(job.name)
                advance(sum(place not in reasons for place in waiting[job.name]))
                self._save_results()
        if reasons:
            log(f"{len(reasons):,} of {len(places):,} cells failed")
        return self._save_results()

    def list_steps(self) -> list[ListedStep]:
        """List the steps, done and to do."""
        return list_steps(self.opened, self.chosen, self.trainings)

    def results(self) -> Results:
        """Return the table as it stands."""
        return Results(
            name=self.settings.name,
            settings=self.settings.model_dump(mode="json", exclude_none=True),
            cells=[self._cell(place) for place in self.opened.places],
        )

    def _save_results(self) -> Results:
        results = self.results()
        results.save(StudyLayout(self.opened.folder).results)
        return results

    def _drop_model(self, training: str) -> None:
        """Remove a model that is measured, where none is kept."""
        if self.settings.keep == "results":
            try:
                drop_model(self.opened.steps.path(training))
            except OSError as error:
                log(f"the model of {training} is left where it is: {error}")

    def _cell(self, place: CellKey) -> Cell:
        if place not in self._done:
            cell = self._make_cell(place)
            if cell.status != "done":
                return cell
            self._done[place] = cell
        return self._done[place]

    def _make_cell(self, place: CellKey) -> Cell:
        reasons, steps = self.opened.reasons, self.opened.steps
        step = None if place in reasons else self.trainings.name(place)
        if place in reasons:
            return place.cell(status="failed", reason=reasons[place])
        if step is None:
            return place.cell()
        names = self.trainings.evaluations(place, step)
        evaluations = {part: evaluation_of(steps.path(name)) for part, name in names.items()}
        trained = steps.read_record(step) or {}
        found: dict[str, Any] = {
            "distances": self._distances.of_cell(place),
            "steps": self._step_names(place, step, names),
        }
        test, dev = evaluations["test"], evaluations.get("dev")
        if test is None or ("dev" in evaluations and dev is None):
            return place.cell(**found)
        evaluation, seconds = test
        found["metrics"] = {name: each.value for name, each in evaluation.metrics.items()}
        found["intervals"] = {
            name: (each.low, each.high) for name, each in evaluation.metrics.items() if each.low == each.low
        }
        if dev is not None:
            found["dev_loss"] = dev[0].metrics["loss"].value
            seconds += dev[1]
        chosen = None if place.method == ZERO_SHOT else trained.get("examples")
        seconds = round(seconds + read_seconds(steps.path(step)), 3)
        return place.cell(status="done", chosen=chosen, left_out=evaluation.left_out, seconds=seconds, **found)

    def _step_names(self, place: CellKey, step: str, evaluations: Mapping[str, str]) -> dict[str, str]:
        names = {
            "evaluation" if part == "test" else f"evaluation on {part}": name for part, name in evaluations.items()
        }
        if place.method != ZERO_SHOT:
            names = {"training": step} | names
        choice = self.chosen.choice(place)
        if choice is not None:
            names = {choice.name.partition("-")[0]: choice.name} | names
        return names
