"""The side of the code under test: runs it, and answers a referee with values.

Nothing here is trusted: the code shares this interpreter and may change whatever it likes, and with that the values
that it answers with, which are its own anyhow.
"""

import builtins
import operator
import os
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from .wire import CHANNEL, Lost, Wire, decode, encode

MODULE = "solution"
OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": lambda function, *values, **named: function(*values, **named),
    "getattr": getattr,
    "setattr": setattr,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "iter": iter,
    "next": next,
    "len": len,
    "bool": bool,
    "str": str,
    "repr": repr,
    "eq": operator.eq,
    "wait": lambda: None,
}


class Candidate:
    """The code under test.

    Args:
        wire: to the referee.
        setup: what comes before it, and may need it: then it fails here, and the referee runs it with the code at hand.
        code: it.
    """

    def __init__(self, wire: Wire, setup: str, code: str) -> None:
        self._wire, self._setup, self._code = wire, setup, code
        self._module = types.ModuleType(MODULE)
        self._objects: list[Any] = []
        self._question: Any = None  # that of the referee's which is being answered

    def serve(self) -> Any:
        """Answer requests until one is a result: that of a function of the referee's, which was being called."""
        while True:
            request = self._wire.receive()
            if "do" not in request:
                return self._result(request)
            outer, self._question = self._question, request["question"]
            try:
                values = [decode(value, self._resolve) for value in request["values"]]
                named = {name: decode(value, self._resolve) for name, value in request["named"].items()}
                answer = {"value": encode(self._do(request["do"], *values, **named), self._refer)}
            except BaseException as error:
                answer = describe_exception(error)
            self._wire.send({"question": request["question"], **answer})
            self._question = outer

    def _load(self) -> None:
        sys.modules[MODULE] = self._module
        names = self._module.__dict__
        with suppress(Exception):
            exec(compile(self._setup, "setup.py", "exec"), names)
        exec(compile(self._code, f"{MODULE}.py", "exec"), names)

    def _do(self, operation: str, /, *values: Any, **named: Any) -> Any:
        if operation == "load":
            return self._load()
        if operation == "name":
            if values[0] not in self._module.__dict__:
                raise NameError(values[0])
            return self._module.__dict__[values[0]]
        return OPERATIONS[operation](*values, **named)

    def _refer(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Borrowed):
            return {"function": value.number}
        self._objects.append(value)
        return {"object": len(self._objects) - 1}

    def _resolve(self, word: str, content: Any) -> Any:
        if word == "object":
            return self._objects[content]
        if word == "builtin":
            return getattr(builtins, content)
        return Borrowed(self, content)

    def ask(self, number: int, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Call a function of the referee's."""
        self._wire.send(
            {
                "question": self._question,
                "function": number,
                "values": [encode(value, self._refer) for value in values],
                "named": {name: encode(value, self._refer) for name, value in named.items()},
            }
        )
        return self.serve()

    def _result(self, answer: dict[str, Any]) -> Any:
        if "raised" in answer:
            raise RuntimeError(answer["text"])
        return decode(answer["value"], self._resolve)


class Borrowed:
    """A function of the referee's, as the code under test may call it."""

    def __init__(self, candidate: Candidate, number: int) -> None:
        self.candidate, self.number = candidate, number

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Call it, over there."""
        return self.candidate.ask(self.number, values, named)


def describe_exception(error: BaseException) -> dict[str, Any]:
    """Describe an exception as the referee can tell of it: the nearest built-in class that it is one of."""
    names = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    try:
        text = str(error)
    except Exception:
        text = ""
    return {"raised": names[0], "text": text[:1000]}


def main(setup: str, code: str) -> None:
    """Load the code, with its output thrown away, and answer the referee for as long as there is one."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nowhere, file)
    with suppress(Lost):
        Candidate(Wire(CHANNEL), setup, code).serve()
