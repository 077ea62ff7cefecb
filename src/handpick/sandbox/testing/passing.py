"""Which of its unit tests some code passes."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from handpick.errors import DataError
from handpick.sandbox.isolation import Isolation
from handpick.sandbox.limits import Limits
from handpick.sandbox.process import Process

GRACE_S = 1.0  # for a referee whose time is up to say so itself


@dataclass(frozen=True, slots=True)
class Suite:
    """Unit tests, as source code.

    Args:
        setup: what comes before them; it runs before the code too, which can read it.
        tests: one or more statements each; one passes if it raises nothing.
        entry_point: a name that the setup may define too, but that is to be the code's.
        hidden: what comes behind the setup for the tests alone, such as a function that the tests call.
    """

    setup: str
    tests: Sequence[str]
    entry_point: str | None = None
    hidden: str = ""


def run_tests(code: str, tests: Suite, limits: Limits, isolation: Isolation) -> list[bool]:
    """Run code against its tests, and return whether it passes each.

    The tests run in one sandbox and the code in another, as ``handpick.sandbox.testing`` says. A test that leaves the
    code dead or hanging fails, and a new pair of sandboxes goes on with the next one. No test has more than an equal
    share of the time that is left, which is ``limits.wall_s`` for all of them together, sandboxes' starts not counted.

    Args:
        code: source code that nobody has read. The setup runs before it too.
        tests: what it must pass.
        limits: how much each of the two sandboxes may use.
        isolation: how both are shut in.

    Raises:
        DataError: the tests cannot be run, whatever the code is; the message only says why.
        SandboxError: a sandbox cannot be made this time.
    """
    passed = [False] * len(tests.tests)
    first, left = 0, limits.wall_s
    while first < len(passed) and left > 0:
        lines, seconds = _go_on(code, tests, first, replace(limits, wall_s=left), isolation)
        left -= seconds
        begun = first - 1
        for word, _, rest in (line.partition(" ") for line in lines):
            if word == "broken":
                raise DataError(rest)
            if word == "pass":
                passed[int(rest)] = True
            if word == "begin":
                begun = int(rest)
        if begun < first:  # the code cannot even be loaded
            break
        first = begun + 1
    return passed


def _go_on(code: str, tests: Suite, first: int, limits: Limits, isolation: Isolation) -> tuple[list[str], float]:
    """Return what the referee says of the tests from ``first`` on, and the time that took."""
    candidate_program = f"from testing.candidate import main\nmain({tests.setup!r}, {code!r})"
    arguments = (f"{tests.setup}\n{tests.hidden}", list(tests.tests), tests.entry_point, first, limits.wall_s)
    referee_program = f"from testing.referee import main\nmain{arguments!r}"
    referee_limits = replace(limits, wall_s=limits.wall_s + GRACE_S, cpu_s=limits.cpu_s + GRACE_S)
    of_candidate, of_referee = socket.socketpair()
    with (
        of_candidate,
        of_referee,
        Process(
            candidate_program, limits, isolation, modules=_modules("candidate"), channel=of_candidate.fileno()
        ) as candidate,
        Process(
            referee_program, referee_limits, isolation, modules=_modules("referee"), channel=of_referee.fileno()
        ) as referee,
    ):
        of_candidate.close()  # each has its end now, and is to notice when the other is gone
        of_referee.close()
        candidate.ready()
        referee.ready()
        start = time.monotonic()
        outcome = referee.finish()
        return outcome.stdout.decode(errors="replace").splitlines(), time.monotonic() - start


@cache
def _modules(side: str) -> dict[str, str]:
    """Return the source code that a side needs, by name."""
    folder = files("handpick.sandbox.testing")
    inside = {f"testing.{name}": (folder / f"{name}.py").read_text(encoding="utf-8") for name in ("wire", side)}
    return {"testing": "__path__ = []", **inside}
