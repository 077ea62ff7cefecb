"""From one raw record to conversations: every shape that people keep instruction data in."""

from handpick.data.formats.record import Conversations, Record
from handpick.data.formats.roles import ROLES
from handpick.data.formats.table import FORMATS, parse_record, read_record

__all__ = ["FORMATS", "ROLES", "Conversations", "Record", "parse_record", "read_record"]
