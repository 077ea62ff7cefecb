"""Everything that can be set, in one object: from Python, from a YAML file or from flags.

It is checked before any work starts and written beside the results, so that a run can be repeated from what it wrote.
"""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from handpick.algorithms import AlgorithmSettings, find
from handpick.budget import Budget
from handpick.choices import Optimizer, Split
from handpick.data.reading import ReadingSettings
from handpick.data.unwanted import Unwanted
from handpick.errors import SettingsError
from handpick.file_names import check_file_name, check_file_names
from handpick.flag_names import Flag, check_values, flag_of
from handpick.layout import RunLayout
from handpick.methods import find_method
from handpick.object_store import check_address, is_address
from handpick.objectives.judge_fields import JUDGE_FIELDS
from handpick.objectives.settings import ObjectiveSettings
from handpick.own_folder import check_inputs, texts_in
from handpick.representations import SCORERS, ScorerSpec, find_scorer
from handpick.run_place import folder_of, name_of
from handpick.settings.complaints import describe_errors
from handpick.settings.constraints import Constraints
from handpick.settings.executor import MACHINES, RANKS, ExecutorSettings
from handpick.settings.files import read_yaml
from handpick.settings.passes import passes_by_method
from handpick.settings.prefilter import PrefilterSettings
from handpick.settings.representation import GradientSettings, RepresentationSettings
from handpick.settings.values import NamedFiles, Paths, Shares
from handpick.store.codec import Storage
from handpick.training.settings import TARGETS_METAVAR, LoraTargets, WarmupSettings

_MAY_BE_ADDRESSES = ("pool", "query", "target", "exclude_overlap", "out")


