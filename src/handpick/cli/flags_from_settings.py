"""Flags made from settings: one flag a setting, its help the setting's description.

What is given goes back as plain values, for the settings themselves to check; a flag that is not given is no value.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from handpick.flag_names import as_flag, marker_of, nested_settings, option_name

Command = Callable[..., None]

# what a flag takes, by its setting's name
_METAVARS = {
    "pool": "FILE", "query": "FILE", "always": "FILE", "exclude_overlap": "FILE", "target": "NAME=FILE",
    "out": "DIR", "store": "DIR", "checkpoints": "DIR", "reference": "DIR",
    "model": "DIR|NAME", "base": "DIR|NAME", "encoder": "DIR|NAME", "budget": "N|N%|N tokens", "stop": "TEXT",
    "target_weight": "NAME=NUMBER", "max_share": "NAME=NUMBER", "min_share": "NAME=NUMBER",
}  # fmt: skip


@dataclass(frozen=True)
class Style:
    """How the flags of a command look in its help.

    Args:
        heading: of flags whose settings say none.
        headings: of some of them, by name.
        descriptions: words of the command's own, by the flag's name.
        sentences: whether help is written as sentences.
        defaults: whether help ends with the default.
    """

    heading: str | None = None
    headings: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)
    sentences: bool = False
    defaults: bool = True


@dataclass(frozen=True)
class FlagGroup:
    """Flags as parameters of a command, and the place of each one's value in the settings they are made from."""

    parameters: Sequence[inspect.Parameter]
    places: Mapping[str, Sequence[str]]

    def gather(self, flags: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that were given, nested as the settings are."""
        gathered: dict[str, Any] = {}
        for flag, (*outer, name) in self.places.items():
            if flags[flag] in (None, [], False):
                continue
            inner = gathered
            for each in outer:
                inner = inner.setdefault(each, {})
            inner[name] = flags[flag]
        return gathered


def flags_of(
    kind: type[BaseModel],
    names: Iterable[str] | None = None,
    *,
    leave_out: Collection[str] = (),
    style: Style | None = None,
) -> FlagGroup:
    """Return a flag for every setting; a setting that has settings of its own stands for those.

    Args:
        kind: the settings.
        names: which of them, in this order; all by default.
        leave_out: settings without a flag.
        style: of their help.
    """
    style = style or Style()
    parameters: list[inspect.Parameter] = []
    places: dict[str, Sequence[str]] = {}
    for name in names or kind.model_fields:
        setting = kind.model_fields[name]
        option = option_name(name, setting)
        if not option or name in leave_out:
            continue
        if nested := nested_settings(setting):
            inner = flags_of(nested, style=replace(style, heading=marker_of(setting).heading or style.heading))
            parameters += inner.parameters
            places |= {flag: (name, *place) for flag, place in inner.places.items()}
        else:
            parameters.append(_flag(option, name, setting, style))
            places[option] = (name,)
    return FlagGroup(parameters, places)


def with_flags(*, headings: Sequence[str] = (), **groups: FlagGroup) -> Callable[[Command], Command]:
    """Decorate a command: it gets each group's flags in the place of the parameter of that name.

    Args:
        headings: the order in which they come in the help; flags without one come first, and among those the required.
        groups: by the parameter, which gets a dict of what was given.
    """

    def decorate(command: Command) -> Command:
        def run(**given: Any) -> None:
            gathered = {name: group.gather(given) for name, group in groups.items()}
            of_groups = {flag for group in groups.values() for flag in group.places}
            command(**gathered, **{name: value for name, value in given.items() if name not in of_groups})

        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(command).parameters.values():
            group = groups.get(own.name)
            parameters += group.parameters if group else [own.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        if headings:
            parameters.sort(key=lambda each: _rank(each, headings))
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _rank(parameter: inspect.Parameter, headings: Sequence[str]) -> tuple[int, bool]:
    heading = parameter.annotation.__metadata__[0].rich_help_panel
    return (headings.index(heading) if heading else -1), parameter.default is not inspect.Parameter.empty


def _flag(option: str, name: str, setting: FieldInfo, style: Style) -> inspect.Parameter:
    is_switch = setting.annotation is bool
    shown = typer.Option(
        as_flag(option),
        help=_help(option, setting, style),
        show_default=False,
        metavar=None if is_switch else _metavar(name, setting),
        rich_help_panel=style.headings.get(option) or marker_of(setting).heading or style.heading,
    )
    kind: Any = bool if is_switch else list[str] if get_origin(setting.annotation) in (list, dict) else str
    default: Any = False if is_switch else None
    if setting.is_required():
        default = inspect.Parameter.empty
    elif not is_switch:
        kind = kind | None
    return inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, shown])


def _help(option: str, setting: FieldInfo, style: Style) -> str:
    text = style.descriptions.get(option, setting.description or "")
    if style.defaults and "(default" not in text:
        text += _default(setting)
    return _as_sentence(text) if style.sentences else text


def _default(setting: FieldInfo) -> str:
    value = setting.default
    is_said = isinstance(value, str | int | float) and value is not False and value != "auto"
    return f" (default: {value})" if is_said else ""


def _as_sentence(text: str) -> str:
    """Return the text with a capital and a full stop; a name at its head stays as it is."""
    first = text.partition(" ")[0].rstrip(",;")
    return f"{text[0].upper() if first.isalpha() else text[0]}{text[1:]}."


def _metavar(name: str, setting: FieldInfo) -> str:
    """Return what a flag takes: the words of a choice, or one word for its type."""
    if own := marker_of(setting).metavar:
        return own
    kinds = _kinds(setting.annotation)
    words = [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
    is_number = bool({int, float} & set(kinds))
    if words:
        return "|".join(["N", *words] if is_number else words)
    return _METAVARS.get(name, "N" if is_number else "NAME")


def _kinds(annotation: Any) -> list[Any]:
    """Return the types that a value may have, or the elements of a list."""
    origin = get_origin(annotation)
    if origin is None or origin is Literal:
        return [annotation]
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    return [kind for each in get_args(annotation) for kind in _kinds(each)]
