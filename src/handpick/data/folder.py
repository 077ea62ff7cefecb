"""From a folder to its data files: of plain shards, of ``datasets``' save_to_disk, of a repository of the Hub.

Metadata are never records, and a split to test with is read only if it was named.
"""

import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from handpick.data.containers import DATA_SUFFIXES
from handpick.data.containers.record import Say
from handpick.data.dataset_card import Configs, read_configs
from handpick.data.splits import choose_split, is_held_out, kind_of_split, list_names
from handpick.documents import DAMAGED
from handpick.errors import DataError
from handpick.layout import DataLayout, ParsedLayout, RunLayout

_DICT, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"
_METADATA = {_DICT, _INFO, "dataset_infos.json"}
_SHARD = re.compile(r"(.*)-\d{5}-of-\d{5}\b")
_SAVED_SHARD = re.compile(r"data-\d{5}-of-\d{5}\.arrow")
_PARSED = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{8})?\.arrow")  # behind the dash: `Reading.key`
_MAPPED = re.compile(r"cache-\w+\.arrow")  # what Dataset.map leaves beside the data it was made of


def is_metadata(file: Path) -> bool:
    """Return whether a file says something of a data set and holds none of it."""
    if file.name == _STATE:
        return "_data_files" in _load_object(file)
    return file.name in _METADATA or (_MAPPED.fullmatch(file.name) is not None and (file.parent / _INFO).exists())


def is_of_saved_dataset(file: Path) -> bool:
    """Return whether a file is one that ``Dataset.save_to_disk`` writes, by its name."""
    return _SAVED_SHARD.fullmatch(file.name) is not None


def files_of_folder(folder: Path, choice: str | None, say: Say) -> list[Path]:
    """Return the files of a folder that records are read from, in the order of their names.

    Args:
        folder: it and the folders in it are searched, but for those whose names begin with a dot.
        choice: a split, or a configuration and a split as ``config/split``; None where none was named.
        say: told which split is taken and what is left out, where nobody named it.

    Raises:
        DataError: there are no files, or it is not clear which are meant.
    """
    folder = _snapshot(folder, say)
    if (folder / _DICT).is_file():
        return _files_of_dict(folder, choice, say)
    if _is_saved(folder):
        if choice is not None:
            raise DataError(f"{folder} is one saved data set without splits, and {choice!r} was named")
        return _files_of_saved(folder)
    configs = read_configs(folder)
    if configs.files:
        return _files_of_config(folder, configs, choice, say)
    return _files_by_name(folder, choice, say)


def _snapshot(folder: Path, say: Say) -> Path:
    """Return the newest snapshot of a repository's folder in the Hub's cache; any other folder is as it is."""
    snapshots, main = folder / "snapshots", folder / "refs" / "main"
    if not snapshots.is_dir() or not (folder / "blobs").is_dir():
        return folder
    names = sorted(each.name for each in snapshots.iterdir() if each.is_dir())
    revision = main.read_text(encoding="utf-8").strip() if main.is_file() else None
    if revision not in names and len(names) == 1:
        revision = names[0]
    if revision not in names:
        raise DataError(f"{folder} has the snapshots {list_names(names)} in {snapshots}; name one of these folders")
    say(f"its snapshot {revision} is read")
    return snapshots / revision


def _files_of_dict(folder: Path, choice: str | None, say: Say) -> list[Path]:
    splits = _load_object(folder / _DICT).get("splits")
    names = [name for name in splits if isinstance(name, str)] if isinstance(splits, list) else []
    names = [name for name in names if Path(name).name == name]  # the others are no folders in this one
    split = choose_split(str(folder), names, choice, say, f"name one, as {folder}:{{}}")
    if not _is_saved(folder / split):
        raise DataError(f"{folder / split} is not there, or is no data set that save_to_disk wrote")
    return _files_of_saved(folder / split)


def _is_saved(folder: Path) -> bool:
    return "_data_files" in _load_object(folder / _STATE)


def _files_of_saved(folder: Path) -> list[Path]:
    state = _load_object(folder / _STATE)
    if state.get("_indices_data_files"):
        raise DataError(f"{folder} was saved with indices, by an old datasets: load and save it again")
    entries = state["_data_files"] if isinstance(state["_data_files"], list) else []
    names = [str(each["filename"]) for each in entries if isinstance(each, dict) and "filename" in each]
    if not names:
        raise DataError(f"{folder} is a saved data set without data files")
    if elsewhere := [name for name in names if Path(name).name != name]:
        raise DataError(f"{folder / _STATE} names a file of elsewhere: {elsewhere[0]!r}; save the data set again")
    return [folder / name for name in names]


