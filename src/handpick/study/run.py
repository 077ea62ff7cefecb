"""A study from settings to results: what is made already is found by its name, the rest is done, failures are told."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from handpick.data.pool import Pool
from handpick.data.quarantine import Quarantine
from handpick.data.render import Renderer
from handpick.errors import HandpickError, SettingsError
from handpick.evaluation.task import Task, TaskSettings, open_task
from handpick.fingerprint import Fingerprint, digest
from handpick.model import compute_dtype, load_tokenizer, model_fingerprint, position_limit, tokenizer_fingerprint
from handpick.objectives.next_token import NextToken
from handpick.pipeline.train import recipe_for
from handpick.progress import progress, say
from handpick.store.manifest import contents_of
from handpick.study.cells import FULL, ZERO_SHOT, Cell, Results
from handpick.study.choosing import Choice, Chooser, Model, prefix_holds
from handpick.study.distances import LARGEST, can_measure, measure, read_distances, subset_name
from handpick.study.grid import Place, budgets_of, grid, quantile_of
from handpick.study.settings import StudySettings
from handpick.study.steps import Steps, finish_step, step_name
from handpick.study.trained import Job, Measuring, evaluation_of, free_memory, reason_of, worked
from handpick.training.settings import FinetuneSettings

RESULTS_FILE = "results.json"
_READ = 1024  # records that are read together


@dataclass(frozen=True, slots=True)
class Target:
    """A task of the study, opened: the queries, what is measured, and their own loss where they have answers."""

    query: Pool
    test: Task
    dev: Task | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A step of a study as ``--dry-run`` lists it."""

    kind: str
    name: str
    done: bool
    what: str


@dataclass
class _Found:
    """What is known of the cells so far."""

    ids: dict[str, list[str]] = field(default_factory=dict)  # of a choice, by its name
    reasons: dict[Place, str] = field(default_factory=dict)  # of cells that failed


def run_study(settings: StudySettings) -> Results:
    """Do what is missing of a study; ``results.json`` in its folder is written after every fine-tuning.

    Raises:
        HandpickError: the pool cannot be read, or the folder not be written. Whatever stops a single method, target,
            model or cell is in its cells.
    """
    return Study(settings).run()


def plan_steps(settings: StudySettings) -> list[Listed]:
    """The steps of a study, done and to do, without doing any.

    Fine-tunings are named by what they train on, so those of selections to be made are listed by their cells.

    Raises:
        HandpickError: the pool cannot be read.
    """
    return Study(settings).listed()


