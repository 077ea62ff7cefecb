"""The version of what a record becomes: its turns and their fields, what is joined to what, and where the loss stands.

It stands as ``record_rule`` in every fingerprint that depends on it, where a record is read otherwise than by the first
rule; a fingerprint without it is of that rule. So what was made by an older rule is used again where none of its
records is read otherwise, and is refused by name where one is.
"""

from typing import Any

from handpick.data.examples import Conversation
from handpick.data.formats import Conversations
from handpick.data.read import BadRecord, RawRecord
from handpick.data.rule_one import read_by_rule_one

# To be raised whenever a record becomes something else, with what the rule before made of it told apart below.
RECORD_VERSION = 2


def version_of(record: RawRecord | BadRecord, said: Conversations | None, own_id: str | None) -> int:
    """Return the newest rule by which a record is read as it is: 1 where the first rule would read the same.

    Args:
        record: as its container holds it.
        said: what it says; None where it is set aside.
        own_id: the id that it came with.
    """
    if not record.as_before:
        return RECORD_VERSION
    first = read_by_rule_one(record.fields) if isinstance(record, RawRecord) else None
    return 1 if first == _reading(said, own_id) else RECORD_VERSION


def _reading(said: Conversations | None, own_id: str | None) -> Any:
    """Return a reading in the words of the first rule; what that has no words for as nothing that it ever gave."""
    if said is None:
        return None
    turns = [None if side is None else _turns(side) for side in (said.messages, said.rejected)]
    return said if said.wanted is not None else (own_id, *turns)


def _turns(side: Conversation) -> Any:
    if side.tools or side.template_args:
        return side
    return [side if turn.extra or turn.no_loss or not turn.loss else (turn.role, turn.content) for turn in side]
