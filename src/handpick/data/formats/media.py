"""Records that are not text: images, sounds and films in columns of their own."""

from collections.abc import Mapping

from handpick.data.examples import Json
from handpick.data.formats.record import is_blank
from handpick.data.formats.text import refuse_media

_COLUMNS = {
    **dict.fromkeys(("images", "image"), "images"),
    **dict.fromkeys(("audios", "audio"), "audio"),
    **dict.fromkeys(("videos", "video"), "video"),
}


def refuse_media_columns(fields: Mapping[str, Json], where: str = "the record") -> None:
    """Refuse a record or a turn with a column of images, sounds or films that is not empty.

    A truth value or a number is no such thing: it says something about the record.

    Raises:
        DataError: there is one.
    """
    for column in [each for each in _COLUMNS if each in fields]:
        value = fields[column]
        if isinstance(value, str | list | dict | bytes) and not is_blank(_without_empty(value)):
            refuse_media(_COLUMNS[column], f"{where} has a column `{column}`")


def _without_empty(value: Json) -> Json:
    """Return a list without empty elements, an object without null fields."""
    if isinstance(value, list):
        return [each for each in value if not is_blank(each)]
    if isinstance(value, dict):
        return {name: each for name, each in value.items() if not is_blank(each)}
    return value
