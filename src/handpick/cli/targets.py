"""The tasks that ``--target`` names."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from handpick.evaluation.settings import TaskSettings, parse_task

Target = Annotated[
    list[str] | None,
    typer.Option(help="Test file of a task; several. Files of one NAME are one task.", metavar="[NAME=]FILE"),
]


def tasks_of(targets: Sequence[str], task: Mapping[str, Any]) -> dict[str, TaskSettings]:
    """Return the settings of every task, by its name."""
    return {name: parse_task({**task, "files": files}) for name, files in files_by_task(targets).items()}


def files_by_task(targets: Sequence[str]) -> dict[str, list[str]]:
    """Return the files by the name of their task: the one before ``=``, else the file's own."""
    from handpick.data.read import FileInput
    from handpick.errors import SettingsError
    from handpick.file_names import check_file_name

    named: dict[str, list[str]] = {}
    for text in targets:
        name, equals, file = text.partition("=")
        if not equals or Path(text).exists():
            name, file = FileInput(Path(text)).stem, text
        if not re.fullmatch(r"[\w.+-]+", name) or not file:
            raise SettingsError(f"--target {text!r} names no task: write NAME=FILE, with letters, digits and - in NAME")
        named.setdefault(check_file_name(name, "--target"), []).append(file)
    return named
