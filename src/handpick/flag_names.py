"""How a setting is called on the command line: said where the setting is declared, read by help and by complaints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from handpick.errors import SettingsError

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


def parse_settings(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """Return settings from plain values; pydantic's complaint becomes one sentence that names the flag.

    Raises:
        SettingsError: a name is unknown, a value is wrong, or one is missing.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
    flag = flag_of(kind, *first["loc"]) if first["loc"] else "a setting"
    if first["type"] == "missing":
        raise SettingsError(f"no {flag.removeprefix('--')} given: name one with {flag}")
    wrong = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    raise SettingsError(f"{flag} {wrong}, not {first['input']!r}")
