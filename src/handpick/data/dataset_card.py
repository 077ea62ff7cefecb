"""Which files are which split, as the card (README.md) of a data set on the Hub says in its header."""

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from handpick.data.containers import DATA_SUFFIXES
from handpick.data.splits import kind_of_split
from handpick.documents import GONE, WRONG_CONTENT
from handpick.errors import DataError
from handpick.listing import all_below, matching

CARD = "README.md"


class Configs(NamedTuple):
    """The files of each split of each configuration, in the order of the card, and which configuration is default."""

    files: dict[str, dict[str, list[Path]]]
    default: str | None


def read_configs(folder: Path) -> Configs:
    """Read which files are which split; there are no configurations where the card says nothing of files.

    A split whose files are not there has an empty list: a snapshot may be a part of the whole.

    Raises:
        DataError: the card cannot be read, or its header is no YAML, or names files of elsewhere or a folder that
            cannot be read.
    """
    configs = _header(folder / CARD).get("configs")
    found = Configs({}, None)
    for config in configs if isinstance(configs, list) else []:
        if isinstance(config, dict) and (config.get("data_files") or config.get("data_dir")):
            place = str(config.get("data_dir") or "")
            if _leads_elsewhere(place):
                raise DataError(f"the card of {folder} names a folder of elsewhere: {place}; name its files")
            base = folder / place
            name = str(config.get("config_name", "default"))
            patterns = _patterns_by_split(config["data_files"]) if config.get("data_files") else None
            found.files[name] = (
                _by_names(base, folder)
                if patterns is None
                else {split: _find(base, own, folder) for split, own in patterns.items()}
            )
            if config.get("default") is True or name == "default":
                found = found._replace(default=name)
    return found


def _header(card: Path) -> dict[str, Any]:
    """Return what stands between the first two lines of dashes."""
    try:
        text = card.read_text(encoding="utf-8-sig", errors="replace")
    except GONE:
        return {}
    except OSError as error:
        raise DataError(f"cannot read {card}: {error.strerror}") from error
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---" or "---" not in [line.strip() for line in lines[1:]]:
        return {}
    end = [line.strip() for line in lines].index("---", 1)
    try:
        header = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, *WRONG_CONTENT) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"the header of {card} is no YAML: {said}; mend it, or name the data files") from error
    return header if isinstance(header, dict) else {}


def _patterns_by_split(data_files: Any) -> dict[str, list[str]]:
    """Return the patterns of files of each split; those without one are for training."""
    if isinstance(data_files, dict):
        return {str(split): _as_list(paths) for split, paths in data_files.items()}
    found: dict[str, list[str]] = {}
    for entry in data_files if isinstance(data_files, list) else [data_files]:
        if isinstance(entry, dict):
            found.setdefault(str(entry.get("split", "train")), []).extend(_as_list(entry.get("path")))
        else:
            found.setdefault("train", []).append(str(entry))
    return found


def _by_names(base: Path, folder: Path) -> dict[str, list[Path]]:
    """Return the files of a configuration that has a folder alone, by what their names say."""
    found: dict[str, list[Path]] = {}
    try:
        files = all_below(base)
    except GONE:  # a snapshot may be a part of the whole
        files = []
    except OSError as error:  # it may not be read, or has a name that is too long for the file system
        raise DataError(
            f"the card of {folder} names a folder that cannot be read: {error.strerror}; name its files"
        ) from error
    for file in files:
        if file.is_file() and file.name.endswith(DATA_SUFFIXES):
            found.setdefault(kind_of_split(file.name.partition(".")[0]) or "train", []).append(file)
    return found


def _leads_elsewhere(name: str) -> bool:
    """Return whether a name that a data set says leads out of its folder."""
    return "://" in name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts


def _as_list(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _find(base: Path, patterns: list[str], folder: Path) -> list[Path]:
    files: list[Path] = []
    for pattern in patterns:
        if _leads_elsewhere(pattern):
            raise DataError(f"the card of {folder} names files of elsewhere: {pattern}; fetch them, and name them")
        exact = base / pattern
        try:
            found = [exact] if exact.is_file() else [file for file in matching(base, pattern) if file.is_file()]
        except OSError as error:
            raise DataError(
                f"the card of {folder} names files by {pattern!r}, and they cannot be looked for: {error.strerror}; "
                "name the data files"
            ) from error
        files += [file for file in sorted(found) if file not in files]
    return files
