"""Features of the pool by themselves, of another representation than the run's own, in the run's folder."""

from dataclasses import replace
from functools import cached_property

from handpick.costs.cost import Extent
from handpick.costs.probe import Probing
from handpick.executors import Executor
from handpick.fingerprint import Fingerprint, require_same
from handpick.layout import StoreLayout
from handpick.model import free_memory
from handpick.scorers.feature_scorer import FeatureScorer
from handpick.scorers.inputs import Inputs
from handpick.scorers.provenance import pool_store_path
from handpick.scorers.scorer import open_scorer
from handpick.scorers.stages import Stage
from handpick.store import FeatureStore
from handpick.store.manifest import contents_of, read_manifest


class PoolFeatures:
    """A representation's store of the pool: what a run with that representation leaves in the same folder.

    Args:
        inputs: of the run.
        representation: which, with features of the pool that need no queries.
    """

    def __init__(self, inputs: Inputs, representation: str) -> None:
        settings = inputs.settings.model_copy(update={"representation": representation})
        self._run = replace(inputs, settings=settings, query=None)
        self._store: FeatureStore | None = None

    @cached_property
    def _scorer(self) -> FeatureScorer:
        scorer = open_scorer(self._run)
        if not isinstance(scorer, FeatureScorer):
            raise TypeError(f"{type(scorer).__name__} compares no features")
        return scorer

    def check(self) -> None:
        """Find out, before any work, what would stop the making of them later.

        Raises:
            FingerprintMismatch: the folder holds them of another model, other settings or another pool.
            HandpickError: as the representation's ``preflight``.
        """
        self._scorer.preflight()
        path = pool_store_path(self._run.settings)
        if StoreLayout(path).manifest.exists():
            there, settings = read_manifest(path), self._run.settings
            files = contents_of(self._run.pool.pool.files)[: len(there.files)]  # the pool may have grown since
            here = self.inputs | {"storage": settings.storage, "shard_rows": settings.shard_rows, "files": files}
            kept: Fingerprint = {"space": there.space, "build": there.build, "files": contents_of(there.files)}
            kept |= {"storage": there.storage, "shard_rows": there.shard_rows}
            require_same(kept, here, what=f"the feature store {path}")

    @cached_property
    def inputs(self) -> Fingerprint:
        """What they depend on."""
        return self._scorer.pool_inputs()

    def extent(self, probing: Probing) -> Extent:
        """Return how many there are, and how long."""
        return self._scorer.extent(probing)

    def stage(self) -> Stage:
        """Return the stage that makes them."""
        (stage,) = self._scorer.stages()
        return replace(stage, run=self._make)

    def _make(self, executor: Executor) -> None:
        (stage,) = self._scorer.stages()
        stage.run(executor)
        _ = self.store

    @property
    def store(self) -> FeatureStore:
        """The store, whole, when what is not in it has been reported; its model is given back."""
        if self._store is None:
            self._store = self._scorer.pool_features()
            self.__dict__.pop("_scorer")
            free_memory()
        return self._store
