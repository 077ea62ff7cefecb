"""Help fits on a screen and has an example, a typing mistake gets the nearest name, and a run says what comes next."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from handpick.cli import app
from tests.conftest import write_jsonl

SCREEN = 45  # lines, at a hundred columns


def handpick(line: str) -> Result:
    return CliRunner().invoke(app, shlex.split(line), env={"COLUMNS": "100"})


def commands(group: Any, before: str = "") -> Iterator[str]:
    """Every command by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}"


COMMANDS = sorted(commands(typer.main.get_command(app)))


def test_all_commands_are_found() -> None:
    assert {"select", "plan select", "store verify", "study"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_a_screen_with_an_example(command: str) -> None:
    lines = handpick(f"{command} --help").stdout.splitlines()
    assert len(lines) <= SCREEN
    examples = [line.strip() for line in lines if line.strip().startswith(f"handpick {command}")]
    assert examples, "no example"


@pytest.mark.parametrize("command", ["", "plan", "store"])
def test_help_of_several_is_a_screen(command: str) -> None:
    assert len(handpick(f"{command} --help").stdout.splitlines()) <= SCREEN


def test_the_other_flags_are_counted_shown_and_taken() -> None:
    short, whole = handpick("select --help").stdout, handpick("select --help-all").stdout
    flags = {
        name: set(re.findall(r"^│ [* ]*(--[a-z0-9-]+) ", text, re.MULTILINE))
        for name, text in (("short", short), ("all", whole))
    }
    assert {"--pool", "--query", "--model", "--budget"} <= flags["short"] < flags["all"]
    counted = re.search(r"(\d+) more flags: select --help-all", short)
    assert counted is not None
    assert int(counted[1]) == len(flags["all"] - flags["short"])
    assert "--kde-width" in flags["all"] - flags["short"]
    assert handpick("select --help").stdout == short  # what was shown once stays hidden
    assert "no kde-width" not in handpick("select --kde-width 3").stderr
    assert handpick("select --kde-width 3").exit_code == 2  # no pool: the flag itself is known


@pytest.mark.parametrize(
    ("typed", "suggested"),
    [
        ("selct", "select"),
        ("select --budgt 3", "--budget"),
        ("select --kde-widht 3", "--kde-width"),
        ("train --selecton x", "--selection"),
        ("select --method less-r --pool x --query y", "less-rr"),
        ("select --representation rds --pool x --query y", "rds+"),
        ("select --algorithm round-robbin --pool x --query y", "round-robin"),
        ("select --prefilter bm52 --pool x --query y", "bm25"),
        ("audition --methods bm2,rds+ --pool x --query y --model m", "bm25"),
        ("train --selection x --recipe smal", "small"),
        ("export --selection x --to axolot --out y", "axolotl"),
    ],
)
def test_a_mistake_gets_the_nearest_name(typed: str, suggested: str, tmp_path: Path) -> None:
    shown = handpick(typed)
    assert shown.exit_code == 2
    said = " ".join(shown.stderr.split())
    assert re.search(rf"(?i)(did you mean|possible options)[^?)]*{re.escape(suggested)}", said), said


def test_the_version() -> None:
    assert re.fullmatch(r"handpick (\d+\.\d+\S*|from its source tree)\n", handpick("--version").stdout)


def test_what_comes_next(
    pool_records: list[dict[str, Any]], query_records: list[dict[str, Any]], tmp_path: Path
) -> None:
    pool = write_jsonl(tmp_path / "pool.jsonl", pool_records[:20])
    query = write_jsonl(tmp_path / "query.jsonl", query_records[:2])
    out = tmp_path / "a run"
    shown = handpick(f"select --pool {pool} --query {query} --method bm25 --budget 3 --out '{out}'")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.splitlines()[-2:] == [
        f"one page for a browser: handpick report '{out}'",
        f"next: handpick train --selection '{out}'",
    ]
    report = handpick(f"report '{out}'")
    assert report.exit_code == 0, report.output


def test_completion_is_installed_and_completes(tmp_path: Path) -> None:
    """As a shell does it: the script that is installed calls the program with what stands on the line."""
    program = tmp_path / "handpick"
    program.write_text(f"#!{sys.executable}\nfrom handpick.cli import app\napp(prog_name='handpick')\n")
    program.chmod(0o755)
    environment = os.environ | {
        "HOME": str(tmp_path), "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SHELL": "/bin/bash",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }  # fmt: skip
    run = subprocess.run(
        [program, "--install-completion", "bash"], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    installed = next(tmp_path.rglob("handpick.sh"))
    assert "_HANDPICK_COMPLETE" in installed.read_text()
    assert str(installed) in (tmp_path / ".bashrc").read_text()
    asked = environment | {
        "_HANDPICK_COMPLETE": "complete_bash", "COMP_WORDS": "handpick select --prefil", "COMP_CWORD": "2",
    }  # fmt: skip
    run = subprocess.run([program], env=asked, capture_output=True, text=True, check=False)
    assert set(run.stdout.split()) == {"--prefilter", "--prefilter-share", "--prefilter-check"}
