"""What a study is made of, from one YAML file, checked before any work."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from handpick.budget import Budget
from handpick.choices import suggest
from handpick.data.reading import ReadingSettings
from handpick.data.template_args import TemplateArgs
from handpick.data.unwanted import Unwanted
from handpick.errors import SettingsError
from handpick.evaluation.settings import TaskSettings
from handpick.file_names import check_file_name, check_file_names
from handpick.finetuning.train import Recipe, replace_settings
from handpick.flag_names import check_values
from handpick.layout import StudyLayout
from handpick.methods import METHODS
from handpick.own_folder import check_inputs
from handpick.run_place import folder_of
from handpick.settings import Settings, parse_settings
from handpick.settings.complaints import describe_errors
from handpick.settings.executor import CellExecutorSettings, ExecutorSettings
from handpick.settings.files import read_yaml
from handpick.settings.values import Paths
from handpick.studies.cells import BASELINES, FULL, LONGEST, RANDOM, ZERO_SHOT, Baseline
from handpick.training.settings import FinetuneSettings

_OF_THE_STUDY = (
    *("pool", "query", "target", "model", "budget", "target_weight", "split", "template_args"),
    *ReadingSettings.model_fields,
)


_MOST = 10_000  # seeds, draws and slices of a study


def _models(value: Any) -> dict[str, str]:
    """Name models: a mapping, or paths that are called by their last part."""
    if isinstance(value, dict):
        return {str(name): str(model) for name, model in value.items()}
    several = [value] if isinstance(value, str | Path) else value
    if not isinstance(several, list) or not several:
        raise ValueError("should be a model, a list of models or NAME: MODEL")
    names = [Path(str(model)).name for model in several]
    if len(set(names)) < len(names):
        raise ValueError("has two models of one name: write NAME: MODEL for each")
    return dict(zip(names, map(str, several), strict=True))


def _seeds(value: Any) -> Any:
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if value > _MOST:
        raise ValueError(f"should be {_MOST:,} at most")
    return list(range(value))


class TargetSettings(BaseModel):
    """One task: the few examples that are chosen for, and what is measured.

    ``test`` is a file or several, or all that ``handpick.evaluation.settings.TaskSettings`` has; beside it may stand
    what goes into those settings, such as ``metrics``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    query: Paths
    test: TaskSettings

    @model_validator(mode="before")
    @classmethod
    def _gather_test(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "test" not in value:
            return value
        test = value["test"] if isinstance(value["test"], dict | TaskSettings) else {"files": value["test"]}
        beside = {name: each for name, each in value.items() if name not in cls.model_fields}
        return {"test": test | beside if isinstance(test, dict) else test} | {
            name: each for name, each in value.items() if name == "query"
        }


class QuantileSettings(BaseModel):
    """TIS's first experiment: the pool in each method's order is cut into ``bins``; the first of each are learned."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    bins: int = Field(10, ge=2, le=_MOST, description="slices of the ordered pool")
    each: int = Field(500, ge=1, description="examples that are trained on, the first of a slice")


class StudySettings(ReadingSettings, CellExecutorSettings):
    """What ``handpick study`` reads. Relative paths are relative to the working folder."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field("study", min_length=1, description="what the results are called")
    out: str | None = Field(None, description="folder for everything that is written; default runs/NAME")
    pool: Paths = Field(min_length=1, description="files to choose from, or a data set on the Hub")
    models: Annotated[dict[str, str], BeforeValidator(_models)] = Field(description="one or several")
    targets: dict[str, TargetSettings] = Field(min_length=1, description="NAME: query and test")
    methods: dict[str, dict[str, Any]] = Field(
        {}, description="NAME: settings of `handpick select`, or selection: the folder of one that was made elsewhere"
    )
    budgets: list[int | str] = Field(min_length=1, description="examples, or a percent of the pool")
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], BeforeValidator(_seeds)] = Field(
        [0, 1, 2], min_length=1, description="of training"
    )
    draws: int = Field(10, ge=1, le=_MOST, description="random draws, each trained on once")
    baselines: list[Baseline] = Field(list(BASELINES), description="all unless taken out")
    quantiles: QuantileSettings | None = Field(None, description="experiment 1 of TIS as well")
    recipe: Recipe = Field("auto", description="of training: tis, or small for models under 100M parameters")
    train: dict[str, Any] = Field({}, description="settings that replace the recipe's")
    tests: dict[str, Any] = Field({}, description="settings of every target's test, where it has none of its own")
    max_length: int | None = Field(None, ge=8, description="tokens of a conversation, in every step")
    template_args: TemplateArgs = Field({}, description="what the chat template is told, in every step")
    keep: Literal["models", "results"] = Field(
        "models", description="results: a fine-tuned model is removed once it is measured"
    )
    query_loss: bool = Field(True, description="measure the loss on the queries too")
    allow_code_execution: bool = Field(False, description="pass@K, unit-tests: run the model's code, in a sandbox")

    @model_validator(mode="before")
    @classmethod
    def _apply_tests(cls, value: Any) -> Any:
        """Put what ``tests`` says, and how records are read, at every target that does not say it."""
        if not isinstance(value, dict) or not isinstance(value.get("tests", {}), dict):
            return value
        targets = value.get("targets")
        if not isinstance(targets, dict):
            return value
        every = {name: value[name] for name in ReadingSettings.model_fields if name in value} | value.get("tests", {})
        filled = {}
        for name, target in targets.items():
            if isinstance(target, dict) and "test" in target and not isinstance(target["test"], TaskSettings):
                own = target["test"] if isinstance(target["test"], dict) else {"files": target["test"]}
                target = target | {"test": every | own}
            filled[name] = target
        return value | {"targets": filled}

    @field_validator("methods", mode="before")
    @classmethod
    def _name_methods(cls, value: Any) -> Any:
        """Parse a list of names, or NAME: settings, where nothing means the method as it is."""
        if isinstance(value, list):
            return {str(name): {} for name in value}
        return {name: own or {} for name, own in value.items()} if isinstance(value, dict) else value

    @field_validator("budgets")
    @classmethod
    def _check_budgets(cls, budgets: list[int | str]) -> list[int | str]:
        for budget in budgets:
            if Budget.parse(budget).kind == "tokens":
                raise SettingsError(f"budgets: {budget} cannot be held against other methods' examples: give examples")
        return budgets

    @model_validator(mode="after")
    def _check_consistent(self) -> "StudySettings":
        check_file_names(self.targets, "targets:")
        if self.out is None:
            check_file_name(self.name, "name:")
        for what, values in (("seeds", self.seeds), ("budgets", self.budgets), ("baselines", self.baselines)):
            if len(set(map(str, values))) < len(values):
                raise SettingsError(f"{what} has an entry twice: take one out")
        if "seed" in self.train:
            raise SettingsError("train: seed is every cell's own: give seeds")
        try:
            replace_settings(FinetuneSettings(), self.train)
        except SettingsError as error:
            raise SettingsError(f"train: {error}") from error
        for name, target in self.targets.items():
            if judges := [metric for metric in target.test.metrics if metric.startswith("judge:")]:
                raise SettingsError(
                    f"targets: {name}: {judges[0]} would be asked in every cell, and no cap holds for all of them: "
                    "measure the models that the study keeps, by `handpick evaluate`"
                )
        if "seed" in self.methods.get(RANDOM, {}):
            raise SettingsError("methods: random: seed is every draw's own: give draws")
        for name, own in self.methods.items():
            if name in (ZERO_SHOT, FULL):
                raise SettingsError(f"methods: {name} is a baseline and no method: name it in baselines")
            if foreign := [each for each in _OF_THE_STUDY if each in own]:
                raise SettingsError(f"methods: {name}: {foreign[0]} is the study's own: say it there, once for all")
            if "selection" in own:
                _check_given(name, own)
            else:
                self.method(name, {"query": ["…"]})
        if not self.methods and not self.baselines:
            raise SettingsError("there are no methods and no baselines, so there is nothing to study: name some")
        return self

    @property
    def place(self) -> str | Path:
        """What the study is called: its address where it is in a bucket, else its folder."""
        return self.out or Path("runs") / self.name

    @property
    def folder(self) -> Path:
        """Where everything is written; of one in a bucket, the folder of this machine that is kept there."""
        return folder_of(self.place)

    @property
    def how_read(self) -> dict[str, Any]:
        """How records are read, as settings of what reads them; empty where it was not said."""
        return {name: getattr(self, name) for name in ReadingSettings.model_fields if name in self.model_fields_set}

    @property
    def chosen_by(self) -> list[str]:
        """The methods that choose, baselines that do so included."""
        return list(dict.fromkeys([*self.methods, *(b for b in self.baselines if b in (RANDOM, LONGEST))]))

    def selection_of(self, name: str) -> str | None:
        """Return the folder of the selection that a method is, where it was made elsewhere."""
        found: str | None = self.methods.get(name, {}).get("selection")
        return found

    @property
    def unwanted_queries(self) -> Unwanted:
        """What becomes of queries that are labelled as not wanted: pairs, where no method reads them otherwise."""
        made_here = (self.method(name, {"query": ["…"]}) for name in self.chosen_by if self.selection_of(name) is None)
        found = {settings.unwanted_queries for settings in made_here if "query" in settings.needs}
        return "pair" if found == {"pair"} else "aside"

    def method(self, name: str, given: dict[str, Any]) -> Settings:
        """Return a method's settings for one model and target.

        Args:
            name: of the method.
            given: what the study adds, such as the query.

        Raises:
            SettingsError: they contradict each other, or name something that is not there.
        """
        own = dict(self.methods.get(name, {}))
        if "method" not in own and "representation" not in own and name not in METHODS:
            raise SettingsError(
                f"methods: there is no method {name!r}{suggest(METHODS, name)}; say which with `method:`, or take one "
                f"of {', '.join(METHODS)}"
            )
        own.setdefault("method", name if name in METHODS else "less-rr")
        values = {"pool": self.pool} | self.how_read | own | given
        settings = parse_settings(values, where=f"methods: {name}")
        of_all = {"max_length": own.get("max_length", self.max_length), "template_args": self.template_args}
        # only what the method reads: of the rest each of its runs would say that nothing looks at it
        told = {setting: value for setting, value in of_all.items() if value and setting in settings.reads}
        return parse_settings(values | told, where=f"methods: {name}") if told else settings

    @classmethod
    def from_yaml(cls, path: str | Path, who: Mapping[str, Any] | None = None) -> "StudySettings":
        """Read settings from a file.

        Args:
            path: of the file.
            who: settings of who computes, in place of the file's: all of those where it says an engine or workers.

        Raises:
            SettingsError: there is no such file, it is no YAML mapping, or a setting is wrong.
        """
        values, who = read_yaml(path), who or {}
        if "engine" in who or "workers" in who:
            values = {name: value for name, value in values.items() if name not in ExecutorSettings.model_fields}
        settings = cls.from_values({**values, **who}, where=str(path))
        check_inputs(StudyLayout(settings.folder), {}, {"the settings": path})
        return settings

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str) -> "StudySettings":
        """Return settings from what a file would hold.

        Args:
            values: by the names of the fields.
            where: what they came from, for the complaint.

        Raises:
            SettingsError: a setting is wrong.
        """
        try:
            check_values(values)
            return cls(**values)
        except ValidationError as error:
            described = describe_errors(Settings, error, where, _FIELDS, see="handpick study --help")
            raise SettingsError(described) from error
        except SettingsError as error:
            raise SettingsError(f"{where}: {error}") from error


_FIELDS = {
    "": StudySettings.model_fields,
    "targets": TaskSettings.model_fields,
    "quantiles": QuantileSettings.model_fields,
}


def _check_given(name: str, own: dict[str, Any]) -> None:
    if name in BASELINES:
        raise SettingsError(f"methods: {name} is a baseline, and cannot be a selection as well: give another name")
    if not isinstance(own["selection"], str):
        raise SettingsError(f"methods: {name}: selection should be a folder, not {own['selection']!r}")
    if beside := [each for each in own if each != "selection"]:
        raise SettingsError(f"methods: {name}: a selection that is made has no setting {beside[0]}: leave it out")
