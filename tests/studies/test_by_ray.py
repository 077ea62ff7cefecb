"""A study's cells as tasks of Ray leave what one process does, whoever is killed meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from handpick.studies.run import run_study
from tests.executors.ray_here import needs_ray
from tests.studies.conftest import Ask, numbers
from tests.studies.test_run import steps_of, take_away

pytestmark = [needs_ray, pytest.mark.timeout(1800)]
SMALL = {"budgets": [4], "seeds": [0, 1], "draws": 1}


def _kill_one(over: threading.Event, killed: list[int]) -> None:
    """Kill the first process of Ray that is seen to make a call, a moment later."""
    while not killed and not over.wait(0.05):
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                is_at_work = path.read_bytes().startswith(b"ray::call_there")
            except OSError:  # it has ended
                continue
            if is_at_work:
                time.sleep(0.5)
                os.kill(int(path.parent.name), signal.SIGKILL)
                killed.append(int(path.parent.name))
                return


def test_a_worker_that_is_killed_changes_no_file(ask: Ask) -> None:
    whole, files = run_study(ask(**SMALL)), take_away(ask().folder)
    over, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=_kill_one, args=(over, killed))
    killer.start()
    try:
        found = run_study(ask(**SMALL, engine="ray", max_workers=2))
    finally:
        over.set()
        killer.join()
    assert killed
    assert numbers(found) == numbers(whole)
    assert take_away(ask().folder) == files


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_by_ray_or_without(ask: Ask, tmp_path: Path) -> None:
    whole, files = run_study(ask(**SMALL)), take_away(ask().folder)
    path = tmp_path / "study.json"
    path.write_text(ask(**SMALL).model_dump_json(exclude_none=True))
    command = [sys.executable, "-m", "handpick", "study", str(path), "--engine", "ray", "--max-workers", "2"]
    for done in (1, 3):
        process = subprocess.Popen(command)
        while sum(name.startswith("training") for name in steps_of(ask())) < done:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.wait()
        there = steps_of(ask())
    assert numbers(run_study(ask(**SMALL))) == numbers(whole)
    assert there.items() <= steps_of(ask()).items()  # what was done is not done again
    assert take_away(ask().folder) == files