class Study:
    """A study whose data and models are opened; one that cannot be is a reason for its cells to fail."""

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings
        self.folder = settings.folder
        self.steps = Steps(self.folder / "steps")
        self.pool = self._opened("pool", settings.pool)
        self.places = grid(settings, self.pool)
        self._unusable: dict[tuple[str, str], str] = {}  # models and targets: ("model", name)
        self.targets: dict[str, Target] = {}
        self.models: dict[str, Model] = {}
        self._recipes: dict[str, FinetuneSettings] = {}
        for name in settings.targets:
            self._try("target", name, self._open_target)
        for name in settings.models:
            self._try("model", name, self._open_model)
        self._chooser = Chooser(settings, self.steps, self.pool)
        self._found = _Found()
        self._choices: dict[Place, Choice] = {}

    def run(self) -> Results:
        self._choose_all()
        self._measure_all()
        self.results().save(self.folder / RESULTS_FILE)
        waiting = self._waiting()
        n_to_do = sum(len(places) for places in waiting.values())
        with progress("cells", total=len(self.places), done=len(self.places) - n_to_do) as advance:
            for job, reasons in worked(self._jobs(waiting), self.settings.workers):
                for place in waiting[job.name]:
                    evaluation = self._evaluation_name(place, job.name)
                    failed = [reasons[name] for name in evaluation.values() if reasons.get(name)]
                    if failed and failed[0] is not None:
                        self._found.reasons[place] = failed[0]
                advance(len(waiting[job.name]))
                self.results().save(self.folder / RESULTS_FILE)
        results = self.results()
        results.save(self.folder / RESULTS_FILE)
        return results

    def results(self) -> Results:
        """The table as it stands."""
        return Results(
            name=self.settings.name,
            settings=self.settings.model_dump(mode="json", exclude_none=True),
            cells=[self._cell(place) for place in self.places],
        )

    def listed(self) -> list[Listed]:
        steps: dict[str, Listed] = {}

        def add(kind: str, name: str, what: str) -> None:
            steps.setdefault(name, Listed(kind, name, self.steps.made(name) is not None, what))

        for place in self.places:
            what = (
                ", ".join(str(each) for each in (place.method, place.target, place.budget) if each is not None)
                + f", seed {place.seed}"
            )
            choice = self._choice(place)
            if choice is not None:
                if choice.warmup is not None:
                    add("warmup", step_name("warmup", choice.warmup), f"{place.model}")
                add(choice.name.partition("-")[0], choice.name, f"{place.method}, {place.target}")
            try:
                model_step = self._model_step(place)
            except HandpickError as error:
                self._found.reasons[place] = str(error)
            else:
                if model_step is None:
                    if place not in self._found.reasons:
                        steps[f"training {what}"] = Listed("training", "named once chosen", False, what)
                    continue
                if place.method != ZERO_SHOT:
                    add("training", model_step, what)
                for name in self._evaluation_name(place, model_step).values():
                    add("evaluation", name, what)
        return list(steps.values())

    # opening

    def _opened(self, name: str, sources: list[str]) -> Pool:
        quarantine = Quarantine(self.folder / f"quarantine-{name}.jsonl")
        pool = Pool.open(list(sources), cache=self.folder / "parsed", quarantine=quarantine)
        if quarantine.count:
            say(quarantine.summary())
        return pool

    def _try(self, what: str, name: str, opening: Any) -> None:
        try:
            opening(name)
        except (HandpickError, OSError) as error:
            self._unusable[what, name] = reason_of(error)
            say(f"the {what} {name} cannot be used: {reason_of(error)}")

    def _open_target(self, name: str) -> None:
        own = self.settings.targets[name]
        query = self._opened(f"query-{name}", own.query)
        test = open_task(own.test, self.folder, f"test-{name}")
        dev = None
        if any(example.messages[-1].role == "assistant" for example in query.examples(0, len(query))):
            dev = open_task(
                TaskSettings(files=own.query, metrics=["loss"], subtask_field=None), self.folder, f"dev-{name}"
            )
        else:
            say(f"the queries of {name} have no answers, so there is no loss on them")
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
        self.models[name] = Model(name, path, Renderer(load_tokenizer(path)), model_fingerprint(path))
        self._recipes[name] = recipe

    # choosing

    def _unusable_ids(self, model: Model) -> set[str]:
        """The pool's records that leave this model no response to learn from, found once and kept.

        Methods that do not read with the model choose them too; their places go to what they choose next, so that every
        method teaches as many examples.
        """
        if model.name not in self._unusable_of:
            length = self._recipes[model.name].max_length
            inputs: dict[str, Any] = {
                "pool": contents_of(self.pool.files), "max_length": length,
                "tokenizer": tokenizer_fingerprint(model.renderer.tokenizer, model.renderer.template),
            }  # fmt: skip
            name = step_name("usable", inputs)
            made = self.steps.made(name)
            if made is None:
                made = {"unusable": self._refused(model, length)}
                finish_step(self.steps.path(name), inputs, made)
            self._unusable_of[model.name] = set(made["unusable"])
        return self._unusable_of[model.name]

    @cached_property
    def _unusable_of(self) -> dict[str, set[str]]:
        return {}

    def _refused(self, model: Model, length: int) -> list[str]:
        refused: list[str] = []
        prepare = NextToken(model.renderer, length).prepare
        with progress("pool", total=len(self.pool)) as advance:
            for start in range(0, len(self.pool), _READ):
                examples = self.pool.examples(start, start + _READ)
                refused += [example.id for example, _ in prepare(examples).refused]
                advance(len(examples))
        return refused

    def _enough(self, place: Place, budget: int) -> int:
        """How many to choose so that ``budget`` can be trained on: where a method does not take losses, some more."""
        model = self.models[place.model]
        usable = len(self.pool) - len(self._unusable_ids(model))
        if usable == len(self.pool) or self._chooser.takes_losses(place.method):
            return budget
        return min(len(self.pool), math.ceil(1.1 * budget * len(self.pool) / usable) + 10)

    def _largest(self, model: Model) -> int:
        """Of the budgets that the pool has enough examples for."""
        usable = len(self.pool) - len(self._unusable_ids(model))
        return max(b for b in budgets_of(self.settings, self.pool) if b <= usable)

    def _choice(self, place: Place) -> Choice | None:
        """What a cell's examples come from; None where it has none of its own, or it cannot be had."""
        if place in self._choices:
            return self._choices[place]
        reason = self._unusable.get(("model", place.model)) or self._unusable.get(("target", place.target))
        if reason is not None:
            self._found.reasons.setdefault(place, reason)
        if reason is not None or place.method in (ZERO_SHOT, FULL) or place in self._found.reasons:
            return None
        model = self.models[place.model]
        usable = len(self.pool) - len(self._unusable_ids(model))
        if place.quantile is None and place.budget is not None and place.budget > usable:
            self._found.reasons[place] = f"the budget is {place.budget:,}, and {usable:,} of the pool can be trained on"
            return None
        budget = None if place.quantile is not None else self._enough(place, self._largest(model))
        try:
            ask = (place.method, model, place.target, self.targets[place.target].query)
            choice = self._chooser.choice(*ask, budget, place.seed)
            if budget is not None and not prefix_holds(choice.settings):
                assert place.budget is not None  # no quantile
                choice = self._chooser.choice(*ask, self._enough(place, place.budget), place.seed)
        except Exception as error:
            self._found.reasons[place] = reason_of(error)
            return None
        self._choices[place] = choice
        return choice

    def _choose_all(self) -> None:
        wanted: dict[str, tuple[Choice, list[Place]]] = {}
        for place in self.places:
            choice = self._choice(place)
            if choice is not None:
                wanted.setdefault(choice.name, (choice, []))[1].append(place)
        to_make = 0
        for name, (choice, _) in wanted.items():
            there = self._chooser.chosen(choice)
            to_make += there is None
            if there is not None:
                self._found.ids[name] = there
        if to_make:
            say(f"{to_make} of {len(wanted)} selections to make")
        for name, (choice, places) in wanted.items():
            if name in self._found.ids:
                continue
            first = places[0]
            say(
                f"choosing: {first.method} for {first.target}"
                if "query" in choice.inputs
                else f"choosing: {first.method}"
            )
            try:
                self._found.ids[name] = self._chooser.choose(choice)
            except Exception as error:  # whatever it is, the other cells go on
                for place in places:
                    self._found.reasons[place] = reason_of(error)
                say(f"failed: {first.method}: {reason_of(error)}")
                free_memory()

    def _ids(self, place: Place) -> list[str] | None:
        """What a cell is trained on; None where that is not chosen."""
        if ("model", place.model) in self._unusable:
            return None
        unusable = self._unusable_ids(self.models[place.model])
        if place.method == FULL:
            return [example_id for example_id in self.pool.ids() if example_id not in unusable]
        choice = self._choice(place)
        ids = None if choice is None else self._found.ids.get(choice.name)
        if ids is None and choice is not None and (ids := self._chooser.chosen(choice)) is not None:
            self._found.ids[choice.name] = ids
        if ids is None:
            return None
        ids = [example_id for example_id in ids if example_id not in unusable]
        if place.quantile is not None:
            assert self.settings.quantiles is not None
            return quantile_of(ids, self.settings.quantiles.bins, place.quantile, self.settings.quantiles.each)
        return ids[: place.budget]

    # distances

    def _measure_all(self) -> None:
        if not can_measure():
            say("no distances: POT is not installed (pip install 'handpick[transport]')")
            return
        subsets: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(dict)
        for place in self.places:
            ids = None if place.method in (ZERO_SHOT, FULL) else self._ids(place)
            if ids and len(ids) <= LARGEST:
                subsets[place.model, place.target][self._subset(place, ids)] = ids
        for (model, target), named in subsets.items():
            for method, choice in self._features(model, target).items():
                folder = self.steps.path(self._distances_name(choice))
                if named.keys() <= read_distances(folder).keys():
                    continue
                try:
                    say(f"distances of {len(named)} subsets to {target}, by the features of {method}")
                    measure(self._chooser.ready(choice), named, folder)
                except Exception as error:
                    say(f"no distances by the features of {method} for {target}: {reason_of(error)}")

    def _subset(self, place: Place, ids: list[str]) -> str:
        key = (self._choices[place].name, place.budget, place.quantile)
        if key not in self._subset_names:
            self._subset_names[key] = subset_name(ids)
        return self._subset_names[key]

    @cached_property
    def _subset_names(self) -> dict[tuple[str, int | None, int | None], str]:
        return {}

    def _features(self, model: str, target: str) -> dict[str, Choice]:
        """The kinds of features of a study, by the first method that has them."""
        key = (model, target)
        if key not in self._features_of:
            kinds: dict[str, tuple[str, Choice]] = {}
            for place in self.places:
                choice = self._choices.get(place)
                if (place.model, place.target) == key and choice is not None and choice.features is not None:
                    kinds.setdefault(choice.features, (place.method, choice))
            self._features_of[key] = dict(kinds.values())
        return self._features_of[key]

    @cached_property
    def _features_of(self) -> dict[tuple[str, str], dict[str, Choice]]:
        return {}

    def _distances_name(self, choice: Choice) -> str:
        return step_name("distances", {"features": choice.inputs["features"], "query": choice.inputs.get("query"),
                                       "objective": choice.inputs.get("objective")})  # fmt: skip

    def _distances(self, place: Place) -> dict[str, dict[str, float]]:
        ids = None if place.method in (ZERO_SHOT, FULL) else self._ids(place)
        if not ids:
            return {}
        found = {}
        for method, choice in self._features(place.model, place.target).items():
            name = self._distances_name(choice)
            if name not in self._measured:
                self._measured[name] = read_distances(self.steps.path(name))
            if (own := self._measured[name].get(self._subset(place, ids))) is not None:
                found[method] = own
        return found

    @cached_property
    def _measured(self) -> dict[str, dict[str, dict[str, float]]]:
        return {}

    # training and evaluation

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {example_id: row for row, example_id in enumerate(self.pool.ids())}

    def _model_step(self, place: Place) -> str | None:
        """The name of the fine-tuning behind a cell; None where what it trains on is not chosen."""
        inputs = self._training(place)
        return None if inputs is None else step_name("base" if place.method == ZERO_SHOT else "training", inputs)

    def _training(self, place: Place) -> dict[str, Any] | None:
        if ("model", place.model) in self._unusable or ("target", place.target) in self._unusable:
            self._choice(place)  # says why
            return None
        model = self.models[place.model]
        what: dict[str, Any] = {
            "model": model.fingerprint,
            "tokenizer": tokenizer_fingerprint(model.renderer.tokenizer, model.renderer.template),
        }
        recipe = self._recipes[place.model]
        if place.method == ZERO_SHOT:
            return what | {"max_length": recipe.max_length, "dtype": str(compute_dtype(recipe.dtype))}
        ids = self._ids(place)
        if ids is None:
            return None
        recipe = recipe.model_copy(update={"seed": place.seed})
        used = recipe.model_dump(mode="json", exclude={"micro_batch", "gradient_checkpointing"})
        return what | {
            "examples": self._contents(place, ids),
            "recipe": used,
            "dtype": str(compute_dtype(recipe.dtype)),
        }

    def _contents(self, place: Place, ids: list[str]) -> str:
        """The digest of the records, in order."""
        key = (FULL if place.method == FULL else self._choices[place].name, place.budget, place.quantile)
        if key not in self._digests:
            rows = [self._row_of[example_id] for example_id in ids]
            self._digests[key] = digest([self._raw_digest(row) for row in rows])
        return self._digests[key]

    def _raw_digest(self, row: int) -> str:
        if row not in self._raw_digests:
            self._raw_digests[row] = digest(self.pool.raw(row).decode("utf-8", "backslashreplace"))
        return self._raw_digests[row]

    @cached_property
    def _raw_digests(self) -> dict[int, str]:
        return {}

    @cached_property
    def _digests(self) -> dict[tuple[str, int | None, int | None], str]:
        return {}

    def _evaluation_name(self, place: Place, model_step: str) -> dict[str, str]:
        """The evaluation steps of a cell: "test", and "dev" where the queries have answers."""
        return {
            part: step_name("evaluation", inputs) for part, (_, inputs) in self._measurings(place, model_step).items()
        }

    def _measurings(self, place: Place, model_step: str) -> dict[str, tuple[Task, Fingerprint]]:
        target = self.targets[place.target]
        tasks = {"test": target.test} | ({} if target.dev is None else {"dev": target.dev})
        length = self._recipes[place.model].max_length
        return {
            part: (task, {"model": model_step, "task": self._task_fingerprint(task), "max_length": length})
            for part, task in tasks.items()
        }

    def _task_fingerprint(self, task: Task) -> Fingerprint:
        if task.name not in self._task_fingerprints:
            self._task_fingerprints[task.name] = task.fingerprint()
        return self._task_fingerprints[task.name]

    @cached_property
    def _task_fingerprints(self) -> dict[str, Fingerprint]:
        return {}

    def _waiting(self) -> dict[str, list[Place]]:
        """The cells that an evaluation is missing of, by the fine-tuning that they need, in the order of the grid."""
        waiting: dict[str, list[Place]] = {}
        for place in self.places:
            try:
                step = self._model_step(place)
                if step is not None and any(
                    self.steps.made(name) is None for name in self._evaluation_name(place, step).values()
                ):
                    waiting.setdefault(step, []).append(place)
            except HandpickError as error:
                self._found.reasons[place] = str(error)
        return waiting

    def _jobs(self, waiting: Mapping[str, list[Place]]) -> Iterator[Job]:
        for step, places in waiting.items():
            try:
                yield self._job(step, places)
            except HandpickError as error:
                for place in places:
                    self._found.reasons[place] = reason_of(error)

    def _job(self, step: str, places: list[Place]) -> Job:
        place = places[0]
        model, recipe = self.models[place.model], self._recipes[place.model]
        inputs = self._training(place)
        assert inputs is not None  # the step has a name
        sequences = []
        if place.method != ZERO_SHOT and self.steps.made(step) is None:
            examples = [self.pool[self._row_of[example_id]] for example_id in self._ids(place) or []]
            sequences = NextToken(model.renderer, recipe.max_length).prepare(examples).items
        measurings = {}
        for each in places:
            for task, wanted in self._measurings(each, step).values():
                name = step_name("evaluation", wanted)
                if self.steps.made(name) is None:
                    measurings[name] = Measuring(name, self.steps.path(name), wanted, task)
        return Job(
            name=step, folder=self.steps.path(step), inputs=inputs, model=model.path,
            recipe=None if place.method == ZERO_SHOT else recipe.model_copy(update={"seed": place.seed}),
            sequences=sequences, measurings=list(measurings.values()), max_length=recipe.max_length,
            dtype=recipe.dtype, allow_code_execution=self.settings.allow_code_execution,
        )  # fmt: skip

    # what came of it

    def _cell(self, place: Place) -> Cell:
        if place not in self._done:
            cell = self._made_cell(place)
            if cell.status != "done":
                return cell
            self._done[place] = cell
        return self._done[place]

    @cached_property
    def _done(self) -> dict[Place, Cell]:
        return {}

    def _made_cell(self, place: Place) -> Cell:
        if place in self._found.reasons:
            return place.cell(status="failed", reason=self._found.reasons[place])
        step = self._model_step(place)
        if step is None:
            if place in self._found.reasons:
                return place.cell(status="failed", reason=self._found.reasons[place])
            return place.cell()
        names = self._evaluation_name(place, step)
        evaluations = {part: evaluation_of(self.steps.path(name)) for part, name in names.items()}
        trained = self.steps.made(step) or {}
        found: dict[str, Any] = {"distances": self._distances(place), "steps": self._step_names(place, step, names)}
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
        seconds = round(seconds + float(trained.get("seconds", 0)), 3)
        return place.cell(status="done", chosen=chosen, seconds=seconds, **found)

    def _step_names(self, place: Place, step: str, evaluations: Mapping[str, str]) -> dict[str, str]:
        names = {
            "evaluation" if part == "test" else f"evaluation on {part}": name for part, name in evaluations.items()
        }
        if place.method != ZERO_SHOT:
            names = {"training": step} | names
        if place in self._choices:
            choice = self._choices[place]
            names = {choice.name.partition("-")[0]: choice.name} | names
        return names
