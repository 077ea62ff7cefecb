"""The last lines of a run: what one would type next."""

import re
import shlex
from pathlib import Path

from rich.text import Text

from handpick.terminal import console

_BARE = re.compile(r"[\w@%+=:,./\[\]-]+", re.ASCII)


def say_next(*commands: str) -> None:
    """Print commands, one a line."""
    for command in commands:
        console.print(Text("next: ", style="dim") + Text(command), soft_wrap=True)


def quote_path(path: str | Path) -> str:
    """Return a path as a shell takes it; brackets stay bare, which bash leaves alone where no name matches."""
    return str(path) if _BARE.fullmatch(str(path)) else shlex.quote(str(path))
