"""A study's data and models, opened; one that cannot be is the reason why its cells fail."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.reading import check_columns
from handpick.data.render import Renderer
from handpick.data.unwanted import Unwanted
from handpick.data.unwritten import count_unwritten, report_unwritten
from handpick.errors import HandpickError, SettingsError
from handpick.evaluation.evaluate import rewards_of
from handpick.evaluation.gradable import say_ungradable, ungradable_records
from handpick.evaluation.settings import TaskSettings
from handpick.evaluation.task import Task, open_task
from handpick.finetuning.train import recipe_for
from handpick.fingerprint import Fingerprint
from handpick.layout import StudyLayout
from handpick.model import load_renderer, model_fingerprint, position_limit, tokenizer_fingerprint
from handpick.objectives.next_token import NextToken
from handpick.progress import log, progress
from handpick.store.manifest import contents_of
from handpick.studies.cells import CellKey
from handpick.studies.grid import grid
from handpick.studies.settings import StudySettings
from handpick.studies.steps import Steps, finish_step, step_name
from handpick.studies.trained import reason_of
from handpick.training.settings import FinetuneSettings

_READ = 1024  # records that are read together


@dataclass(frozen=True, slots=True)
class Model:
    """A model of the study: its name there, where it is, its tokenizer, what it is, and how it is trained."""

    name: str
    path: str
    renderer: Renderer
    fingerprint: Fingerprint
    recipe: FinetuneSettings


@dataclass(frozen=True, slots=True)
class Target:
    """A task of the study, opened: the queries, what is measured, and their own loss where they have answers."""

    query: Pool
    test: Task
    dev: Task | None


class StudyInputs:
    """The pool, the cells, and what could be opened of the targets and models.

    ``reasons`` says why cells failed; whatever stops one is put there.

    Raises:
        HandpickError: the pool cannot be read.
    """

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.steps = Steps(StudyLayout(self.folder).steps)
        self.pool = self._pool("pool", settings.pool)
        self.places = grid(settings, self.pool)
        self.reasons: dict[CellKey, str] = {}
        self.targets: dict[str, Target] = {}
        self.models: dict[str, Model] = {}
        self._unusable_of: dict[str, frozenset[str]] = {}
        self._unopened: dict[tuple[str, str], str] = {}  # models and targets: ("model", name)
        for name in settings.targets:
            self._open_or_note("target", name, self._open_target)
        opened = [each for target in self.targets.values() for each in (target.query.columns, target.test.columns)]
        check_columns(settings.reading, [self.pool.columns, *opened])
        for name in settings.models:
            self._open_or_note("model", name, self._open_model)
        self._report_unwritten()

    def is_open(self, place: CellKey) -> bool:
        """Return whether a cell's model and target are; if not, the cell has failed."""
        reason = self._unopened.get(("model", place.model)) or self._unopened.get(("target", place.target))
        if reason is not None:
            self.reasons.setdefault(place, reason)
        return reason is None

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The pool's rows by id."""
        return {example_id: row for row, example_id in enumerate(self.pool.ids())}

    def unusable(self, model: str) -> frozenset[str]:
        """Return the pool's records that leave a model no response to learn from, found once and kept.

        No method chooses them, whether or not it reads with the model, so that every method teaches as many examples.
        """
        if model not in self._unusable_of:
            opened = self.models[model]
            inputs: dict[str, Any] = {
                "pool": contents_of(self.pool.files),
                "max_length": opened.recipe.max_length,
                "tokenizer": tokenizer_fingerprint(opened.renderer),
            }
            name = step_name("usable", inputs)
            made = self.steps.read_record(name)
            if made is None:
                made = {"unusable": self._find_unusable(opened)}
                finish_step(self.steps.path(name), inputs, made)
            self._unusable_of[model] = frozenset(made["unusable"])
        return self._unusable_of[model]

    def n_usable(self, model: str) -> int:
        """Count the records of the pool that a model can be trained on."""
        return len(self.pool) - len(self.unusable(model))

    def _find_unusable(self, model: Model) -> list[str]:
        refused: list[str] = []
        prepare = NextToken(model.renderer, model.recipe.max_length).prepare
        with progress("pool", total=len(self.pool)) as advance:
            for start in range(0, len(self.pool), _READ):
                examples = self.pool.examples(start, start + _READ)
                refused += [example.id for example, _ in prepare(examples).refused]
                advance(len(examples))
        return refused

    def _pool(self, name: str, sources: list[str], unwanted: Unwanted = "aside") -> Pool:
        layout = StudyLayout(self.folder)
        quarantine = Quarantine(layout.quarantine(name))
        pool = Pool.open(
            list(sources),
            cache=layout.parsed,
            quarantine=quarantine,
            reading=self.settings.reading,
            unwanted=unwanted,
        )
        for sentence in pool.judged.sentences():
            log(f"{name}: {sentence}")
        quarantine.report()
        return pool

    def _open_or_note(self, what: str, name: str, opening: Callable[[str], None]) -> None:
        try:
            opening(name)
        except (HandpickError, OSError) as error:
            self._unopened[what, name] = reason_of(error)
            log(f"the {what} {name} cannot be used: {reason_of(error)}")

    def _open_target(self, name: str) -> None:
        own = self.settings.targets[name]
        query = self._pool(f"query-{name}", own.query, self.settings.unwanted_queries)
        test = open_task(own.test, self.folder, f"test-{name}")
        # what is not there or not allowed is said before anything is trained
        rewards_of(own.test.metrics, allow_code_execution=self.settings.allow_code_execution)
        say_ungradable(test, ungradable_records(test))
        dev = None
        if not self.settings.query_loss:
            self.targets[name] = Target(query, test, dev)
            return
        if any(example.messages[-1].role == "assistant" for example in query.examples(0, len(query))):
            dev = open_task(
                TaskSettings(files=own.query, metrics=["loss"], subtask_field=None, **self.settings.how_read),
                self.folder,
                f"dev-{name}",
            )
        else:
            log(f"the queries of {name} have no answers, so there is no loss on them")
        self.targets[name] = Target(query, test, dev)

    def _open_model(self, name: str) -> None:
        path = self.settings.models[name]
        given = dict(self.settings.train)
        if self.settings.max_length is not None:
            given.setdefault("max_length", self.settings.max_length)
        recipe = recipe_for(path, self.settings.recipe, given)
        limit = position_limit(path)
        if limit is not None and recipe.max_length > limit:
            raise SettingsError(f"it reads {limit} tokens at most, and max_length is {recipe.max_length}: give less")
        renderer = load_renderer(path, self.settings.template_args)
        self.models[name] = Model(name, path, renderer, model_fingerprint(path), recipe)

    def _report_unwritten(self) -> None:
        """Say and keep what the records carry and the models' chat templates do not write."""
        pools = {"pool": self.pool} | {f"queries of {name}": target.query for name, target in self.targets.items()}
        found = {
            what + (f" under {model.name}'s template" if len(self.models) > 1 else ""): count_unwritten(
                pool, model.renderer
            )
            for model in self.models.values()
            for what, pool in pools.items()
        }
        report_unwritten(found, StudyLayout(self.folder).unwritten)
