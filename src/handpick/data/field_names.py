"""The names of the fields that a record carries, and of those that its turns carry."""

import json
from collections.abc import Mapping
from functools import lru_cache

from handpick.data.examples import Json


def field_names(record: Mapping[str, Json]) -> str:
    """Return the names as a JSON list, each once, in the order in which they stand.

    A field that is null is none: tables give every row every column. What is inside a list of objects is named
    ``messages[].role``, what is inside an object ``chat_template_kwargs.enable_thinking``; one level deep.
    """
    names: dict[str, None] = {}
    for name, value in record.items():
        if value is None:
            continue
        names[name] = None
        if isinstance(value, dict):
            names.update((f"{name}.{key}", None) for key, inner in value.items() if inner is not None)
        elif isinstance(value, list):
            inside: dict[str, None] = {}
            for each in value:
                if isinstance(each, dict):
                    inside.update([(key, None) for key, inner in each.items() if inner is not None])
            names.update((f"{name}[].{key}", None) for key in inside)
    return _as_json(tuple(names))


@lru_cache  # most records of a file have the same
def _as_json(names: tuple[str, ...]) -> str:
    return json.dumps(names, ensure_ascii=False)
