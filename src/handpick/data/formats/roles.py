"""The names that speakers go by."""

from handpick.data.examples import Json, Role
from handpick.errors import DataError

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt"), "assistant"),
    **dict.fromkeys(
        ("tool", "observation", "function", "function_response", "tool_response", "environment", "ipython"), "tool"
    ),
}
# turns of the assistant whose text is the JSON of the calls
CALLING = ("function_call", "tool_call")


def role_name(value: Json, field: str, where: str) -> str:
    """Return a speaker's name as the tables have it.

    Raises:
        DataError: nobody goes by that name.
    """
    name = value.strip().lower().replace("-", "_") if isinstance(value, str) else None
    if name is None or (name not in ROLES and name not in CALLING):
        raise DataError(
            f"unknown role: `{field}` of {where} is {value!r}; write it as one of {', '.join((*ROLES, *CALLING))}"
        )
    return name
