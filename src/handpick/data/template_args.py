"""A setting for what a chat template is told beside the conversation, such as ``enable_thinking=false``."""

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, JsonValue, TypeAdapter, ValidationError

from handpick.data.json_rules import JsonReader
from handpick.errors import SettingsError
from handpick.flag_names import as_flag

# what handpick itself, or the record, tells the template; and what is told its caller
_TAKEN = frozenset({
    "add_generation_prompt", "chat_template", "continue_final_message", "conversation", "documents", "max_length",
    "messages", "padding", "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize",
    "tokenizer_kwargs", "tools", "truncation",
})  # fmt: skip

FLAG, METAVAR = "template_arg", "NAME=VALUE"
DESCRIPTION = "what the chat template is told, such as enable_thinking=false; a record's own come first; several"


def _parse_args(value: Any) -> dict[str, JsonValue]:
    """Parse ``NAME=VALUE`` as flags have it, a value as JSON where it is some and else as text; or a mapping."""
    if isinstance(value, dict):
        args = dict(value)
    elif isinstance(value, list | tuple) and all(isinstance(each, str) and "=" in each for each in value):
        args = {name: _parse_value(text) for name, _, text in (each.partition("=") for each in value)}
    else:
        raise ValueError("should be NAME=VALUE")
    for name in args:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"should be NAME=VALUE with a name as templates have it, and {name!r} is none")
        if name in _TAKEN:
            raise ValueError(f"cannot say {name}, which handpick or the record says")
        try:
            json.dumps(args[name], allow_nan=False)
        except (TypeError, ValueError) as error:
            raise ValueError(f"should have a value that JSON has a word for: {error}") from error
    return args


def _parse_value(text: str) -> JsonValue:
    reader = JsonReader(lambda constant: constant)
    try:
        value: JsonValue = reader.decode(text)
    except ValueError:
        return text
    if reader.wrong:
        raise ValueError(f"should have a value that JSON has a word for: {reader.wrong}")
    return value


TemplateArgs = Annotated[dict[str, JsonValue], BeforeValidator(_parse_args)]
_SETTING = TypeAdapter(TemplateArgs)


def parse_template_args(value: Any) -> dict[str, JsonValue]:
    """Return arguments from ``NAME=VALUE``, several, or a mapping.

    Raises:
        SettingsError: a name is none, or a value has no JSON form.
    """
    try:
        return _SETTING.validate_python(value)
    except ValidationError as error:
        wrong = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{as_flag(FLAG)} {wrong}, not {value!r}") from error
