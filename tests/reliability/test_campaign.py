"""What is struck goes on and ends with the bytes of an unbroken run: a few strikes in CI, all of them in the slow test.

The campaign runs in a process of its own, since this one has threads, and cannot be forked.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.campaign import COMMANDS, FAULTS, Found, table
from tests.reliability.changes import can_supervise

REPOSITORY = Path(__file__).parents[2]


def run_campaign(work: Path, *flags: object) -> list[dict[str, Any]]:
    """Run the campaign in a folder, and return all that it has found there."""
    if not can_supervise():
        pytest.skip("this system hands no calls to a supervisor (Linux on x86-64, seccomp)")
    command = [sys.executable, "-m", "tests.reliability.campaign", "--work", work, *flags]
    done = subprocess.run(list(map(str, command)), cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in (work / "struck.jsonl").read_text().splitlines()]


def test_a_few_strikes(tmp_path: Path) -> None:
    found = run_campaign(
        tmp_path, "--command", "evaluate", "--fault", "kill", "--fault", "full", "--fault", "interrupt", "--points", 1
    )
    assert [each["wrong"] for each in found] == [[]] * 3
    assert sum(each["struck"] for each in found) >= 2  # a disk may run full where nothing needs room any more


@pytest.mark.slow
@pytest.mark.timeout(86_400)
@pytest.mark.parametrize("name", COMMANDS)
def test_every_fault_at_fifty_places(name: str, tmp_path: Path) -> None:
    """Hours on two cores; ``python -m tests.reliability.campaign`` goes on where it was stopped, this does not."""
    points = 100 if name == "select" else 50  # and as many torn writes and random moments
    found = run_campaign(tmp_path, "--command", name, "--points", points)
    assert [each for each in found if each["wrong"]] == []
    assert {each["fault"] for each in found if each["struck"]} == set(FAULTS)


def test_the_table_counts_what_befell() -> None:
    def found(command: str, fault: str, *wrong: str, struck: bool = True, **values: int) -> Found:
        return Found(command, fault, 1, struck, "write", "a", -9, "", values.get("asked", 0), 0, list(wrong))

    lines = table(
        [
            found("select", "kill"), found("select", "tear"), found("select", "moment", struck=False),
            found("select", "full", "a is missing"), found("evaluate", "kill", asked=3),
            found("evaluate", "kill", "the judge's answers differ", asked=2),
        ]
    ).splitlines()  # fmt: skip
    assert "| select | 2 of 2 | – | 0 of 1 | – | – | – | – | – | – |" in lines
    assert "| evaluate | 1 of 2 | – | – | – | – | – | 5 | 0 | 1 |" in lines
