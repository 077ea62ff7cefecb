"""What pydantic says of settings, in one sentence."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

from handpick.flag_names import flag_of, show_value
from handpick.objectives.judge_fields import JUDGE_FIELDS


def describe_errors(
    kind: type[BaseModel], error: ValidationError, where: str, fields: Mapping[str, Iterable[str]], *, see: str
) -> str:
    """Make one sentence of pydantic's complaint.

    Args:
        kind: whose flags the names are.
        error: what pydantic says.
        where: what the settings came from; "--" for flags.
        fields: names that there are: under "", and under a setting's name where it has settings of its own.
        see: the command that tells what there is.
    """
    errors = error.errors()
    # Of a setting that may be a word or a mapping, pydantic says what is wrong with it as either: the deeper is meant.
    first = max((e for e in errors if e["loc"][:1] == errors[0]["loc"][:1]), key=lambda e: len(e["loc"]))
    top, *inner = first["loc"] or ("the settings",)
    path = [
        str(top),
        *(str(part) for part in inner if not re.fullmatch(r"[A-Z]\w*Settings|.*\[.*", str(part))),
    ]  # no types
    name = flag_of(kind, path[0]) if where == "--" else ".".join(path)
    before = f"{where}: " if where not in ("", "--") else ""
    if first["type"] == "extra_forbidden":
        known = fields.get(path[0], fields[""]) if len(path) > 1 else fields[""]
        close = get_close_matches(path[-1], list(known), n=1)
        there = f" (there are {', '.join(known)})" if len(path) > 1 else ""
        hint = f" (did you mean {close[0]!r}?)" if close else there
        return f"{before}there is no setting {name!r}{hint}; see `{see}`"
    if first["type"] == "missing":
        return f"{before}{name} is missing"
    wrong = first["msg"].removeprefix("Input ").removeprefix("Value error, ")
    is_of_judge = any(part in JUDGE_FIELDS.values() for part in path)
    shown = "" if is_of_judge else f", not {show_value(first['input'])}"  # of a judge it may be a misplaced key
    return f"{before}{name} {wrong}{shown}"
