"""The fine-tunings and evaluations of a study's cells: their names, and the jobs of those that are missing."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from handpick.data.pool import Pool
from handpick.errors import HandpickError
from handpick.evaluation.task import Task
from handpick.fingerprint import Fingerprint, digest
from handpick.model import compute_dtype, tokenizer_fingerprint
from handpick.objectives.next_token import NextToken
from handpick.studies.cells import ZERO_SHOT, CellKey
from handpick.studies.chosen import CellSelections
from handpick.studies.opened import StudyInputs
from handpick.studies.steps import step_name
from handpick.studies.trained import Job, Measuring, has_model, reason_of


class Trainings:
    """Of every cell the step that trains its model, and those that measure it."""

    def __init__(self, opened: StudyInputs, chosen: CellSelections) -> None:
        self._opened = opened
        self._chosen = chosen
        self._record_digest = cache(lambda row: record_digest(opened.pool, row))
        self._digests: dict[object, str] = {}
        self._task_fingerprints: dict[str, Fingerprint] = {}
        self._inputs_of: dict[str, dict[str, Any]] = {}  # by the name that is their hash

    def name(self, place: CellKey) -> str | None:
        """Return the name of the fine-tuning behind a cell; None where what it trains on is not chosen."""
        inputs = self._inputs(place)
        if inputs is None:
            return None
        name = step_name("base" if place.method == ZERO_SHOT else "training", inputs)
        self._inputs_of[name] = inputs
        return name

    def has_model(self, name: str) -> bool:
        """Return whether a fine-tuning is done and its model was kept."""
        return has_model(self._opened.steps.path(name))

    def _inputs(self, place: CellKey) -> dict[str, Any] | None:
        if not self._opened.is_open(place):
            return None
        model = self._opened.models[place.model]
        what: dict[str, Any] = {
            "model": model.fingerprint,
            "tokenizer": tokenizer_fingerprint(model.renderer),
        }
        if place.method == ZERO_SHOT:
            return what | {"max_length": model.recipe.max_length, "dtype": str(compute_dtype(model.recipe.dtype))}
        ids = self._chosen.ids(place)
        if ids is None:
            return None
        recipe = model.recipe.model_copy(update={"seed": place.seed})
        return what | {
            "examples": self._contents(place, ids),
            "recipe": recipe.model_dump(mode="json", exclude={"micro_batch", "gradient_checkpointing"}),
            "dtype": str(compute_dtype(recipe.dtype)),
        }

    def _contents(self, place: CellKey, ids: list[str]) -> str:
        """Return the digest of the records, in order."""
        key = self._chosen.subset(place)
        if key not in self._digests:
            rows = [self._opened.row_of[example_id] for example_id in ids]
            self._digests[key] = digest([self._record_digest(row) for row in rows])
        return self._digests[key]

    def evaluations(self, place: CellKey, name: str) -> dict[str, str]:
        """Return the evaluation steps of a cell: "test", and "dev" where the queries have answers.

        Raises:
            SettingsError: a metric cannot be had.
        """
        return {part: step_name("evaluation", inputs) for part, (_, inputs) in self._measurings(place, name).items()}

    def _measurings(self, place: CellKey, name: str) -> dict[str, tuple[Task, Fingerprint]]:
        target = self._opened.targets[place.target]
        tasks = {"test": target.test} | ({} if target.dev is None else {"dev": target.dev})
        length = self._opened.models[place.model].recipe.max_length
        return {
            part: (task, {"model": name, "task": self._task_fingerprint(task), "max_length": length})
            for part, task in tasks.items()
        }

    def _task_fingerprint(self, task: Task) -> Fingerprint:
        if task.name not in self._task_fingerprints:
            self._task_fingerprints[task.name] = task.fingerprint()
        return self._task_fingerprints[task.name]

    def waiting_cells(self) -> dict[str, list[CellKey]]:
        """Return the cells that lack an evaluation, by the fine-tuning that they need, in the order of the grid."""
        waiting: dict[str, list[CellKey]] = {}
        for place in self._opened.places:
            try:
                name = self.name(place)
                if name is not None and any(
                    self._opened.steps.read_record(each) is None for each in self.evaluations(place, name).values()
                ):
                    waiting.setdefault(name, []).append(place)
            except HandpickError as error:
                self._opened.reasons[place] = str(error)
        return waiting

    def finished_trainings(self, waiting: Mapping[str, list[CellKey]]) -> Iterator[str]:
        """Yield the finished fine-tunings that nothing waits for."""
        found: dict[str, None] = {}
        for place in self._opened.places:
            if place.method != ZERO_SHOT and place not in self._opened.reasons:
                name = self.name(place)
                if name is not None and name not in waiting and self._opened.steps.read_record(name) is not None:
                    found[name] = None
        yield from found

    def jobs(self, waiting: Mapping[str, list[CellKey]]) -> Iterator[Job]:
        """Yield what is to be done of the cells that wait."""
        for name, places in waiting.items():
            try:
                yield self._job(name, places)
            except HandpickError as error:
                for place in places:
                    self._opened.reasons[place] = reason_of(error)

    def _job(self, name: str, places: list[CellKey]) -> Job:
        place, steps, pool = places[0], self._opened.steps, self._opened.pool
        model = self._opened.models[place.model]
        recipe = None if place.method == ZERO_SHOT else model.recipe.model_copy(update={"seed": place.seed})
        sequences = []
        if recipe is not None and not self.has_model(name):
            examples = [pool[self._opened.row_of[example_id]] for example_id in self._chosen.ids(place) or []]
            sequences = NextToken(model.renderer, recipe.max_length).prepare(examples).items
        measurings = {}
        for each in places:
            for task, wanted in self._measurings(each, name).values():
                evaluation = step_name("evaluation", wanted)
                if steps.read_record(evaluation) is None:
                    measurings[evaluation] = Measuring(evaluation, steps.path(evaluation), wanted, task)
        return Job(
            name=name,
            folder=steps.path(name),
            inputs=self._inputs_of[name],
            model=model.path,
            recipe=recipe,
            sequences=sequences,
            measurings=list(measurings.values()),
            max_length=model.recipe.max_length,
            dtype=model.recipe.dtype,
            precision=str(compute_dtype(model.recipe.dtype)),
            template_args=self._opened.settings.template_args,
            allow_code_execution=self._opened.settings.allow_code_execution,
        )


def record_digest(pool: Pool, row: int) -> str:
    """Return the digest of a record, and of how it is read where that is not by the first rule."""
    raw, rule = pool.raw(row).decode("utf-8", "backslashreplace"), pool.record_rule(row)
    return digest([raw, rule] if rule > 1 else raw)
