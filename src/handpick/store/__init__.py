"""The feature store on disk: shards, manifest, resume, append, merge, verify."""

from handpick.store.array import FeatureArray
from handpick.store.feature_store import FeatureStore
from handpick.store.manifest import Checkpoint, Manifest, ManifestFile, Shard
from handpick.store.merge import merge

__all__ = ["Checkpoint", "FeatureArray", "FeatureStore", "Manifest", "ManifestFile", "Shard", "merge"]
