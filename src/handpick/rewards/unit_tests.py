"""Unit tests: the share of a record's tests that the code in the completion passes."""

import ast
import math
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from textwrap import indent

from handpick.errors import DataError, SettingsError
from handpick.progress import log_once
from handpick.rewards.protocol import Prompt, Record
from handpick.rewards.reference import record_name
from handpick.sandbox.find import OPEN, find_isolation
from handpick.sandbox.isolation import Isolation
from handpick.sandbox.limits import Limits
from handpick.sandbox.testing.passing import Suite, run_tests

_FENCED = re.compile(r"^ {0,3}```[ \t]*(?P<language>[\w+-]*)[^\n]*\n(?P<code>.*?)(?:^ {0,3}```|\Z)", re.M | re.S)
_PYTHON = ("python", "python3", "py")


@dataclass(frozen=True, slots=True)
class UnitTests:
    """The share of the record's unit tests that the completion's code passes, from 0 to 1.

    A record holds its tests as MBPP does (``tests`` or ``test_list``, a list of assertions; ``setup`` or
    ``test_setup_code``; ``test_imports``), or as HumanEval does (``prompt``, ``entry_point``, and in ``test`` or
    ``tests`` a function ``check(candidate)``), which is passed whole or not at all. The code is the first block fenced
    as Python, else the first fenced block, else the whole completion; for HumanEval the body alone will do.

    The code runs in one sandbox and the tests in another, and only plain values pass between them, so the code can
    neither see the tests nor touch the verdict: what it prints, redefines or writes anywhere counts for nothing, and
    a test during which it ends or hangs is not passed, even where the test expects an exception.
    Of the record it is given what it may need, MBPP's setup and imports or HumanEval's prompt, and nothing else.
    What it can still do is what any function can, return the right value, or raise, for the wrong reason. Besides:

    - where a test compares two objects of classes that the code defines, the code's own ``__eq__`` decides;
    - a name that a test uses and that neither the record nor Python defines comes from the code, so a test that calls
      a helper (``isclose``) must import it in the record's setup; a module as in ``math.isclose`` is Python's own;
    - in a weak sandbox the code can do what the user can: change this program's files, and so what it finds. On Linux
      before 5.13, or without Landlock, it can also attack the process that runs handpick.

    Arguments are copies: a test that looks at what the code did to them fails, and so does code that returns an object
    that only claims to be equal to the expected value.

    Args:
        allow_code_execution: must be true: scoring runs code that a model wrote, on this machine.
        allow_weak_sandbox: whether to run it where this machine can limit it, but not keep it from the user's files,
            the network and other processes.
        timeout_s: time for all the tests of one completion.
        workers: completions that are run at a time.

    Raises:
        SettingsError: the code may not be run, or there is no sandbox to run it in.
    """

    allow_code_execution: bool
    allow_weak_sandbox: bool = False
    timeout_s: float = 10
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)

    def __post_init__(self) -> None:
        if not self.allow_code_execution:
            raise SettingsError(
                "the reward unit-tests runs code that a model wrote, on this machine; if that is meant, give "
                "--allow-code-execution (allow_code_execution=True), and it runs in a sandbox without network, "
                "environment and your files"
            )
        for name in ("timeout_s", "workers"):
            if not 0 < getattr(self, name) < math.inf:
                value = getattr(self, name)
                raise SettingsError(f"{name} of the reward unit-tests is {value}; give a number above zero")
        if find_isolation(allow_weak=self.allow_weak_sandbox) == "weak":
            log_once(f"code that a model wrote runs in a weak sandbox: it is limited, but can {OPEN}")

    def check(self, record: Record) -> None:
        """Raise DataError where there are no tests, or they are no Python."""
        read_tests(record)

    def __call__(
        self, prompts: Sequence[Prompt], completions: Sequence[str], records: Sequence[Record], /
    ) -> list[float]:
        """Score completions.

        Raises:
            DataError: a record has no tests, or tests that cannot be run.
            SandboxError: a sandbox cannot be made this time.
        """
        tests = [read_tests(record) for record in records]
        isolation = find_isolation(allow_weak=self.allow_weak_sandbox)
        with ThreadPoolExecutor(self.workers) as pool:
            futures = [
                pool.submit(_score, completion, record, its_tests, _limits(self.timeout_s), isolation)
                for completion, record, its_tests in zip(completions, records, tests, strict=True)
            ]
            try:
                return [future.result() for future in futures]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def read_tests(record: Record) -> Suite:
    """Read the tests that a record of a query holds.

    Raises:
        DataError: it holds none, or they are no Python.
    """
    found = next((record[key] for key in ("tests", "test_list", "test") if record.get(key)), None)
    if isinstance(found, str) and isinstance(record.get("entry_point"), str):
        name = record["entry_point"]
        tests = Suite(_prompt_alone(record), [f"check({name})"], name, hidden=found)
    elif isinstance(found, list) and all(isinstance(test, str) for test in found):
        setup = str(record.get("setup") or record.get("test_setup_code") or "")
        tests = Suite("\n".join([*map(str, record.get("test_imports") or ()), setup]), found)
    else:
        raise DataError(
            f"no unit tests: none in {record_name(record)}; the reward unit-tests needs `tests`, a list of assertions, "
            "or `test`, a text with a function check(candidate), and `entry_point`, the name of what to check"
        )
    for source in (tests.setup, tests.hidden, *tests.tests):
        if reason := _no_python(source):
            raise DataError(f"tests that are no Python: in {record_name(record)}, {reason}; mend the record")
    return tests


def code_of(completion: str, record: Record) -> str:
    """Return the code in a completion.

    For HumanEval, where it is only the body of the function, with the head before it.
    """
    blocks = list(_FENCED.finditer(completion))
    python = [block for block in blocks if block["language"].lower() in _PYTHON]
    code = (python or blocks)[0]["code"] if blocks else completion
    name, prompt = record.get("entry_point"), record.get("prompt")
    if not isinstance(name, str) or not isinstance(prompt, str) or _defines(code, name):
        return code
    lines = code.strip("\n")
    return f"{prompt.rstrip()}\n{lines if lines[:1].isspace() else indent(lines, ' ' * 4)}\n"


def _score(completion: str, record: Record, tests: Suite, limits: Limits, isolation: Isolation) -> float:
    try:
        passed = run_tests(code_of(completion, record), tests, limits, isolation)
    except DataError as error:
        raise DataError(
            f"the tests of {record_name(record)} cannot be run in a sandbox, which has the standard library alone "
            f"and passes plain values: {error}; mend the record or leave it out"
        ) from error
    return sum(passed) / len(passed)


def _limits(timeout_s: float) -> Limits:
    return Limits(cpu_s=timeout_s, wall_s=timeout_s)


def _prompt_alone(record: Record) -> str:
    """Return HumanEval's prompt as code that can be run: its imports and helpers are for the tests too."""
    prompt = record.get("prompt")
    if not isinstance(prompt, str):
        return ""
    headed = f"{prompt.rstrip()}\n    pass\n"  # a head that only a comment follows needs a body
    return prompt if _no_python(prompt) is None else headed if _no_python(headed) is None else ""


def _no_python(source: str) -> str | None:
    """Return what keeps some text from being Python, if anything."""
    try:
        ast.parse(source)
    except (SyntaxError, ValueError) as error:
        return str(error)
    return None


def _defines(code: str, name: str) -> bool:
    """Return whether code defines a name at its top level, by its looks: only the sandbox may parse unread code."""
    name = re.escape(name)
    return re.search(rf"^(?:(?:(?:async )?def|class) +{name}\b|{name} *=(?!=))", code, re.M) is not None
