"""What each method of a study chooses: one warmup, one set of features and one selection for all that share them.

What is named by its inputs here:

    warmup     the pool, the model, the recipe            → LoRA checkpoints
    features   those, and how features are made           → the folder that ``handpick select`` keeps them in
    selection  those, the queries, the algorithm, budget  → ids in order; a smaller budget is a prefix
    order      those, the queries, round-robin            → the ids of the whole pool, for quantiles

A selection that was made elsewhere is named by its ids alone.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handpick.algorithms import AlgorithmSettings
from handpick.data.pool import Pool
from handpick.errors import SettingsError
from handpick.fingerprint import JSON, Fingerprint, digest, file_digest
from handpick.layout import StepLayout
from handpick.listing import files_below
from handpick.methods import find_method
from handpick.model import compute_dtype, tokenizer_fingerprint
from handpick.objectives.judge_fields import JUDGE_FIELDS
from handpick.pipeline import run_select
from handpick.rewards import reward_fingerprint
from handpick.scorers.checkpoints import find_checkpoints
from handpick.scorers.gradient_encoder import adapter_fingerprint
from handpick.scorers.inputs import open_renderer
from handpick.scorers.provenance import resume_from_store
from handpick.sealed import read_sealed_list, write_sealed
from handpick.selection import Selection
from handpick.settings import Settings
from handpick.settings.constraints import Constraints
from handpick.store.manifest import contents_of, read_manifest
from handpick.studies.cells import RANDOM
from handpick.studies.opened import Model
from handpick.studies.settings import StudySettings
from handpick.studies.steps import Steps, finish_step, step_name

# decide no row by themselves: named with the model, or the same rows whatever they are
_OF_MACHINE = frozenset({"model", "dtype", "gradient_checkpointing", "batch_tokens"})
_OF_CHOICE = frozenset({*Constraints.model_fields, *AlgorithmSettings.model_fields, "seed"})
_NAMED_APART = frozenset({"reward", "checkpoints", "optimizer", "score_only"})  # by what they hold, or as features
_PATIENCE = frozenset(JUDGE_FIELDS[name] for name in ("timeout_s", "retries"))  # with a judge; changes no verdict


@dataclass(frozen=True, slots=True)
class GivenSelection:
    """A selection that was made elsewhere."""

    folder: Path
    ids: list[str]


@dataclass(frozen=True, slots=True)
class PlannedSelection:
    """One selection, to be made or made: ``budget`` None for the order of the whole pool.

    ``features`` names the features that it is made by, None where the method has none; ``inputs`` are what ``name`` is
    the hash of; ``warmup`` those of the warmup that the study trains for it, if it does. One that was ``given`` is of
    no settings, and has none of the others. ``exclude_ids`` has the ids of the pool that it passes over.
    """

    name: str
    inputs: Mapping[str, Any]
    settings: Settings | None
    budget: int | None
    features: str | None = None
    warmup: Mapping[str, Any] | None = None
    given: GivenSelection | None = None
    exclude_ids: frozenset[str] = frozenset()


class Chooser:
    """Names and makes the selections.

    Args:
        study: the settings.
        steps: where selections are kept.
        pool: what is chosen from.
    """

    def __init__(self, study: StudySettings, steps: Steps, pool: Pool) -> None:
        self._study = study
        self._steps = steps
        self._pool = pool
        self._contents = contents_of(pool.files)
        self._given: dict[str, PlannedSelection] = {}  # by the folder
        self._excluded_digests: dict[frozenset[str], str] = {}  # digests
        self._rewards: dict[str, Fingerprint] = {}

    def plan_selection(
        self,
        method: str,
        model: Model,
        target: str,
        query: Pool | None,
        budget: int | None,
        seed: int = 0,
        exclude_ids: frozenset[str] = frozenset(),
    ) -> PlannedSelection:
        """Plan what a method chooses for a target; the same choice for all targets where it looks at no query.

        Args:
            method: its name in the study.
            model: the model that the features are of.
            target: its name.
            query: its queries, opened; None where they could not be.
            budget: how many; None for the order of the whole pool by round-robin.
            seed: of a random draw.
            exclude_ids: ids of the pool that are not to be chosen from.

        Raises:
            HandpickError: the settings contradict each other, or a store or checkpoint that they name is none.
        """
        settings = self._settings(method, model, target, seed)
        if budget is None:
            settings = settings.model_copy(update={"algorithm": "round-robin"})
        scorer = settings.scorer
        made_of: dict[str, Any] = {"pool": self._contents}
        warmup = None
        if scorer.keeps_rows:
            made_of |= self._features(settings, model)
            if "warmup" in scorer.needs and "checkpoints" not in made_of and not settings.store:
                warmup = made_of["warmup"] = self._warmup(settings, model)
        if settings.prefilter:
            made_of["prefilter"] = self._prefilter(settings, model)
        of_choice = _OF_CHOICE | (scorer.reads - scorer.rows - _NAMED_APART - _PATIENCE)
        choice: dict[str, Any] = {
            "features": made_of,
            "representation": _content_of(settings.used_representation),
            "budget": budget,
            "algorithm": settings.used_algorithm,
            "settings": {name: _content(value) for name, value in _changed_settings(settings, of_choice).items()},
        }
        if scorer.has_objective:
            choice["objective"] = settings.objective or find_method(settings.method).objective
            if choice["objective"] == "reward" and settings.reward is not None:
                if settings.reward not in self._rewards:
                    self._rewards[settings.reward] = reward_fingerprint(settings.reward)
                choice["reward"] = self._rewards[settings.reward]
        if "query" in settings.needs and query is not None:
            choice["query"] = contents_of(query.files)
        if exclude_ids:
            if exclude_ids not in self._excluded_digests:
                self._excluded_digests[exclude_ids] = digest(sorted(exclude_ids))
            choice["passing"] = self._excluded_digests[exclude_ids]
        features = step_name("features", made_of)
        name = step_name("order" if budget is None else "selection", choice)
        out = settings.out or str(self._steps.path(features))
        has_features = scorer.output == "features" and not settings.score_only and not settings.prefilter
        settings = settings.model_copy(update={"out": out})
        return PlannedSelection(
            name, choice, settings, budget, features if has_features else None, warmup, exclude_ids=exclude_ids
        )

    def given_selection(self, method: str, model: Model, target: str) -> PlannedSelection:
        """Open a selection that was made elsewhere, as a method of the study; opened once.

        Raises:
            StoreError: there is none in the folder.
            SettingsError: it holds what is not in the pool.
        """
        named = self._study.selection_of(method)
        if named is None:
            raise SettingsError(f"the method {method} names no selection that was made elsewhere")
        path = str(_fill_placeholders(named, _places(target, model)))
        if path not in self._given:
            ids = Selection.open(path).ids
            known = set(self._pool.ids())
            if foreign := [example_id for example_id in ids if example_id not in known]:
                raise SettingsError(
                    f"{len(foreign):,} of the {len(ids):,} examples of the selection in {path} are not in the study's "
                    f"pool, the first {foreign[0]!r}: select from the same pool"
                )
            inputs = {"ids": digest(ids)}
            self._given[path] = PlannedSelection(
                step_name("selection", inputs), inputs, None, len(ids), given=GivenSelection(Path(path), ids)
            )
        return self._given[path]

    def read_ids(self, choice: PlannedSelection) -> list[str] | None:
        """Read the ids of a choice that is made, in order; None of another."""
        if self._steps.read_record(choice.name) is None:
            return None
        folder = self._steps.path(choice.name)
        if choice.budget is None:
            return read_sealed_list(StepLayout(folder).order, "ids", f"remove {folder}, and the study makes it again")
        return Selection.open(folder).ids

    def choose(self, choice: PlannedSelection) -> list[str]:
        """Make a choice, or find it made.

        Raises:
            HandpickError: as ``run_select``.
        """
        there = self.read_ids(choice)
        if there is not None:
            return there
        folder = self._steps.path(choice.name)
        selection = self.select(choice) if choice.given is None else Selection.open(choice.given.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if choice.budget is None:
            write_sealed(StepLayout(folder).order, {"ids": selection.ids}, indent=None)
        else:
            selection.save(folder)
        finish_step(folder, choice.inputs, {"ids": len(selection)})
        return selection.ids

    def select(self, choice: PlannedSelection) -> Selection:
        """Choose, in the folder of the features; what it held of another choice by the same features is replaced.

        Raises:
            HandpickError: as ``run_select``.
        """
        settings = self.prepare_settings(choice).model_copy(update={"budget": budget_of(choice)})
        return run_select(settings, exclude_ids=choice.exclude_ids).selection

    def prepare_settings(self, choice: PlannedSelection) -> Settings:
        """Prepare a choice's settings, with the checkpoints of the study's warmup where it needs one, trained once."""
        assert choice.settings is not None  # one that was given is not made
        if choice.warmup is None:
            return choice.settings
        name = step_name("warmup", choice.warmup)
        folder = self._steps.path(name)
        made = self._steps.read_record(name)
        if made is None or not all((folder / path).is_dir() for path in made["checkpoints"]):
            renderer = open_renderer(choice.settings)
            alone = choice.settings.model_copy(update={"out": str(folder)})
            paths, _ = find_checkpoints(alone, self._pool, renderer, choice.warmup["model"])
            made = {"checkpoints": [str(path.relative_to(folder)) for path in paths]}
            finish_step(folder, choice.warmup, made)
        checkpoints = [str(folder / path) for path in made["checkpoints"]]
        return choice.settings.model_copy(update={"checkpoints": checkpoints, "warmup": "auto", "lora_targets": None})

    def _settings(self, method: str, model: Model, target: str, seed: int) -> Settings:
        needs = self._study.method(method, {"query": ["…"]}).needs
        given: dict[str, Any] = {"model": model.path}
        if "query" in needs:
            given["query"] = list(self._study.targets[target].query)
        if method == RANDOM:
            given["seed"] = seed
        settings = self._study.method(method, given)
        places = _places(target, model)
        filled = {
            name: _fill_placeholders(value, places) for name, value in settings.model_dump(exclude_unset=True).items()
        }
        return resume_from_store(Settings(**filled))

    def _features(self, settings: Settings, model: Model) -> dict[str, Any]:
        """Return what the rows of the features are, besides the pool and the model."""
        if settings.store is not None:
            manifest = read_manifest(Path(settings.store))
            return {"store": digest(manifest.settings()), "files": contents_of(manifest.files)}
        rows = (settings.scorer.rows | {"seed"}) - _OF_MACHINE - set(settings.unused_settings)
        made_of: dict[str, Any] = {
            "representation": _content_of(settings.stored_representation),
            "settings": {name: _content(value) for name, value in _changed_settings(settings, rows).items()},
        }
        if settings.scorer.needs & {"model", "tokenizer"}:
            made_of |= _model_read(settings, model)
        if "optimizer" in settings.scorer.reads:
            made_of["optimizer"] = settings.used_optimizer
            if settings.checkpoints:
                made_of["checkpoints"] = adapter_fingerprint([Path(path) for path in settings.checkpoints])
        return made_of

    def _prefilter(self, settings: Settings, model: Model) -> dict[str, Any]:
        """Return what the prefilters are, and how much they leave."""
        first = settings.prefiltering
        decides = first.scorer.reads - _OF_MACHINE - _NAMED_APART - _PATIENCE
        made_of: dict[str, Any] = {
            "representation": _content_of(first.used_representation),
            "share": settings.prefilter_shares[-1],
            "check": settings.prefilter_check,
            "settings": {name: _content(value) for name, value in _changed_settings(first, decides).items()},
        }
        if first.scorer.needs & {"model", "tokenizer"}:
            made_of |= _model_read(first, model)
        if "optimizer" in first.scorer.reads:
            made_of["optimizer"] = first.used_optimizer
        return made_of | ({"after": self._prefilter(first, model)} if first.prefilter else {})

    def _warmup(self, settings: Settings, model: Model) -> dict[str, Any]:
        names = {"warmup", "lora_targets", "seed", "max_length", "quantization"}
        used = settings.model_dump(mode="json", include=names, exclude_none=True)
        return {"pool": self._contents, **_model_read(settings, model), **used}


def _model_read(settings: Settings, model: Model) -> dict[str, Any]:
    """Return a model, how it is given its conversations, and what it computes in on this machine."""
    return {
        "model": model.fingerprint,
        "tokenizer": tokenizer_fingerprint(model.renderer),
        "dtype": str(compute_dtype(settings.dtype)),
    }


def budget_of(choice: PlannedSelection) -> str:
    """Return the budget as ``handpick select`` takes it."""
    return str(choice.budget or "100%")


def prefix_holds(settings: Settings) -> bool:
    """Return whether a smaller budget's choice is a prefix of a larger one's: of all but shares of the budget."""
    return not (settings.max_share or settings.min_share)


def _changed_settings(settings: Settings, names: Set[str]) -> dict[str, Any]:
    fields = Settings.model_fields
    dumped = settings.model_dump(mode="json", include=set(names))
    return {name: value for name, value in sorted(dumped.items()) if getattr(settings, name) != fields[name].default}


def _places(target: str, model: Model) -> dict[str, str]:
    return {"{target}": target, "{model}": model.name}


def _fill_placeholders(value: Any, places: Mapping[str, str]) -> Any:
    """Fill {target} and {model} into texts."""
    if isinstance(value, str):
        for place, name in places.items():
            value = value.replace(place, name)
        return value
    if isinstance(value, dict):
        return {name: _fill_placeholders(each, places) for name, each in value.items()}
    return [_fill_placeholders(each, places) for each in value] if isinstance(value, list) else value


def _content_of(representation: str) -> JSON:
    """Return a name such as ``vectors:FILE``, with what a file behind its colon holds in place of the path."""
    name, colon, argument = representation.partition(":")
    return f"{name}:{_content(argument)}" if colon else name


def _content(value: JSON) -> JSON:
    """Return a setting with files in place of their paths: what they hold."""
    if isinstance(value, list):
        return [_content(each) for each in value]
    if not isinstance(value, str):
        return value
    path = Path(value)
    if path.is_file():
        return file_digest(path)
    if path.is_dir():
        files = files_below(path)
        return digest([[str(file.relative_to(path)), file_digest(file)] for file in files])
    return _content_of(value) if ":" in value else value
