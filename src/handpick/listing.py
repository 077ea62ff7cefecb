"""What is in a folder: all of it, or an error.

``Path.glob`` and ``glob.glob`` leave out, without a word, a folder that may not be listed; ``Path.glob`` from Python
3.13 on any that cannot.
"""

import os
from collections.abc import Iterator
from fnmatch import fnmatch
from glob import has_magic
from pathlib import Path

_NOT_THERE = (FileNotFoundError, NotADirectoryError)


def all_below(folder: Path) -> list[Path]:
    """Return every file and folder below a folder, sorted; links to folders are not followed.

    Raises:
        OSError: a folder is not there or cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise error

    return sorted(
        Path(parent, name) for parent, folders, files in os.walk(folder, onerror=refuse) for name in (*folders, *files)
    )


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted, as ``all_below``."""
    return [path for path in all_below(folder) if path.is_file()]


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """Yield what has a place of this pattern in a folder, in the order of names; nothing where the folder is not there.

    Args:
        folder: to look in.
        pattern: a name, or names of folders and one in them, ``shards/*/*.safetensors``. ``**`` is any folders, or
            none. A name that begins with a dot is meant by none that does not, as in a shell.

    Raises:
        OSError: a folder cannot be listed.
    """
    first, _, rest = pattern.partition("/")
    if first == "**":
        yield from sorted({path for each in (folder, *_folders_below(folder)) for path in matching(each, rest or "*")})
        return
    names = _names_in(folder, first) if has_magic(first) else [first] * _is_there(folder / first)
    for name in names:
        if rest:
            yield from matching(folder / name, rest)
        else:
            yield folder / name


def _folders_below(folder: Path) -> list[Path]:
    try:
        return [path for path in all_below(folder) if path.is_dir() and not path.is_symlink()]
    except _NOT_THERE:
        return []


def _names_in(folder: Path, pattern: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except _NOT_THERE:
        return []
    return [name for name in names if fnmatch(name, pattern) and (pattern[0] == "." or name[0] != ".")]


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except _NOT_THERE:
        return False
    return True