def _load_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in a file; an empty one where there is no file, or something else in it.

    Raises:
        DataError: the system does not let it be read.
    """
    try:
        value = json.loads(file.read_bytes())
    except DAMAGED:
        return {}
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    return value if isinstance(value, dict) else {}


def _files_of_config(folder: Path, configs: Configs, choice: str | None, say: Say) -> list[Path]:
    """Return the files of a split that the data set's card names."""
    config, split = _choose_config(folder, configs, choice, say)
    splits, several = configs.files[config], len(configs.files) > 1
    where = f"{folder} ({config})" if several else str(folder)
    prefix = f"{folder}:{config}/" if several else f"{folder}:"
    chosen = choose_split(where, list(splits), split, say, f"name one, as {prefix}{{}}")
    if not splits[chosen]:
        raise DataError(f"{where} has no file of its split {chosen!r}; fetch the whole data set")
    return splits[chosen]


def _choose_config(folder: Path, configs: Configs, choice: str | None, say: Say) -> tuple[str, str | None]:
    """Return the configuration that is meant, and the split if one was named."""
    config, slash, split = (choice or "").partition("/")
    default, names = configs.default, list(configs.files)
    if slash and config in names:
        return config, split
    if len(names) == 1:
        return names[0], None if choice == names[0] and choice not in configs.files[choice] else choice
    if config in names and config not in configs.files.get(default or "", {}):
        return config, None
    if default is not None and not slash:
        others = list_names([name for name in names if name != default])
        say(f"its configuration {default!r} is read; left out: {others}")
        return default, choice
    raise DataError(f"{folder} has several configurations: {list_names(names)}; name one, as {folder}:{names[0]}")


def _files_by_name(folder: Path, choice: str | None, say: Say) -> list[Path]:
    """Return files by what their names and folders say of splits; those that say nothing are of every training set."""
    split_of = {file: _split_by_name(file, folder) for file in sorted(_walk(folder, say))}
    if not split_of:
        raise DataError(f"the folder {folder} holds no data file ({', '.join(DATA_SUFFIXES)})")
    _tell_folders([file.relative_to(folder).parts for file in split_of], say)
    splits = list(dict.fromkeys(split for split in split_of.values() if split is not None))
    if choice is not None:
        chosen = choose_split(str(folder), splits, choice, say, "")
        return [file for file, split in split_of.items() if split == chosen]
    if not splits:
        return list(split_of)
    taken: str | None = None
    if not (None in split_of.values() and all(map(is_held_out, splits))):
        taken = choose_split(str(folder), splits, None, say, f"name one, as {folder}:{{}}")
    else:
        say(f"left out, by the names of files: {list_names(splits)}")
    return [file for file, split in split_of.items() if split in (None, taken)]


def _tell_folders(parts: Sequence[Sequence[str]], say: Say) -> None:
    """Say that folders are read too, where there are files beside them, which might have been all that was meant."""
    if any(len(each) == 1 for each in parts) and (folders := sorted({each[0] for each in parts if len(each) > 1})):
        say(f"the folders in it are read too: {list_names(folders)}")


def _split_by_name(path: Path, folder: Path) -> str | None:
    """Return the split that a file is of, None where neither its folders nor its name say any."""
    if is_of_saved_dataset(path) and (path.parent.parent / _DICT).is_file():  # its split is chosen already
        path = path.parent
    file = path.relative_to(folder)
    for part in file.parts[:-1]:
        if kind := kind_of_split(part):
            return part if is_of_saved_dataset(file) else kind
    if path.is_dir():
        return None
    if (shard := _SHARD.match(file.name)) and kind_of_split(shard[1]):
        return shard[1]
    return kind_of_split(file.name.partition(".")[0])


def _walk(folder: Path, say: Say, seen: Sequence[Path] = ()) -> Iterator[Path]:
    """Yield the data files of a folder and of those in it; links are followed, but not around in circles."""
    if folder.resolve() in seen:
        return
    seen = (*seen, folder.resolve())
    try:
        entries = sorted(Path(entry.path) for entry in os.scandir(folder))
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if (entry / _DICT).is_file() or _is_saved(entry):
                yield from files_of_folder(entry, None, partial(_say_of, entry, say))
            elif _is_of_handpick(entry):
                say(f"left out, since it is a run's: the folder {entry.name}")
            else:
                yield from _walk(entry, say, seen)
        elif entry.is_file() and entry.name.endswith(DATA_SUFFIXES) and not is_metadata(entry):
            yield entry


def _is_of_handpick(folder: Path) -> bool:
    """Return whether a run wrote a folder: what it chose and what it parsed are no records of the pool."""
    places = (folder, DataLayout(folder).parsed, DataLayout(RunLayout(folder).features).parsed)
    try:
        return any(_PARSED.fullmatch(table.name) for place in places for table in ParsedLayout(place).tables())
    except OSError as error:
        raise DataError(f"cannot read the folder {error.filename}: {error.strerror}") from error


def _say_of(folder: Path, say: Say, text: str) -> None:
    say(f"{folder.name}: {text}")
