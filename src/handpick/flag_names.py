"""How a setting is called on the command line: said where the setting is declared, read by help and by complaints."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from handpick.errors import SettingsError
from handpick.terminal import escape_controls, is_text

Kind = TypeVar("Kind", bound=BaseModel)


@dataclass(frozen=True)
class Flag:
    """A setting's flag, where the setting's own name and type do not say it: ``Annotated[int, Flag("judge_workers")]``.

    ``heading`` is the one it stands under in a command's help; that of a setting which has settings of its own holds
    for all of them.
    """

    name: str | None = None
    metavar: str | None = None
    heading: str | None = None


NO_FLAG = Flag(name="")


def marker_of(field: FieldInfo) -> Flag:
    """Return what is said of a setting's flag where it is declared."""
    return next((each for each in field.metadata if isinstance(each, Flag)), Flag())


def option_name(name: str, field: FieldInfo) -> str:
    """Return the name of a setting's flag, as Python has it; empty where it has none."""
    own = marker_of(field).name
    return name if own is None else own


def nested_settings(field: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a setting that has settings of its own."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def as_flag(option: str) -> str:
    """Return ``max_length`` as ``--max-length``."""
    return f"--{option.replace('_', '-')}"


def flag_of(kind: type[BaseModel], *path: str | int) -> str:
    """Return the flag of a setting, or its name where it has none.

    ``flag_of(IterSelectSettings, "classifier", "epochs")`` is --classifier-epochs.
    """
    name, *rest = path
    field = kind.model_fields.get(str(name))
    if field is None:
        return as_flag(str(name))
    nested = nested_settings(field)
    if nested and rest:
        return flag_of(nested, *rest)
    option = option_name(str(name), field)
    return as_flag(option) if option else str(name)


_DEPTH = 50  # of lists and mappings in a setting that are looked into
_LARGEST = 1 << 63
_SHOWN = 200  # characters of a wrong value


def check_values(values: Mapping[str, Any], of: Callable[[str], str] = str) -> None:
    """Refuse what no setting may be, whichever it is: before any of them is looked at by itself.

    That is text that no file can hold (a byte that is not UTF-8, half of a character, a zero), a number beyond 64
    bits, and an empty ``out``, which would be the working folder.

    Args:
        values: settings by name.
        of: how a setting is called in the sentence.

    Raises:
        SettingsError: one of them is.
    """
    for name, value in values.items():
        if name == "out" and str(value) == "":
            raise SettingsError(f"{of(name)} is empty: name a folder, or leave it out (the working folder is .)")
        for each in _values_in(value, 0):
            if isinstance(each, str) and not is_text(each):
                raise SettingsError(f"{of(name)} holds {show_value(each)}, which is no UTF-8 text: give another name")
            if isinstance(each, int) and abs(each) >= _LARGEST:
                raise SettingsError(f"{of(name)} is a number beyond 64 bits: give a smaller one")


def _values_in(value: Any, depth: int) -> Iterator[str | int]:
    if isinstance(value, str | int):
        yield value
    elif isinstance(value, Path):
        yield str(value)
    elif depth < _DEPTH and isinstance(value, Mapping):
        for key, each in value.items():
            yield from _values_in(key, depth + 1)
            yield from _values_in(each, depth + 1)
    elif depth < _DEPTH and isinstance(value, list | tuple):
        for each in value:
            yield from _values_in(each, depth + 1)


def show_value(value: object) -> str:
    """Return a wrong value as a complaint shows it: its beginning, of whatever kind it is."""
    try:
        shown = escape_controls(repr(value))
    except (ValueError, RecursionError):  # a number of more digits than Python writes, a list in itself
        return f"such a {type(value).__name__}"
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def parse_settings(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Return settings from plain values; pydantic's complaint becomes one sentence that names the flag.

    Raises:
        SettingsError: a name is unknown, a value is wrong, or one is missing.
    """
    check_values(values, of=lambda name: flag_of(kind, name))
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
    flag = flag_of(kind, *first["loc"]) if first["loc"] else "a setting"
    if first["type"] == "missing":
        raise SettingsError(f"no {flag.removeprefix('--')} given: name one with {flag}")
    wrong = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    raise SettingsError(f"{flag} {wrong}, not {show_value(first['input'])}")
