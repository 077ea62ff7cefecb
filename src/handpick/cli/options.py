"""Flags made from the settings: one flag a field, its help the field's description."""

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from handpick.algorithms import AlgorithmSettings
from handpick.objectives.settings import ObjectiveSettings
from handpick.settings import Constraints, Settings
from handpick.settings.representation import GradientSettings, RepresentationSettings

# flags that may be given several times
_REPEATED = {
    "pool",
    "query",
    "checkpoints",
    "stop",
    "variants",
    "target",
    "target_weight",
    "max_share",
    "min_share",
    "exclude_overlap",
}


def takes(fields: Iterable[str]) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """A decorator: the command gets flags for these fields of ``Settings``, and a dict of those that were given."""

    def decorate(command: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def with_flags(**flags: Any) -> None:
            command({name: value for name, value in flags.items() if value not in (None, [], False)})

        parameters = [_flag(name, Settings.model_fields[name]) for name in fields]
        with_flags.__name__ = command.__name__
        with_flags.__doc__ = command.__doc__
        with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_flags.__annotations__ = {p.name: p.annotation for p in parameters}
        return with_flags

    return decorate


# the heading in a command's help, by the class that has the setting; the others stand first
_HEADINGS: dict[type[BaseModel], str] = {
    Constraints: "What the selection must keep to",
    GradientSettings: "Gradients",
    RepresentationSettings: "Other representations",
    AlgorithmSettings: "Selection algorithms",
    ObjectiveSettings: "Objectives: preferences and rewards",
}


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    default = "" if field.default in (None, [], {}, "auto") else f" (default: {field.default})"
    heading = next((title for kind, title in _HEADINGS.items() if name in kind.model_fields), None)
    if name in ("model", "seed"):  # nearly every run names them
        heading = None
    if field.annotation is bool:
        switch = typer.Option(
            f"--{name.replace('_', '-')}",
            help=field.description,
            show_default=False,
            rich_help_panel=heading,
        )
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, switch]
        )
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        help=f"{field.description}{default}",
        show_default=False,
        metavar=_metavar(name, field),
        rich_help_panel=heading,
    )
    kind = list[str] if name in _REPEATED else str
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _metavar(name: str, field: FieldInfo) -> str:
    """What a flag takes: the words of a choice, or one word for its type."""
    if isinstance(field.json_schema_extra, dict) and "metavar" in field.json_schema_extra:
        return str(field.json_schema_extra["metavar"])
    kinds = get_args(field.annotation) if get_origin(field.annotation) is not Literal else (field.annotation,)
    for kind in kinds or (field.annotation,):
        if get_origin(kind) is Literal:
            return "|".join([*(["N"] if float in kinds else []), *get_args(kind)])
    if name in ("pool", "query"):
        return "FILE"
    if name in ("out", "store", "checkpoints", "reference"):
        return "DIR"
    if name in ("target_weight", "max_share", "min_share"):
        return "NAME=NUMBER"
    known = {
        "model": "DIR|NAME",
        "encoder": "DIR|NAME",
        "budget": "N|N%|N tokens",
        "target": "NAME=FILE",
        "always": "FILE",
        "exclude_overlap": "FILE",
    }
    return known.get(name, "N" if {int, float} & {field.annotation, *kinds} else "NAME")
