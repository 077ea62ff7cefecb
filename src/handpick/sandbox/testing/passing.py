"""Which of its unit tests some code passes."""

import secrets
import socket
import time
from collections.abc import Mapping, Sequence
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
        words = draw_words(first, len(passed))
        said, seconds = _go_on(code, tests, first, words, replace(limits, wall_s=left), isolation)
        left -= seconds
        facts = read_verdicts(said, words)
        if "broken" in facts:
            raise DataError(facts["broken"])
        begun = [number for number in range(first, len(passed)) if f"begin {number}" in facts]
        for number in begun:
            passed[number] = f"pass {number}" in facts
        if not begun:  # the code cannot even be loaded
            break
        first = begun[-1] + 1
    return passed


def draw_words(first: int, end: int) -> dict[str, str]:
    """Draw the words in which a referee says what becomes of the tests from ``first`` to before ``end``, once."""
    facts = [f"{what} {number}" for number in range(first, end) for what in ("begin", "pass")]
    return {fact: secrets.token_hex(16) for fact in ["broken", *facts]}


def read_verdicts(said: bytes, words: Mapping[str, str]) -> dict[str, str]:
    """Return what a referee said, and what stood behind the word; a line that begins with no word of its is none.

    So what anybody else writes where the referee does is no verdict: nobody knows a word before it is said, and it
    says the same when it is said again.
    """
    facts = {word: fact for fact, word in words.items()}
    lines = (line.partition(" ") for line in said.decode(errors="replace").splitlines())
    return {facts[word]: rest for word, _, rest in lines if word in facts}


def _go_on(
    code: str, tests: Suite, first: int, words: dict[str, str], limits: Limits, isolation: Isolation
) -> tuple[bytes, float]:
    """Return what the referee says of the tests from ``first`` on, and the time that took."""
    candidate_program = f"from testing.candidate import main\nmain({tests.setup!r}, {code!r})"
    arguments = (f"{tests.setup}\n{tests.hidden}", list(tests.tests), tests.entry_point, first, limits.wall_s, words)
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
            referee_program,
            referee_limits,
            isolation,
            modules=_modules("referee"),
            channel=of_referee.fileno(),
            private=True,
        ) as referee,
    ):
        of_candidate.close()  # each has its end now, and is to notice when the other is gone
        of_referee.close()
        candidate.stand()
        referee.stand()  # both behind their doors before the code begins
        referee.ready()
        candidate.ready()
        start = time.monotonic()
        outcome = referee.finish()
        return outcome.stdout, time.monotonic() - start


@cache
def _modules(side: str) -> dict[str, str]:
    """Return the source code that a side needs, by name."""
    folder = files("handpick.sandbox.testing")
    inside = {f"testing.{name}": (folder / f"{name}.py").read_text(encoding="utf-8") for name in ("wire", side)}
    return {"testing": "__path__ = []", **inside}
