"""A representation at work on a run's data. One file a representation; its line stands in ``representations.SCORERS``.

A representation whose rows are of examples by themselves derives from ``RowEncoder`` (row_scorer.py), and one that
gives a score a candidate itself from ``DirectScorer`` (direct_scorer.py); others from ``Scorer``.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from typing import Any, Self

import numpy as np

from handpick.costs.probe import Probing
from handpick.errors import DataError, SettingsError
from handpick.executors import Preparer, refuse_queries, report_unusable
from handpick.fingerprint import Fingerprint
from handpick.progress import log
from handpick.representations import ScorerSpec
from handpick.scorers.finished_run import FinishedRun, Reopened
from handpick.scorers.inputs import ChoiceLimits, Data, Inputs, subtask_labels
from handpick.scorers.scoring_problem import ScoringProblem
from handpick.scorers.stages import Stage
from handpick.settings import Settings
from handpick.store import FeatureStore
from handpick.store.manifest import contents_of


class Scorer(ABC):
    """From a run's data to what an algorithm chooses by.

    Args:
        inputs: the run's settings and data.
    """

    nothing_to_say = "feature"  # what a query lacks that is like nothing

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.settings = inputs.settings
        self.pool = inputs.pool

    def preflight(self) -> None:  # noqa: B027 (many have nothing to check)
        """Find out, before any work, what would stop the run later; a run, its plan and a study all ask.

        Raises:
            HandpickError: of the kind that fits what is wrong.
        """

    def check_count(self, n_pool: int) -> None:  # noqa: B027 (of use to those for whom some pools are too small)
        """Refuse a pool of so many examples, before any work: of what a prefilter will leave no more is known.

        Raises:
            SettingsError: it is too small, or too large.
        """

    def constrain(self, limits: ChoiceLimits) -> None:  # noqa: B027 (of use to those that leave candidates out)
        """Take note, before the stages run, of what the choice must keep to."""

    def settings_of_part(self) -> dict[str, Any]:
        """Return settings by which the same on a part of the pool uses what was trained on the whole, once it is."""
        return {}

    def lend_warmup(self, part: Self, probing: Probing) -> None:  # noqa: B027 (of those that have one)
        """Let a part be planned at the checkpoints that this one is planned at."""

    @abstractmethod
    def stages(self) -> list[Stage]:
        """Return what is to be done, in order; without queries, what makes the pool's features alone."""

    @abstractmethod
    def problem(self) -> ScoringProblem:
        """Return what to choose by; called when the stages have run.

        Raises:
            DataError: nothing is left to choose from, or more is set aside than the quarantine's limit.
        """

    def pool_features(self) -> FeatureStore:
        """Return the pool's features, when the stages have run.

        Raises:
            SettingsError: there are none, or they are made for queries.
        """
        raise no_features(self.settings)

    @classmethod
    @abstractmethod
    def reopen(cls, run: FinishedRun) -> Reopened | str:
        """Return a finished run's similarities, from what it left behind, or why they cannot be had: computes no row.

        Raises:
            HandpickError: what was left is damaged.
        """


def open_scorer(inputs: Inputs) -> Scorer:
    """Return the scorer of a run's representation; nothing is computed, and nothing checked yet."""
    from handpick.scorers.cascade import Cascade
    from handpick.scorers.row_scorer import RowEncoder, RowScorer

    if inputs.settings.prefilter:
        return Cascade(inputs)
    kind = load_kind(inputs.settings.scorer)
    return RowScorer(inputs, kind) if issubclass(kind, RowEncoder) else kind(inputs)


def reopen_scorer(run: FinishedRun) -> Reopened | str:
    """Return what ``Scorer.reopen`` does, of the run's representation."""
    from handpick.scorers.cascade import Cascade
    from handpick.scorers.row_scorer import RowEncoder, RowScorer

    if run.settings.prefilter:
        return Cascade.reopen(run)
    kind = load_kind(run.settings.scorer)
    return RowScorer.reopen(run) if issubclass(kind, RowEncoder) else kind.reopen(run)


def load_kind(scorer: ScorerSpec) -> Any:
    """Return the class that the table's line names: a ``RowEncoder`` or a ``Scorer``."""
    module, _, name = scorer.load.partition(":")
    return getattr(import_module(module), name)


def no_features(settings: Settings) -> SettingsError:
    """Return what to say where features alone are asked for and there are none to make."""
    scorer = settings.scorer
    if scorer.output == "nothing":
        return SettingsError(f"the method {settings.method} needs no features")
    why = "has none" if scorer.output != "features" else "makes them for a query"
    return SettingsError(f"no features to build: {settings.used_representation} {why}; use `handpick select`")


class Queries:
    """The queries of a run whose features are in a store; those that are like nothing are left out.

    Args:
        inputs: of the run.
        store: the queries' features.
        lacking: what a query has none of that is like nothing, for messages.
        advice: what to do where none has any.

    Raises:
        DataError: no query has any, or a query's row is not finite.
    """

    def __init__(self, inputs: Inputs, store: FeatureStore, lacking: str, advice: str) -> None:
        refuse_queries(store.manifest, not_finite := store.not_finite(), len(store) + len(not_finite))
        self.store = store
        norms_TQ = np.stack([store.norms(t) for t in range(len(store.checkpoints))])
        says_Q = norms_TQ.any(axis=0)
        silent = np.flatnonzero(~says_Q)
        if len(silent):
            names = ", ".join(store.ids[row] for row in silent[:3]) + (", …" if len(silent) > 3 else "")
            log(f"{len(silent)} of {len(store)} queries have no {lacking} and are left out: {names}")
        if len(silent) == len(store):
            raise DataError(f"no query has a {lacking.split()[0]}, so there is nothing to choose by: {advice}")
        self.kept_Q = np.flatnonzero(says_Q)
        query = inputs.queries.pool
        subtask_of = dict(zip(query.ids(), subtask_labels(inputs.settings, query), strict=True))
        self.ids = [store.ids[row] for row in self.kept_Q.tolist()]
        self.subtasks = [subtask_of[query_id] for query_id in self.ids]


def quarantine_unused(store: FeatureStore, data: Data, prepares: Preparer) -> None:
    """Report what is in the pool and not in its store.

    Raises:
        DataError: nothing is left, or the quarantine's limit is passed.
    """
    report_unusable(store, data.pool, prepares, data.quarantine)
    data.quarantine.report()


def fingerprint(store: FeatureStore) -> Fingerprint:
    """Return what a store's rows are, and of which data."""
    return store.manifest.settings() | {"files": contents_of(store.manifest.files)}
