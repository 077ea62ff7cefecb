"""What settings hold besides words and numbers, and how flags say it: paths, shares of sources, files by name."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from handpick.constraints.limits import Examples, parse_limit


def _paths(value: Any) -> list[str]:
    several = [value] if isinstance(value, str | Path) else value
    if not isinstance(several, list | tuple) or not all(isinstance(path, str | Path) for path in several):
        raise ValueError("should be a path or a list of paths")
    return [str(path) for path in several]


Paths = Annotated[list[str], BeforeValidator(_paths)]


def _shares(value: Any) -> Any:
    """Parse ``SOURCE=0.2`` as flags have it, or a mapping."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list | tuple):
        raise ValueError("should be NAME=NUMBER")
    pairs = [str(each).rpartition("=") for each in value]
    if not all(name and number for name, _, number in pairs):
        raise ValueError("should be NAME=NUMBER")
    return {name: number for name, _, number in pairs}


def _named_files(value: Any) -> dict[str, list[str]]:
    """Parse ``NAME=FILE`` as flags have it, several of a name in order, or a mapping."""
    if isinstance(value, dict):
        return {str(name): _paths(files) for name, files in value.items()}
    if not isinstance(value, list | tuple):
        raise ValueError("should be NAME=FILE")
    named: dict[str, list[str]] = {}
    for each in value:
        name, _, file = str(each).partition("=")
        if not name or not file:
            raise ValueError("should be NAME=FILE")
        named.setdefault(name, []).append(file)
    return named


def _limits(value: Any) -> Any:
    """Parse shares, each a share of the budget or a number of examples, into the form that a file reads back."""
    parsed = {}
    for name, each in _shares(value).items():
        try:
            limit = parse_limit(each)
        except ValueError as error:
            raise ValueError(f"{error} of {name!r}") from error
        parsed[name] = str(limit) if isinstance(limit, Examples) else limit
    return parsed


Shares = Annotated[dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(_shares)]
Limits = Annotated[dict[str, float | str], BeforeValidator(_limits)]
NamedFiles = Annotated[dict[str, list[str]], BeforeValidator(_named_files)]
