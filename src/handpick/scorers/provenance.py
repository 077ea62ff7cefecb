"""What a feature store was made with, kept in its folder, so that another query's features can be made like it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from handpick.data.read import absolute_source
from handpick.documents import read_yaml_mapping, reading
from handpick.errors import SettingsError, StoreError
from handpick.files import atomic_write
from handpick.layout import RunLayout, StoreLayout
from handpick.representations import SCORERS
from handpick.sealed import seal, unseal
from handpick.selection import Selection
from handpick.settings import Settings, parse_settings
from handpick.store import FeatureStore, merge
from handpick.store.manifest import read_manifest

_OLDEST = next(iter(SCORERS))  # stores of the first handpick name no representation: there was one

# what decides the rows of a store that another run may start from, but for the checkpoints
_KEPT = frozenset({"model", "seed", "pool", "shard_rows", "columns", "turn_weights"}).union(
    *(spec.rows for spec in SCORERS.values() if spec.has_pool_features)
) - {"warmup", "lora_targets"}


def pool_store_path(settings: Settings) -> Path:
    """Return the folder of the pool's features."""
    if settings.store:
        return Path(settings.store)
    return RunLayout(settings.folder).pool_store(settings.stored_representation.partition(":")[0])


def parsed_records(settings: Settings) -> Path:
    """Return the cache of parsed records: beside the features, so that every run that shares them shares it."""
    return StoreLayout(pool_store_path(settings)).parsed


def resume_from_store(settings: Settings) -> Settings:
    """Take from ``store``, where it is set, what the user did not say: the pool, the model, how features are made.

    The store may be incomplete: a run that made it, or made it grow, was killed, and this one goes on from there.

    Raises:
        StoreError: there is no store, or nothing says how it was made.
    """
    if settings.store is None:
        return settings
    kept = _read_provenance(settings.store)
    there = kept.pop("representation", _OLDEST)
    said = {name: getattr(settings, name) for name in settings.model_fields_set}
    if not {"method", "representation"} & said.keys():
        kept["representation"] = there
    else:
        kept.pop("optimizer", None)  # the method's own, which is then compared with the store's
    if "representation" not in kept and _absolute_representation(settings) != there:
        raise SettingsError(
            f"the store {settings.store} holds {there} features, and {settings.used_representation} was asked for; "
            "name another --method or another store"
        )
    return parse_settings(kept | said, where=settings.store)


def stored_representation(store: str | Path) -> str:
    """Return the representation whose rows a store holds.

    Raises:
        StoreError: there is no store, or nothing says how it was made.
    """
    return str(_read_provenance(store).get("representation", _OLDEST))


def read_run_settings(selection: Selection, folder: Path) -> Settings:
    """Read what the finished selection in a folder was made with; ``out`` is where it lies now.

    Raises:
        SettingsError: its settings are none that this handpick knows.
    """
    return parse_settings(selection.settings | {"out": str(folder)}, where=str(RunLayout(folder).selection))


def _read_provenance(store: str | Path) -> dict[str, Any]:
    read_manifest(Path(store))  # what is no store at all should be called that
    path = StoreLayout(Path(store)).provenance
    try:
        advice = "put the one of the run that built the store there"
        with reading(path, StoreError, advice):
            kept = unseal(read_yaml_mapping(path, StoreError, advice))
            if not isinstance(kept["pool"], list) or not all(isinstance(each, str) for each in kept["pool"]):
                raise TypeError("its pool is no list of sources")
    except FileNotFoundError as error:
        raise StoreError(
            f"the feature store {store} has no {path.name}, so a query's features cannot be made like its own; put the "
            "one of the run that built it there"
        ) from error
    return kept


def _write_kept(folder: Path, kept: dict[str, Any]) -> None:
    text = yaml.safe_dump(seal(dict(sorted(kept.items()))), sort_keys=False)
    atomic_write(StoreLayout(folder).provenance, text.encode())


def merge_stores(paths: Sequence[str | Path], out: str | Path) -> FeatureStore:
    """Make one store of several, which ``select(store=…)`` can start from.

    Raises:
        FingerprintMismatch: they were made with different settings.
        StoreError: as ``handpick.store.merge``, or nothing says how one of them was made.
    """
    provenance = [_read_provenance(path) for path in paths]
    store = merge(paths, out)
    kept = provenance[0] | {"pool": [source for each in provenance for source in each["pool"]]}
    _write_kept(store.path, kept)
    return store


def write_provenance(folder: Path, settings: Settings, **found: Any) -> None:
    """Write down what the store in ``folder`` is made with; ``found`` is what the settings leave open.

    Where ``store`` names one that says it already, only its pool's new files are added.
    """
    pool = [absolute_source(source) for source in settings.pool]
    if settings.store is not None and StoreLayout(folder).provenance.exists():
        kept = _read_provenance(folder)
        if len(pool) <= len(kept["pool"]):  # the same files; the folder may be one that others may only read
            return
        kept["pool"] = pool
    else:
        kept = settings.model_dump(mode="json", exclude_none=True, include=set(_KEPT))
        kept |= {"representation": _absolute_representation(settings), "pool": pool} | found
        if settings.model is not None:
            kept["model"] = _absolute(settings.model)
        kept["encoder"] = _absolute(settings.encoder)
        if not settings.template_args:  # as a store has it that was made before there were any
            del kept["template_args"]
    _write_kept(folder, kept)


def _absolute_representation(settings: Settings) -> str:
    """Return what the store holds, with the file of ``vectors:FILE`` as another folder would name it."""
    name, colon, argument = settings.stored_representation.partition(":")
    return f"{name}{colon}{_absolute(argument)}" if colon else name


def _absolute(name: str) -> str:
    """Make a path that is there absolute; a name on the Hub stays as it is."""
    return str(Path(name).resolve()) if Path(name).exists() else name
