"""The record of an example, for what looks into records itself: rewards, judges and references."""

import json

from handpick.data.examples import Example, Json
from handpick.data.formats import parse_record
from handpick.errors import DataError


def record_of(example: Example) -> dict[str, Json]:
    """Return an example's record; one that the table of formats reads otherwise has its turns as ``messages`` too.

    So a reference is found in columns of a user's own (``--columns``), which rewards know nothing of.
    """
    fields: dict[str, Json] = json.loads(example.raw)
    try:
        is_so_read = parse_record(fields).messages == example.messages
    except DataError:
        is_so_read = False
    return fields if is_so_read else fields | {"messages": [turn.to_json() for turn in example.messages]}
