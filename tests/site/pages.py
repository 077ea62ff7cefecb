"""Pages of docs/ as programs: their blocks run in order, in one folder and one process, and say what the page says.

- ```` ```python title="x.py" ```` (or yaml, json) writes a file; without a title the code runs, all of a page in one
  namespace.
- ```` ```console ```` is a transcript: lines that begin with ``$`` run, the others are what is said then. ``…`` alone
  on a line stands for any lines, at the end of a line for any rest. Numbers with a point, and what times and bytes are
  in, may differ; all else may not. A line that ends in ``&`` runs until the page is read; what it says first is waited
  for.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from handpick.cli import app

DOCS = Path(__file__).parents[2] / "docs"
_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ENVIRONMENT = re.compile(r"([A-Z_]+)=(.*)")
_ASSIGNED = re.compile(r"(\w+)=\$\((.*)\)")


@dataclass(frozen=True)
class Block:
    """A block of a page: its language, the file it is, if any, and its text."""

    language: str
    title: str
    text: str


def blocks_of(page: str) -> list[Block]:
    return [Block(*found) for found in _FENCE.findall((DOCS / page).read_text(encoding="utf-8"))]


class Reader(contextlib.ExitStack):
    """Somebody who follows a page, in the working folder; ends what runs beside it when closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.page = page
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.variables: dict[str, str] = {}
        self.said: list[tuple[str, str]] = []  # commands, and what they said

    def follow(self, block: Block, *, any_number: bool = False) -> None:
        if block.title:
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(block.text, f"docs/{self.page}", "exec"), self.names)
        elif block.language == "console":
            for command, expected in _commands(block.text):
                said = self.run(command)
                self.said.append((command, said))
                check_said(said, expected, command, any_number=any_number)
        else:
            raise AssertionError(f"docs/{self.page} has a block that nothing runs: {block.language or 'no language'}")

    def run(self, command: str) -> str:
        """Run a line of a shell: our commands and scripts in this process, the rest in a shell."""
        if assigned := _ASSIGNED.fullmatch(command):
            self.variables[assigned[1]] = self.run(assigned[2]).strip()
            return ""
        for name, value in self.variables.items():
            command = command.replace(f"${name}", shlex.quote(value))
        words = shlex.split(command)
        own = {}
        while assigned := _ENVIRONMENT.fullmatch(words[0]):  # which a shell does by itself
            own[assigned[1]] = assigned[2]
            del words[0]
        if words[-1] == "&":
            return self._start([sys.executable, *words[1:-1]])
        if words[0] == "handpick":
            done = CliRunner().invoke(app, words[1:], env={"COLUMNS": "100", **own})
            assert done.exit_code == 0, f"{command}\n{done.output}"
            return done.output
        if words[0] == "python":
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                if words[1] == "-c":
                    exec(words[2], {"__name__": "__main__"})
                else:
                    runpy.run_path(words[1], run_name="__main__")
            return said.getvalue()
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LC_ALL": "C",
        }
        return subprocess.run(
            command, shell=True, check=True, capture_output=True, text=True, encoding="utf-8", env=environment
        ).stdout

    def _start(self, command: list[str]) -> str:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8")
        assert process.stdout is not None
        self.callback(process.stdout.close)
        self.callback(process.wait)
        self.callback(process.kill)
        return process.stdout.readline()


def _commands(transcript: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for line in transcript.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def _loosen(line: str, any_number: bool) -> str:
    """Return what of a line must be the same."""
    line = re.sub(r"[━─]{3,}", "━", line)
    line = re.sub(r"[-+]?\d[\d,]*\.\d+(e[-+]?\d+)?", "#.#", line)
    line = re.sub(r"\d[\d,]*( (?:s|ms|min|h|B|KB|MB|GB|KiB|MiB|GiB)\b)", r"#\1", line)
    if any_number:
        line = re.sub(r"\d[\d,]*", "#", line)
    return " ".join(line.split())


def check_said(said: str, expected: list[str], command: str, *, any_number: bool = False) -> None:
    """Hold what a command said against its transcript.

    Raises:
        AssertionError: a line is not there, or not where it should be.
    """
    there = [_loosen(line, any_number) for line in said.splitlines() if line.strip()]
    lines = [_loosen(line, any_number) for line in expected if line.strip()]
    place, is_free = 0, False
    for line in lines:
        if line == "…":
            is_free = True
            continue
        reach = range(place, len(there)) if is_free else range(place, min(place + 1, len(there)))
        found = next((at for at in reach if _says(there[at], line)), None)
        assert found is not None, f"$ {command}\ndoes not say: {line}\nbut:\n" + "\n".join(there[place : place + 30])
        place, is_free = found + 1, False
    assert is_free or place == len(there), f"$ {command}\nsays more than the page:\n" + "\n".join(there[place:])


def _says(line: str, expected: str) -> bool:
    return line.startswith(expected[:-1].rstrip()) if expected.endswith("…") else line == expected
