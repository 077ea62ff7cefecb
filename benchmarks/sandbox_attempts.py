"""Attempts against the sandbox, held of made, by how the code is shut in.

    python benchmarks/sandbox_attempts.py

Runs `tests/sandbox` and counts its tests by the isolation that each is made in: those that try to get a verdict that
the code has not earned (`test_passing.py`), and those that try to see, reach, use or outlast more than is allowed
(`test_run.py`); tests of what is right and must work are not counted. Where the code is shut in with limits alone, what
such a sandbox does not promise is not tried. An isolation that the machine lacks is said. Bubblewrap is not for root:
run it as another user to see all three. Writes benchmarks/results/sandbox_attempts.md.
"""

import datetime
import os
import platform
import sys
from collections import Counter
from pathlib import Path

import pytest

from handpick.sandbox.find import why_not
from handpick.sandbox.isolation import Isolation

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "sandbox_attempts.md"
KINDS = {"test_passing.py": "for a verdict", "test_run.py": "to get out, or past a limit"}
CONTROLS = {  # of what must work
    "test_a_program_can_be_stopped_at_any_time",
    "test_a_program_runs_and_is_told_of",
    "test_a_strong_sandbox_is_taken_though_a_weak_one_is_allowed",
    "test_an_exception_is",
    "test_an_uncaught_exception_and_a_signal_are_told_of",
    "test_each_isolation_will_do",
    "test_it_has_a_temporary_folder_that_is_gone_afterwards",
    "test_it_has_no_site_packages",
    "test_output_up_to_the_limit_is_kept_whole",
    "test_run_takes_the_strongest_there_is",
    "test_the_same_program_does_the_same_again",
}
NAMES: dict[Isolation, str] = {"bwrap": "bubblewrap", "namespaces": "namespaces alone", "weak": "neither"}


class Count:
    """Counts what becomes of the tests that are made in an isolation."""

    def __init__(self) -> None:
        self.made: Counter[tuple[str, str]] = Counter()
        self.held: Counter[tuple[str, str]] = Counter()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: object) -> object:
        """Note the outcome of a test that was not skipped."""
        report = yield
        found = getattr(item, "callspec", None)
        isolation = found and (found.params.get("every") or found.params.get("strong"))
        control = getattr(item, "originalname", None) in CONTROLS
        if isolation and not control and report.when == "call" and not report.skipped:
            key = (item.path.name, isolation)
            self.made[key] += 1
            self.held[key] += report.passed
        return report


def main() -> int:
    """Run the tests, print and write the table; return 1 where one was not held."""
    count = Count()
    pytest.main(["-q", "-p", "no:cacheprovider", str(ROOT / "tests" / "sandbox")], plugins=[count])
    user = "root" if os.geteuid() == 0 else "a user"
    lines = [
        f"`python benchmarks/sandbox_attempts.py`, {datetime.datetime.now(datetime.UTC).date()}, Linux "
        f"{platform.release().partition('-')[0]}, as {user}: attempts held of made.",
        "",
        "| attempts | " + " | ".join(NAMES.values()) + " |",
        "|---|" + "---|" * len(NAMES),
    ]
    for file, kind in KINDS.items():
        cells = [f"{count.held[file, each]} of {count.made[file, each]}" for each in NAMES]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += [f"\nNot here: {NAMES[each]} ({reason})." for each in NAMES if (reason := why_not(each))]
    text = "\n".join(lines) + "\n"
    print(text)
    RESULT.write_text(text, encoding="utf-8")
    return int(count.held != count.made)


if __name__ == "__main__":
    sys.exit(main())
