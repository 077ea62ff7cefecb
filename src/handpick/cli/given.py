"""What was given on the command line, as settings take it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def given_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What was given: a flag that was not is None, or holds nothing."""
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def files_by_task(targets: Sequence[str]) -> dict[str, list[str]]:
    """Files by the name of their task: the one before ``=``, else the file's own."""
    from handpick.data.read import FileInput
    from handpick.errors import SettingsError

    named: dict[str, list[str]] = {}
    for text in targets:
        name, equals, file = text.partition("=")
        if not equals or Path(text).exists():
            name, file = FileInput(Path(text)).stem, text
        if not re.fullmatch(r"[\w.+-]+", name) or not file:
            raise SettingsError(f"--target {text!r} names no task: write NAME=FILE, with letters, digits and - in NAME")
        named.setdefault(name, []).append(file)
    return named