class Settings(
    GradientSettings,
    RepresentationSettings,
    PrefilterSettings,
    ObjectiveSettings,
    AlgorithmSettings,
    Constraints,
    ReadingSettings,
    ExecutorSettings,
):
    """What ``select``, ``represent`` and ``run`` take. Relative paths are relative to the working folder."""

    pool: Paths = Field(
        [], description="a file, a folder of files, a data set on the Hub to choose from; may be given several times"
    )
    query: Paths = Field([], description="the few examples of the target task; may be given several times")
    target: NamedFiles = Field({}, description="NAME=FILE, several: the queries of several tasks, which share a budget")
    split: Split = Field("equal", description="of the budget: equal, by weight, or shared as if it were one task")
    target_weight: Shares = Field({}, description="NAME=NUMBER: of a task, for --split weight")
    checkpoints: Paths = Field([], description="LoRA checkpoint folders to use instead of a warmup")
    method: str = Field(
        "less-rr",
        description="see `handpick methods`; forward passes over the pool that each takes (LESS has 4 checkpoints): "
        + passes_by_method(),
    )
    algorithm: str | None = Field(None, description="selection algorithm, instead of the method's own")
    budget: str = Field("1000", description="how much to choose: 1000, 5% or '2M tokens'")
    out: str | None = Field(
        None, description="folder or s3://BUCKET/PREFIX for all that is written; default runs/QUERY, or runs/features"
    )
    store: str | None = Field(None, description="start from the features in this folder")
    optimizer: Optimizer | None = Field(None, description="pool side; default: the method's own")
    storage: Storage = Field("float32", description="type of the stored features")
    shard_rows: int = Field(1024, ge=1, description="examples a shard of the store")
    warmup: Literal["auto", "less", "small", "none"] | WarmupSettings = Field(
        "auto", description="auto: `small` for models under 100M parameters, else `less`"
    )
    lora_targets: Annotated[LoraTargets | None, Flag(metavar=TARGETS_METAVAR)] = Field(
        None,
        description="layers of the warmup's adapter, names with commas between them; `experts` for those of a mixture; "
        "auto: attention for Llama, else every linear layer of the text part that works (default: auto)",
    )
    score_only: bool = Field(False, description="keep the similarity to this query alone, and no features of the pool")
    max_quarantined: int | None = Field(None, ge=0, description="bad records after which to stop")
    shard_model: Annotated[bool, Flag(heading=MACHINES)] = Field(
        False,
        exclude=True,
        description="ranks: keep a piece of the model in each, for one that no device holds (`represent` alone)",
    )

    @field_validator("budget", mode="before")
    @classmethod
    def _budget(cls, value: Any) -> str:
        return str(Budget.parse(value))

    @model_validator(mode="after")
    def _check_names(self) -> "Settings":
        self._check_addresses()
        self._check_prefilters()
        self._refuse_unused()
        self._check_product()
        self._check_targets()
        self._check_shard_model()
        if self.checkpoints and self.warmup != "auto":
            raise SettingsError(
                "checkpoints are given, or come with the store, so there is no warmup to train: leave it out"
            )
        if self.checkpoints and self.lora_targets is not None:
            raise SettingsError(
                "checkpoints are given, or come with the store, and have their layers: leave lora_targets out"
            )
        if self.lora_targets is not None and isinstance(self.warmup, WarmupSettings):
            raise SettingsError("the warmup has settings of its own: give the layers there, as lora.targets")
        if (self.max_share or self.min_share) and Budget.parse(self.budget).kind == "tokens":
            raise SettingsError("shares of sources are of a budget in examples or percent: give one, or no shares")
        if self.score_only and self.store is not None:
            raise SettingsError("the store has the pool's features already: leave out score_only")
        if self.projection == "sparse" and self.projection_dim % self.projection_nonzeros:
            raise SettingsError(
                f"projection_dim {self.projection_dim} is no multiple of projection_nonzeros {self.projection_nonzeros}"
            )
        return self

    def _check_addresses(self) -> None:
        """Refuse addresses that hold a key, and those of what is read from folders alone."""
        for name in type(self).model_fields:
            if name in JUDGE_FIELDS.values():  # a server's
                continue
            for address in filter(is_address, texts_in(getattr(self, name))):
                check_address(address, SettingsError)
                if name not in _MAY_BE_ADDRESSES:
                    *others, last = _MAY_BE_ADDRESSES
                    raise SettingsError(
                        f"{name} {address} is no path: fetch it into a folder and name that; addresses are for "
                        f"{', '.join(others)} and {last}"
                    )
                if name != "out" and self.is_in_bucket and address.startswith(f"{str(self.out).rstrip('/')}/"):
                    raise SettingsError(f"{name} {address} lies where this run writes; give another --out")

    def _refuse_unused(self) -> None:
        """Refuse settings that would mislead who reads them, since nothing looks at them."""
        name, scorer, reads, changed = self.used_representation, self.scorer, self.reads, self.changed
        if self.checkpoints and "checkpoints" not in reads and "dtype" in reads:
            raise SettingsError(f"{name} reads with the base model alone: leave checkpoints out")
        of_objective = [each for each in ObjectiveSettings.model_fields if each in changed]
        if unread := [each for each in of_objective if each not in reads]:
            raise SettingsError(f"{name} has no objective to look at {unread[0]}: leave it out")
        if any(each.has_objective for each in self.scorers):
            self._refuse_unused_of_objective(of_objective)
        for refusal in scorer.refuses:
            if getattr(self, refusal.setting) == refusal.value:
                raise SettingsError(refusal.sentence)
        if self.score_only and "score_only" not in scorer.reads:
            readers = " or ".join(each for each, spec in SCORERS.items() if "score_only" in spec.reads)
            raise SettingsError(f"score_only is for {readers}s, not for {name}: leave it out")
        if "overlap_threshold" in changed and not self.exclude_overlap:
            raise SettingsError("overlap_threshold is for --exclude-overlap: give a test set, or leave it out")
        if self.split != "equal" and not self.target:
            raise SettingsError("split is for --target NAME=FILE, several: leave it out")

    def _refuse_unused_of_objective(self, changed: list[str]) -> None:
        if "gamma" in changed and self.preference_loss != "simpo":
            raise SettingsError(f"gamma is simpo's margin, and the loss is {self.preference_loss}: leave it out")
        if self.reference is not None and self.preference_loss == "simpo":
            raise SettingsError("simpo compares with no reference: leave reference out")
        of_judge = [each for each in changed if each in JUDGE_FIELDS.values()]
        if of_judge and self.reward is not None and not self.reward.startswith("judge:"):
            raise SettingsError(f"{of_judge[0]} is for --reward judge:MODEL, not for {self.reward}: leave it out")

    @property
    def unused_settings(self) -> list[str]:
        """Settings that were changed although nothing looks at them; handy where several representations are tried."""
        idle = {
            "eps_mode": self.used_optimizer == "sgd",
            "projection_dim": self.projection == "none",
            "projection_nonzeros": self.projection != "sparse",
            "storage": self.score_only and not self.prefilter,
            "encoder": all(
                scorer.beside is not None and "encoder" not in find_scorer(getattr(self, scorer.beside)).reads
                for scorer in self.scorers
                if "encoder" in scorer.reads
            ),
        }
        of_scorers = frozenset[str]().union(*(spec.reads for spec in SCORERS.values()))
        unread = {name for name in of_scorers if name not in self.reads or idle.get(name)}
        if Budget.parse(self.budget).kind == "tokens":
            unread -= {"max_length", "template_args"}  # the tokens that count are those within it, so told
        return [name for name in type(self).model_fields if name in unread & self.changed]

    @property
    def changed(self) -> set[str]:
        """Names of the settings that are not at their defaults."""
        fields = type(self).model_fields
        return {name for name in fields if getattr(self, name) != fields[name].default}

    def _check_product(self) -> None:
        """Refuse a representation and an algorithm that do not go together."""
        algorithm, representation = self.used_algorithm, self.used_representation
        reads, output = find(algorithm).reads, self.scorer.output
        has_features = output == "features" and not self.score_only
        featureless = "score_only" if self.score_only else representation
        if output == "nothing" and algorithm != "random":
            what = f"the representation {representation}" if self.representation else f"the method {self.method}"
            raise SettingsError(f"{what} looks at nothing that the algorithm {algorithm} could rank by")
        if "candidates" in reads and not has_features and not (algorithm == "knn-kde" and self.kde_width == 0):
            raise SettingsError(
                f"the algorithm {algorithm} compares candidates with each other, and {featureless} has no features "
                "to do it by: choose another --representation or --algorithm"
            )
        if self.max_cosine is not None and not has_features:
            raise SettingsError(f"{featureless} has no features to find near-duplicates by: leave max_cosine out")
        if self.balanced and self.scorer.joins_queries:
            raise SettingsError(f"{representation} takes all queries together: leave balanced out")
        if self.balanced and "balanced" not in reads:
            raise SettingsError(f"the algorithm {algorithm} does not look at balanced: leave it out")
        if foreign := self.unused_by_algorithm(algorithm):
            raise SettingsError(f"the algorithm {algorithm} does not look at {foreign[0]}: leave it out")

    def _check_shard_model(self) -> None:
        """Refuse what cannot be done with a model that lies in pieces."""
        if not self.shard_model:
            return
        if self.engine != RANKS:
            raise SettingsError(
                "shard_model keeps a piece of the model in each rank of a launcher: give --engine ranks, and start by "
                "torchrun"
            )
        if not self.scorer.shards_model:
            able = " or ".join(name for name, spec in SCORERS.items() if spec.shards_model)
            raise SettingsError(
                f"with shard_model there are {able} features alone, and {self.used_representation} has others: choose "
                "another --method"
            )
        if not self.checkpoints:
            raise SettingsError(
                "no warmup is trained with shard_model: train the adapter elsewhere, and name its --checkpoints"
            )
        objective = self.objective or find_method(self.method).objective
        if self.sources and objective != "next-token":
            raise SettingsError(
                f"with shard_model the queries' objective is next-token, and {objective} reads with the model besides: "
                "choose another --method or --objective"
            )
        if self.quantization != "none":
            raise SettingsError(
                f"a model in {self.quantization} is not kept in pieces: leave quantization out, or shard_model"
            )
        if self.projection == "none":
            raise SettingsError("with shard_model rows are projected: leave projection none out")

    def _check_targets(self) -> None:
        check_file_names(self.target, "the target")
        if self.target and self.query:
            raise SettingsError("give either --query, for one task, or --target NAME=FILE for each of several")
        if self.target_weight and self.split != "weight":
            raise SettingsError("--target-weight is for --split weight: say that too, or leave the weights out")
        if unknown := [name for name in self.target_weight if name not in self.target]:
            raise SettingsError(
                f"--target-weight names {unknown[0]!r}; the targets are {', '.join(self.target) or 'none'}"
            )
        if none := [name for name, weight in self.target_weight.items() if weight == 0]:
            raise SettingsError(f"the target_weight of {none[0]!r} is 0: give a positive number")
        if self.splits_budget and self.scorer.joins_queries:
            raise SettingsError(
                f"{self.used_representation} takes all queries together: use --split shared, or a run for each target"
            )
        if self.split == "weight" and (lacking := [name for name in self.target if name not in self.target_weight]):
            raise SettingsError(f"--split weight needs a --target-weight {lacking[0]}=NUMBER: every target has one")

    def _check_prefilters(self) -> None:
        """Refuse prefilters that cannot rank the pool, or would leave all that the next one has."""
        if not self.prefilter:
            given = "prefilter_share" if self.prefilter_share else "prefilter_check"
            if self.prefilter_share or self.prefilter_check is not None:
                raise SettingsError(f"{given} is for --prefilter: name a representation, or leave it out")
            return
        if self.store is not None:
            raise SettingsError(
                "a store has the rows of the whole pool, and a prefilter is there to make fewer: leave one of them out"
            )
        if len(self.prefilter_shares) != len(self.prefilter):
            raise SettingsError(
                f"give one --prefilter-share for each --prefilter: there are {len(self.prefilter_share)} and "
                f"{len(self.prefilter)}"
            )
        if any(later >= earlier for earlier, later in pairwise(self.prefilter_shares)):
            raise SettingsError("each --prefilter-share is of the whole pool: give each less than the one before it")
        if twice := [name for name, n in Counter([*self.prefilter, self.used_representation]).items() if n > 1]:
            raise SettingsError(f"{twice[0]} ranks the candidates twice: choose another --prefilter")
        if self.prefilter_check and self.scorer.output == "nothing":
            raise SettingsError(f"{self.used_representation} ranks no candidates to check: leave prefilter_check out")
        last = self
        while last.prefilter:
            last = last.prefiltering
            if last.scorer.output == "nothing":
                raise SettingsError(f"{last.used_representation} ranks no candidates: choose another --prefilter")
            for refusal in last.scorer.refuses:
                if getattr(last, refusal.setting) == refusal.value:
                    raise SettingsError(f"the prefilter {last.used_representation}: {refusal.sentence}")

    @property
    def prefiltering(self) -> "Settings":
        """The stages before the last as a run of their own: all that it has of the choice is the ranking."""
        *before, last = self.prefilter
        own: dict[str, Any] = {
            "representation": last,
            "prefilter": before,
            "prefilter_share": self.prefilter_shares[:-1],
            "prefilter_check": 0 if before else None,
            "algorithm": "doubly-greedy",
            "split": "shared" if self.target else "equal",
            "score_only": False,
            "balanced": False,
        }
        if "optimizer" in find_scorer(last).fixed:
            own["optimizer"] = None
        return self.model_copy(update=own)

    @property
    def last_stage(self) -> "Settings":
        """The same without prefilters."""
        return self.model_copy(update={"prefilter": [], "prefilter_share": [], "prefilter_check": None})

    @property
    def scorers(self) -> list[ScorerSpec]:
        """The lines in the table of all that ranks: the prefilters' in order, and ``scorer``."""
        return [*map(find_scorer, self.prefilter), self.scorer]

    @property
    def reads(self) -> frozenset[str]:
        """The settings that one of them looks at."""
        return frozenset[str]().union(*(spec.reads for spec in self.scorers))

    @property
    def needs(self) -> frozenset[str]:
        """All that one of them needs."""
        return frozenset[str]().union(*(spec.needs for spec in self.scorers))

    @property
    def used_representation(self) -> str:
        """The method's own, unless another was asked for."""
        return self.representation or find_method(self.method).representation

    @property
    def scorer(self) -> ScorerSpec:
        """The line of ``used_representation`` in the table."""
        return find_scorer(self.used_representation)

    @property
    def stored_representation(self) -> str:
        """What the pool's store holds: another representation's rows, where this one differs on the queries' side."""
        return self.scorer.stores or self.used_representation

    @property
    def used_optimizer(self) -> Optimizer:
        """Of the pool's side: what the representation allows, else what was asked for, else the method's own."""
        fixed: Any = self.scorer.fixed.get("optimizer")
        return fixed or self.optimizer or find_method(self.method).optimizer

    @property
    def sources(self) -> list[str]:
        """The files of all queries, whatever target they are of."""
        return self.query or [file for files in self.target.values() for file in files]

    @property
    def unwanted_queries(self) -> Unwanted:
        """What becomes of queries that are labelled as not wanted: preferences make pairs of them."""
        objective = self.objective or find_method(self.method).objective
        has_objective = any(scorer.has_objective for scorer in self.scorers)
        return "pair" if has_objective and objective == "preference" else "aside"

    @property
    def splits_budget(self) -> bool:
        """Whether there are several targets, each with a budget of its own."""
        return len(self.target) > 1 and self.split != "shared"

    @property
    def used_algorithm(self) -> str:
        """The method's own, unless another was asked for."""
        return self.algorithm or find_method(self.method).algorithm

    @property
    def folder(self) -> Path:
        """Where everything is written; of a run in a bucket, the folder of this machine that is kept there."""
        return folder_of(self.place)

    @property
    def place(self) -> str | Path:
        """What the run is called: its address where it is in a bucket, else its folder."""
        if self.out is not None:
            return self.out
        name = Path(self.query[0]).name.split(".")[0] if self.query else "-".join(self.target) or "features"
        return Path("runs") / check_file_name(name, "the folder of a run, which --out names otherwise,")

    @property
    def is_in_bucket(self) -> bool:
        """Whether the run's own place is in a bucket."""
        return is_address(self.out)

    def name_of(self, path: Path) -> str:
        """Return what a file or folder of the run is called: in a bucket, by its address."""
        return name_of(self.place, path)

    def to_yaml(self) -> str:
        """Return all settings, as ``from_yaml`` reads them back."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_none=True), sort_keys=False)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Settings":
        """Read settings from a file.

        Raises:
            SettingsError: there is no such file, it is no YAML mapping, or a setting is wrong.
        """
        return cls.of_file(read_yaml(path), path)

    @classmethod
    def of_file(cls, values: dict[str, Any], path: str | Path) -> "Settings":
        """Return what a file's values mean, which ``read_yaml`` has read.

        Raises:
            SettingsError: a setting is wrong.
        """
        settings = parse_settings(values, where=str(path))
        layout = RunLayout(settings.folder)
        if (
            Path(path).resolve() != layout.settings.resolve()
        ):  # which is written there, and stays where it says the same
            check_inputs(layout, {}, {"the settings": path})
        return settings


def not_given(name: str) -> SettingsError:
    """Return what to say where there is no pool or no query."""
    return SettingsError(f"no {name} given: name a file or a data set with --{name}")


def parse_settings(values: dict[str, Any], where: str = "") -> Settings:
    """Make settings from plain values; pydantic's complaint becomes one sentence.

    Args:
        values: by the names of the fields.
        where: what they came from, for the complaint; "--" for flags.

    Raises:
        SettingsError: a name is unknown or a value is wrong.
    """
    check_values(
        values, lambda name: flag_of(Settings, name) if where == "--" else f"{where}: {name}" if where else name
    )
    try:
        return Settings(**values)
    except ValidationError as error:
        fields = {"": Settings.model_fields, "warmup": WarmupSettings.model_fields}
        raise SettingsError(describe_errors(Settings, error, where, fields, see="handpick select --help")) from error
