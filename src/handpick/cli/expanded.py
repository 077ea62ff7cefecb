"""Several flags in the place of one parameter of a command."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Command = Callable[..., None]


def expanded(
    name: str, flags: Sequence[inspect.Parameter], gather: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Command], Command]:
    """A decorator: the command gets ``flags`` in the place of a parameter, which gets what ``gather`` makes of them."""

    def decorate(command: Command) -> Command:
        def with_flags(**given: Any) -> None:
            command(**{name: gather({flag.name: given.pop(flag.name) for flag in flags})}, **given)

        every: list[inspect.Parameter] = []
        for own in inspect.signature(command).parameters.values():
            every += flags if own.name == name else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        with_flags.__name__, with_flags.__doc__ = command.__name__, command.__doc__
        with_flags.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {each.name: each.annotation for each in every}
        return with_flags

    return decorate
