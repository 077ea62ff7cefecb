"""What the candidates are: each a run of ``select`` with its own method, and a method of a round's study."""

from collections.abc import Mapping, Sequence
from typing import Any

from handpick.auditions.folds import HALVES
from handpick.auditions.queries import TargetQueries
from handpick.auditions.rounds import AuditionRound
from handpick.auditions.settings import AuditionSettings
from handpick.data.reading import ReadingSettings
from handpick.errors import SettingsError
from handpick.in_memory import named_in_memory
from handpick.layout import AuditionLayout, RunLayout
from handpick.methods import METHODS, find_method
from handpick.model import parameter_count
from handpick.settings import Settings, not_given, parse_settings
from handpick.settings.constraints import Constraints
from handpick.studies.cells import RANDOM
from handpick.studies.settings import StudySettings
from handpick.training.settings import SMALL_MODEL

ONE_TARGET = "queries"  # what the target is called that has no name
# of a run, and not of a candidate's own way to choose
_OF_THE_RUN = frozenset(
    {"pool", "query", "target", "split", "target_weight", "model", "budget", "out", "method", "template_args"}
    | {"max_length", "workers", "max_quarantined", *ReadingSettings.model_fields}
)
_OF_DRAWS = frozenset(Constraints.model_fields) - {"balanced", "max_cosine"}  # what needs no queries or features
_OF_ONE_CHOICE = ("max_share", "min_share", "max_cosine")  # constraints that parts of several choices do not keep to
_CODE = "allow_code_execution"  # of the metric, and of candidates with a reward
_EACH_ITS_OWN = ("representation", "algorithm", "store", "objective")
# TIS's four steps at 2e-5 would move nothing on a part of a budget; ours, as in benchmarks/cheap_gradients.py
_TRAIN: dict[str, Any] = {
    "epochs": 3, "learning_rate": 2e-4, "batch": 16, "lora": {"rank": 16, "alpha": 32, "dropout": 0.0},
}  # fmt: skip


class Candidates:
    """The candidates of an audition, checked.

    Args:
        values: settings of the run that the winner is to make, as plain values, without its method.
        own: settings of the audition.

    Raises:
        SettingsError: one of them cannot be run with these settings, or they lack what an audition needs.
    """

    def __init__(self, values: Mapping[str, Any], own: AuditionSettings) -> None:
        self.values = {name: value for name, value in values.items() if name not in ("method", _CODE)}
        self._may_run_code = bool(values.get(_CODE))
        self.own = own
        if given := [name for name in _EACH_ITS_OWN if self.values.get(name) is not None]:
            raise SettingsError(
                f"every candidate has its own {given[0]}: leave --{given[0]} out, or name it in methods"
            )
        self.names = list(own.candidates)
        self.runs = {name: self.run_settings(name) for name in self.names}
        self.any = next(iter(self.runs.values()))
        if self.any.model is None:
            raise not_given("model")
        if not self.any.pool:
            raise not_given("pool")
        if not self.any.sources:
            raise not_given("query")
        if own.if_none == "union":
            self._check_union()
        if named := named_in_memory(self.any.model_dump()):
            raise SettingsError(
                f"an audition reads files, and a {named[0]} was handed over in memory: write it down first"
            )

    def _check_union(self) -> None:
        """Raise SettingsError where choices that each keep to a constraint would break it together."""
        for name in _OF_ONE_CHOICE:
            if any(getattr(run, name) not in (None, {}) for run in self.runs.values()):
                raise SettingsError(
                    f"several choices in turns (--if-none union) do not keep to {name} together: take --if-none random "
                    f"or stop, or leave {name} out"
                )

    def run_settings(self, name: str) -> Settings:
        """Return a candidate's run, with all queries and the whole budget.

        Raises:
            SettingsError: the settings contradict each other; the message names the candidate.
        """
        try:
            return parse_settings(self.values | self._own_values(name))
        except SettingsError as error:
            raise SettingsError(f"the candidate {name}: {error}") from error

    def random_settings(self) -> Settings:
        """Return a run that draws at random, under the same constraints."""
        kept = _OF_THE_RUN | {"seed"} | _OF_DRAWS
        return parse_settings({name: each for name, each in self.values.items() if name in kept} | {"method": RANDOM})

    @property
    def targets(self) -> dict[str, list[str]]:
        """The files of each target's queries."""
        return self.any.target or {ONE_TARGET: self.any.query}

    @property
    def layout(self) -> AuditionLayout:
        """Where the audition is."""
        return AuditionLayout(RunLayout(self.any.folder).audition)

    def study(self, names: Sequence[str], round_: AuditionRound, targets: Sequence[TargetQueries]) -> StudySettings:
        """Return a round as a study: a target for each half, which the other half chooses for."""
        layout, own = self.layout, self.own
        train = _TRAIN if parameter_count(str(self.any.model)) >= SMALL_MODEL else {}
        shared = {name: each for name, each in self.values.items() if name not in _OF_THE_RUN}
        # else a constraint would count as the candidates' merit: test questions that they may not take, draws would
        of_draws = {name: each for name, each in self.values.items() if name in _OF_DRAWS}
        values: dict[str, Any] = {
            "name": "audition", "out": str(layout.folder), "pool": self.any.pool, "models": [self.any.model],
            "budgets": [round_.examples], "seeds": [0], "draws": round_.draws, "baselines": [RANDOM],
            "methods": {name: shared | self._own_values(name) for name in names}
            | ({RANDOM: of_draws} if of_draws else {}),
            "targets": {
                each.half(repeat, side): {
                    "query": str(layout.queries(each.half(repeat, side))),
                    "test": {
                        "files": str(layout.queries(each.name)), "metrics": own.metrics_of(each.has_answers),
                        **own.test,
                    },
                }
                for each in targets for repeat in range(round_.repeats) for side in range(HALVES)
            },
            "recipe": "auto", "train": train | own.train, "keep": "results", "query_loss": False,
            "max_length": self.any.max_length, "template_args": self.any.template_args,
            "workers": self.any.workers, _CODE: self._may_run_code,
        }  # fmt: skip
        reading = {name: self.values[name] for name in ReadingSettings.model_fields if name in self.values}
        return StudySettings.from_values(values | reading, where="the audition")

    def _own_values(self, name: str) -> dict[str, Any]:
        own = self.own.candidates[name]
        found = {"method": name if name in METHODS else "less-rr"} | own
        if self._may_run_code and find_method(found["method"]).objective == "reward":
            found |= {_CODE: True}
        return found
