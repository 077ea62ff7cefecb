"""The side of the tests: runs them, with stand-ins for what they use of the code, and says which pass.

It runs in a sandbox of its own, where no line of the code under test ever runs. What comes from there are plain values,
and stand-ins (``Remote``) for what is no plain value. A stand-in never equals a plain value, and does no arithmetic
and no ordering: an object that claims to equal, or to be near, everything gains nothing here.

An answer names its question, which nobody can know before it is asked. A test passes if it ends without an error and
the code is there still, to answer a last question; not if the code was lost or late in between, whatever exceptions
the test expects. What becomes of it is said in words that are drawn for each test and known here alone.
"""

import ast
import builtins
import os
import signal
import symtable
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from types import FrameType
from typing import Any

from .wire import CHANNEL, Lost, Wire, decode, encode

FROM_CODE = "raised by the code under test"


class TimeUp(BaseException):
    """A test, or the loading of the code, has had its share of the time."""


class Unpassable(Exception):
    """A test gives the code something that cannot be sent to it."""


class RemoteError(Exception):
    """The code raised something that is no built-in exception."""


class Remote:
    """A stand-in for an object of the code's that is no plain value, such as a function, a class or a generator."""

    __slots__ = ("_referee", "number")

    def __init__(self, referee: "Referee", number: int) -> None:
        object.__setattr__(self, "_referee", referee)
        object.__setattr__(self, "number", number)

    def __call__(self, *values: Any, **named: Any) -> Any:
        return self._referee.ask("call", self, *values, **named)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self._referee.ask("getattr", self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._referee.ask("setattr", self, name, value)

    def __getitem__(self, key: Any) -> Any:
        return self._referee.ask("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._referee.ask("setitem", self, key, value)

    def __iter__(self) -> Iterator[Any]:
        iterator = self._referee.ask("iter", self)
        while True:
            try:
                item = self._referee.ask("next", iterator)
            except StopIteration:
                return
            yield item

    def __next__(self) -> Any:
        return self._referee.ask("next", self)

    def __len__(self) -> int:
        length: int = self._referee.ask("len", self)
        return length

    def __bool__(self) -> bool:
        truth: bool = self._referee.ask("bool", self)
        return truth

    def __str__(self) -> str:
        text: str = self._referee.ask("str", self)
        return text

    def __repr__(self) -> str:
        text: str = self._referee.ask("repr", self)
        return text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Remote):
            return False
        return self.number == other.number or self._referee.ask("eq", self, other) is True

    def __hash__(self) -> int:
        return hash(self.number)


class Referee:
    """Asks the candidate to do things.

    Args:
        wire: to the candidate.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._lent: list[Callable[..., Any]] = []
        self.over = False  #: Whether the code is lost or late; a test may have caught the exception that said so.
        self.unpassable: Unpassable | None = None  #: What could not be sent, for the same reason.

    def ask(self, operation: str, /, *values: Any, **named: Any) -> Any:
        """Have something done over there, and return the value of it.

        Raises:
            Exception: what the code raised, as the nearest built-in exception.
            Lost: the candidate is gone, or sends what is no answer.
            Unpassable: one of the values cannot be sent.
        """
        try:
            return self._ask(operation, *values, **named)
        except Lost:
            self.over = True
            raise
        except Unpassable as error:
            self.unpassable = error
            raise

    def _ask(self, operation: str, /, *values: Any, **named: Any) -> Any:
        if self.over:
            raise Lost("the code is given up")
        question = os.urandom(8).hex()
        self._wire.send(
            {
                "question": question,
                "do": operation,
                "values": [encode(value, self._refer) for value in values],
                "named": {name: encode(value, self._refer) for name, value in named.items()},
            }
        )
        while True:
            answer = self._wire.receive()
            if answer.get("question") != question:
                raise Lost("an answer to another question")
            if "function" in answer:
                self._wire.send(self._call_lent(answer))
            elif "value" in answer:
                return decode(answer["value"], self._resolve)
            else:
                raise as_exception(answer)

    def _call_lent(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            function = self._resolve("function", request["function"])
            values = [decode(value, self._resolve) for value in request["values"]]
            named = {str(name): decode(value, self._resolve) for name, value in request["named"].items()}
        except (LookupError, TypeError, AttributeError) as error:
            raise Lost(f"no call: {error}") from error
        try:
            return {"value": encode(function(*values, **named), self._refer)}
        except Lost:
            raise
        except Exception as error:
            return {"raised": "Exception", "text": f"{type(error).__name__}: {error}"}

    def _refer(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote):
            return {"object": value.number}
        name = getattr(value, "__name__", None)
        if isinstance(name, str) and getattr(builtins, name, None) is value:
            return {"builtin": name}
        if not callable(value):
            raise Unpassable(f"an object of the type {type(value).__name__} cannot be given to the code under test")
        self._lent.append(value)
        return {"function": len(self._lent) - 1}

    def _resolve(self, word: str, content: Any) -> Any:
        if type(content) is not int or content < 0:
            raise Lost("no reference")
        if word == "object":
            return Remote(self, content)
        if word == "function":  # one of those that a test gave to the code
            return self._lent[content]
        raise Lost(f"no value: {word!r}")


def as_exception(answer: dict[str, Any]) -> Exception:
    """Make the exception of which the candidate tells."""
    kind, text = getattr(builtins, str(answer.get("raised")), None), str(answer.get("text"))
    error: Exception = RemoteError(f"{answer.get('raised')}: {text}")
    if isinstance(kind, type) and issubclass(kind, Exception):
        with suppress(TypeError):  # one that wants more than a text
            error = kind(text)
    error.add_note(FROM_CODE)
    return error


def is_of_tests(error: BaseException) -> bool:
    """Return whether an error says that the tests cannot be run here, whatever the code is."""
    return isinstance(error, ImportError | Unpassable) and FROM_CODE not in getattr(error, "__notes__", ())


def names_used(source: str) -> tuple[set[str], set[str]]:
    """Return the names that some source code uses and does not itself make: in all, and as ``name.something`` alone."""
    top = symtable.symtable(source, "tests.py", "exec")
    made = {symbol.get_name() for symbol in top.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    used, tables = set[str](), [top]
    for table in tables:
        here = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
        used |= here if table is top else {name for name in here if table.lookup(name).is_global()}
        tables += table.get_children()
    tree = list(ast.walk(ast.parse(source)))
    bases = {node.value for node in tree if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)}
    plainly = {node.id for node in tree if isinstance(node, ast.Name) and node not in bases}
    return used - made, {base.id for base in bases} - plainly - made


def fill(names: dict[str, Any], referee: Referee, source: str) -> None:
    """Give the tests what they use and do not make: modules of the standard library, and the code's names.

    Built-in names are Python's own. Only where the tests use no other name can the function under test be called like
    a built-in one.
    """
    used, bases = names_used(source)
    own = {name for name in used if not hasattr(builtins, name)}
    for name in sorted(own or used):
        if name in bases and name in sys.stdlib_module_names:
            names[name] = import_module(name)
            continue
        try:
            names[name] = referee.ask("name", name)
        except NameError:  # then the test that uses it raises it again
            continue


def main(
    setup: str, tests: Sequence[str], entry_point: str | None, first: int, seconds: float, words: Mapping[str, str]
) -> None:
    """Run tests, and write to stdout what becomes of each, a line each time, which begins with a word for it.

    The words stand for ``begin N`` and ``pass N`` of each test; and for ``broken``, which is followed by why the tests
    themselves cannot be run. It ends after a test that leaves the candidate hanging or dead.

    Args:
        setup: what to run before the tests.
        tests: one or more statements each; they share their names, as lines of one file do.
        entry_point: what the setup may have defined too, but the code is to be asked for.
        first: number of the test to begin with.
        seconds: time for all of it, of which each test has an equal share of what is left.
        words: by what they stand for.
    """
    verdicts = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    end = time.monotonic() + seconds

    def say(what: str, why: str = "") -> None:
        os.write(verdicts, " ".join([words[what], *why.split()]).encode(errors="replace") + b"\n")

    def complain(error: BaseException) -> None:
        say("broken", f"{type(error).__name__}: {error}")

    referee = Referee(Wire(CHANNEL))
    names: dict[str, Any] = {"__name__": "tests"}

    def raise_time_up(number: int, frame: FrameType | None) -> None:
        referee.over = True
        raise TimeUp

    signal.signal(signal.SIGALRM, raise_time_up)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        referee.ask("load")
        fill(names, referee, "\n".join([setup, *tests]))
        exec(compile(setup, "setup.py", "exec"), names)
        if entry_point is not None:
            names[entry_point] = referee.ask("name", entry_point)
    except (Exception, TimeUp) as error:
        if is_of_tests(error):
            complain(error)
        return
    for number in range(first, len(tests)):
        say(f"begin {number}")
        failed: BaseException | None = None
        try:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, (end - time.monotonic()) / (len(tests) - number)))
            exec(compile(tests[number], "test.py", "exec"), names)
            referee.ask("wait")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except BaseException as error:
            failed = error
        broken = referee.unpassable or failed
        if broken is not None and is_of_tests(broken):
            complain(broken)
            return
        if referee.over:
            return
        if failed is None:
            say(f"pass {number}")
