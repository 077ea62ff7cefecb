"""JSON and YAML files that hold settings and records of our own: whatever is in one, reading it ends in one sentence.

YAML is read as text, numbers, lists and mappings alone: a date is text, a key is text and stands once, and what an
alias stands for is counted where it is used, so that a small file cannot be a large one.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from tokenize import TokenError
from typing import Any, TypeVar

import yaml

from handpick.errors import HandpickError, first_line
from handpick.terminal import is_text

Kind = TypeVar("Kind")

_NODES = 1_000_000  # values that a YAML file may come to, those of aliases where they are used
_CHARACTERS = 1 << 24  # of a YAML file
_DEPTH = 100
_LARGEST = 1 << 63
# what a file's content does to code that expects another one
WRONG_CONTENT = (
    *(ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, EOFError),
    *(SyntaxError, TokenError),  # of the header of an array of NumPy's
)
# What reading a file of our own raises where it is not there as it was written. What else the system refuses (no handle
# or memory left, no permission, a disk that cannot be read) says nothing of the file, and goes on as it is: nobody
# should be told to remove a good one, or have it made anew.
GONE = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
DAMAGED = (*WRONG_CONTENT, *GONE)


@contextmanager
def reading(path: Path, kind: type[HandpickError], then: str) -> Iterator[None]:
    """Read a file's content within the block: whatever it does not hold becomes one sentence that names the file.

    Args:
        path: the file.
        kind: of the error.
        then: what to do.

    Raises:
        OSError: there is no such file, which the caller is to say, or the system does not let it be read.
        HandpickError: of that kind.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except GONE as error:
        raise kind(f"{path} cannot be read: {error.strerror or error}; {then}") from error
    except WRONG_CONTENT as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else first_line(error)
        raise kind(f"{path} is damaged, or none of ours ({what}); {then}") from error


def read_object(path: Path, kind: type[HandpickError], then: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        OSError, HandpickError: as ``reading``.
    """
    with reading(path, kind, then):
        return as_object(json.loads(path.read_bytes()))


def as_object(value: Any) -> dict[str, Any]:
    """Return a value that is an object.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, dict):
        raise TypeError(f"a {type(value).__name__} where an object should stand")
    return value


def as_kind(kind: type[Kind], value: Any) -> Kind:
    """Return a value as an object of a class with typed fields, whose types it is held to.

    Raises:
        ValueError: it is none.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds.

    Raises:
        ValueError: it is no YAML, or has a key that is no text or stands twice, a number that no setting takes, text
            with halves of characters, brackets nested deep, or aliases of more than can be held. In one line.
    """
    if len(text) > _CHARACTERS:
        raise ValueError(f"it has {len(text):,} characters, and {_CHARACTERS:,} are the most")
    depths = accumulate(1 if each in "[{" else -1 for each in re.findall(r"[][{}]", text))
    if max(depths, default=0) > 10 * _DEPTH:  # which PyYAML takes long to find out; some may stand in texts
        raise ValueError("brackets are nested too deep")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {}, ())
        return loader.construct_document(node)
    except (yaml.YAMLError, *WRONG_CONTENT) as error:
        said = "brackets are nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ValueError(said or type(error).__name__) from error


def read_yaml_mapping(path: Path, kind: type[HandpickError], then: str) -> dict[str, Any]:
    """Return the mapping in a YAML file of ours.

    Raises:
        OSError, HandpickError: as ``reading``.
    """
    with reading(path, kind, then):
        return as_object(parse_yaml(path.read_text(encoding="utf-8")))


class _Loader(yaml.SafeLoader):
    """PyYAML's, with dates as text, and less that it accepts."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise ValueError(f"the key {str(key_node.value)[:40]!r} in line {line} is no text: put it in quotes")
            if key in seen:
                raise ValueError(f"the key {key!r} stands twice, again in line {line}: take one out")
            seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found

    def construct_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > 100 or abs(value := int(super().construct_yaml_int(node))) >= _LARGEST:
            raise ValueError(f"the number in line {node.start_mark.line + 1} is too large")
        return value

    def construct_text(self, node: yaml.ScalarNode) -> str:
        text = str(self.construct_scalar(node))
        if not is_text(text):
            raise ValueError(f"the text in line {node.start_mark.line + 1} holds what is no character")
        return text


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_text)


def _count(node: yaml.Node, known: dict[int, int], within: tuple[int, ...]) -> int:
    """Return how many values a node comes to; refuse too many, too deep, and a node that holds itself."""
    if id(node) in known:
        return known[id(node)]
    if id(node) in within:
        raise ValueError("an alias stands for what it is in")
    if len(within) > _DEPTH:
        raise RecursionError
    inside = (*within, id(node))
    n = 1
    if isinstance(node, yaml.SequenceNode):
        n += sum(_count(each, known, inside) for each in node.value)
    elif isinstance(node, yaml.MappingNode):
        n += sum(_count(key, known, inside) + _count(each, known, inside) for key, each in node.value)
    if n > _NODES:
        raise ValueError(f"its aliases stand for more than {_NODES:,} values")
    known[id(node)] = n
    return n
