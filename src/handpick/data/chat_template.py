"""A chat template as a function: a conversation in, its text out. What templates disagree about is settled here.

- A form that a template does not know goes to it as the one that it does: a tool's turn as ``ipython``,
  ``environment``, ``observation`` or ``function``; arguments of a call as an object where it cannot write text and as
  text where it cannot write an object; a turn without text as an empty one, or as none. No other role is renamed.
- Today's date is a fixed one, so that the same pool gives the same tokens tomorrow.
- A record's own arguments to the template stand above the run's.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from jinja2 import Environment, TemplateError, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from handpick.data.examples import Conversation, Json, Message, Span
from handpick.errors import DataError, ModelError, first_line

TULU_TEMPLATE = (
    "{% for tool in tools or [] %}{{ ('<|tools|>\n' if loop.first else '') + tool | tojson + '\n' }}{% endfor %}"
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' }}"
    "{% if message['reasoning_content'] is string %}"
    "{{ '<think>\n' + message['reasoning_content'] + '\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}{% set call = call['function'] or call %}"
    "{{ '\n' if message['content'] or not loop.first }}"
    "{{ '<tool_call>\n{\"name\": ' + call['name'] | tojson + ', \"arguments\": ' }}"
    "{{ call['arguments'] if call['arguments'] is string else call['arguments'] | tojson }}"
    "{{ '}\n</tool_call>' }}{% endfor %}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
# The form under record rule 1, which writes plain turns alike and nothing else: what was made under it is known by it.
_TULU_OF_RULE_ONE = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)

# Llama 3's templates write today's date. The same pool must give the same tokens tomorrow, so all get the day
# that those templates fall back to where there is no clock: a macro that stands before transformers' function.
_DAY = datetime(2024, 7, 26)
_DIRECTIVES = "".join(f" | replace('{d}', '{_DAY.strftime(d)}')" for d in ("%A", "%a", "%B", "%b", "%d", "%m", "%Y"))
FIXED_DATE = f"{{% macro strftime_now(format) %}}{{{{ format{_DIRECTIVES} }}}}{{% endmacro %}}"

_GENERATION = re.compile(r"\{%[-+]?\s*(?:end)?generation\s*[-+]?%\}")
_JINJA = Environment(extensions=["jinja2.ext.loopcontrols"])  # to read templates with; transformers runs them

# What the turn of a tool is called by templates that do not know "tool", the commonest first.
_NAMES_OF_TOOL = ("ipython", "environment", "observation", "function")

# Keys that say which is which, and are no text that anybody wrote.
_IDENTIFIERS = frozenset({"id", "tool_call_id", "tool_use_id", "type", "index", "required", "enum"})

Mark = Callable[[str, int, str], str]
"""From a text, its turn (-1 for what stands beside the turns) and its field to the text with marks in it."""


def _unmarked(text: str, _turn: int, _field: str) -> str:
    return text


class Written(NamedTuple):
    """A conversation as a template writes it, and the spans of characters that the template says are generated."""

    text: str
    generated: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Form:
    """In which of two ways a conversation is put to a template.

    ``flip_arguments`` gives arguments of calls as an object where they are text, and as text where they are an object;
    ``empty_content`` gives a turn without text an empty one.
    """

    flip_arguments: bool = False
    empty_content: bool = True


_FORMS = (Form(), Form(flip_arguments=True), Form(empty_content=False), Form(True, False))


class ChatTemplate:
    """The template of a tokenizer: its own, else the Tulu form.

    Args:
        tokenizer: of transformers.
        args: arguments to the template, such as ``enable_thinking``.

    Raises:
        ModelError: it has neither a chat template nor an end-of-sequence token to build the Tulu form with.
    """

    def __init__(self, tokenizer: Any, args: Mapping[str, Json] | None = None) -> None:
        self.source = _own_template(tokenizer) or _tulu_template(tokenizer)
        self.args = dict(args or {})
        self._tokenizer = tokenizer
        self._of_tools = _template_of_tools(tokenizer, self.source)

    @property
    def identity(self) -> str:
        """The text that the template is known by: its own, of the Tulu form the one that it had under record rule 1."""
        return self.source.replace(TULU_TEMPLATE, _TULU_OF_RULE_ONE)

    def marks_generation(self, conversation: Conversation) -> bool:
        """Return whether the template itself says what the model generates."""
        return _marks_generation(self.source_for(conversation))

    def knows_arguments(self, conversation: Conversation) -> bool:
        """Return whether the run or the record gives the template an argument that it has a name for."""
        given = self.args.keys() | _own_args(conversation).keys()
        return bool(given) and not given.isdisjoint(_variables(self.source_for(conversation)))

    def form_of(self, conversation: Conversation) -> Form:
        """Return the first form that the template writes a conversation in.

        Raises:
            DataError, ModelError: as ``write_first``.
        """
        return self.write_first(conversation)[0] if any(message.extra for message in conversation) else Form()

    def write_first(self, conversation: Conversation) -> tuple[Form, Written]:
        """Return the first form that the template writes a conversation in, and what it writes.

        Raises:
            DataError: it writes none of them; the sentence is of the first.
            ModelError: the template is not valid Jinja.
        """
        refusals = []
        for form in _FORMS if any(message.extra for message in conversation) else _FORMS[:1]:
            try:
                return form, self.write(conversation, form)
            except DataError as error:
                refusals.append(error)
        raise refusals[0]

    def write(
        self,
        conversation: Conversation,
        form: Form | None = None,
        *,
        mark: Mark = _unmarked,
        add_generation_prompt: bool = False,
    ) -> Written:
        """Write a conversation.

        Args:
            conversation: the turns, and what the template takes beside them.
            form: how they are put to the template; None for the first in which it writes them.
            mark: what becomes of the texts in them.
            add_generation_prompt: end where the assistant's answer begins.

        Raises:
            DataError: the template refuses the conversation (for instance two user turns in a row).
            ModelError: the template is not valid Jinja.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        source = self.source_for(conversation)
        form = form or self.form_of(conversation)
        try:
            written: Any = render_jinja_template(
                conversations=[self._turns(conversation, form, mark, source)],
                tools=_tools(conversation, mark),
                chat_template=(FIXED_DATE if "strftime_now" in source else "") + source,
                return_assistant_tokens_mask=_marks_generation(source),
                add_generation_prompt=add_generation_prompt,
                **self._tokenizer.special_tokens_map | self.args | _own_args(conversation),
            )
        except TemplateSyntaxError as error:
            raise ModelError(f"the tokenizer's chat template is not valid Jinja: {error}") from error
        except Exception as error:  # a template is a program, and calls Python's own: any of its errors may come
            raise DataError(f"refused by the chat template: {first_line(error)}") from error
        texts, generated = written
        return Written(str(texts[0]), tuple(generated[0]) if generated else ())

    def source_for(self, conversation: Conversation) -> str:
        """Return the text of the template that writes a conversation: some have another for one with tools."""
        return self._of_tools if conversation.tools else self.source

    def _turns(self, conversation: Conversation, form: Form, mark: Mark, source: str) -> list[dict[str, Json]]:
        turns = []
        for i, message in enumerate(conversation):
            turn: dict[str, Json] = {"role": _name_of(message.role, source)}
            if message.content or form.empty_content or not message.extra:
                turn["content"] = mark(message.content, i, "content")
            fields = _flip_arguments(message.fields) if form.flip_arguments else message.fields
            turns.append(turn | {key: _mark_value(value, mark, i, key) for key, value in fields.items()})
        return turns


def without_field(conversation: Conversation, field: str) -> Conversation:
    """Return a conversation without a field of its turns."""

    def drop(message: Message) -> Message:
        fields = message.fields
        return (
            replace(message, extra=_dump({k: v for k, v in fields.items() if k != field}))
            if field in fields
            else message
        )

    return conversation.with_turns(map(drop, conversation))


def _dump(fields: Mapping[str, Json]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) if fields else ""


@cache
def _marks_generation(source: str) -> bool:
    return _GENERATION.search(source) is not None


@cache
def _variables(source: str) -> frozenset[str]:
    """Return the names that a template wants to be told."""
    unmarked = _GENERATION.sub("", source)  # a statement of transformers' own
    try:
        return frozenset(find_undeclared_variables(_JINJA.parse(unmarked)))
    except (TemplateError, RecursionError) as error:
        raise ModelError(f"the tokenizer's chat template is not valid Jinja: {first_line(error)}") from error


def _own_args(conversation: Conversation) -> dict[str, Json]:
    return json.loads(conversation.template_args) if conversation.template_args else {}


def _tools(conversation: Conversation, mark: Mark) -> list[Any] | None:
    if not conversation.tools:
        return None
    tools: list[Json] = json.loads(conversation.tools)
    return [_mark_value(tool, mark, -1, "tools") for tool in tools]


def _mark_value(value: Json, mark: Mark, turn: int, field: str) -> Json:
    """Mark every text in a value but identifiers."""
    if isinstance(value, str):
        return value if field in _IDENTIFIERS else mark(value, turn, field)
    if isinstance(value, list):
        return [_mark_value(each, mark, turn, field) for each in value]
    if isinstance(value, dict):
        return {k: v if k in _IDENTIFIERS else _mark_value(v, mark, turn, field) for k, v in value.items()}
    return value


def _flip_arguments(fields: dict[str, Json]) -> dict[str, Json]:
    calls = fields.get("tool_calls")
    if not isinstance(calls, list):
        return fields
    return fields | {"tool_calls": [_flip_call(call) for call in calls]}


def _flip_call(call: Json) -> Json:
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return call | {"function": _flip_call(call["function"])}
    arguments = call.get("arguments")
    if isinstance(arguments, dict):
        return call | {"arguments": json.dumps(arguments, ensure_ascii=False)}
    try:
        return call | {"arguments": json.loads(arguments)} if isinstance(arguments, str) else call
    except ValueError:
        return call


def _name_of(role: str, source: str) -> str:
    """Return what a template calls a role: a tool's other name where it compares with that and not with "tool"."""
    if role != "tool" or re.search(r"""['"]tool['"]""", source):
        return role
    compared = (n for n in _NAMES_OF_TOOL if re.search(rf"""(?:==|\bin\b)\s*[\[(]?[^\])%]*['"]{n}['"]""", source))
    return next(compared, role)


def _own_template(tokenizer: Any) -> str | None:
    if not tokenizer.chat_template:
        return None
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates and none of them the default one
        raise ModelError(f"the tokenizer's chat template cannot be used: {error}") from error


def _template_of_tools(tokenizer: Any, otherwise: str) -> str:
    """Return the template for conversations with tools, which some tokenizers have beside their default one."""
    several: object = tokenizer.chat_template
    return str(several["tool_use"]) if isinstance(several, dict) and "tool_use" in several else otherwise


def _tulu_template(tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise ModelError("the tokenizer has neither a chat template nor an end-of-sequence token; set its eos_token")
    # Chat templates carry the begin-of-sequence token in their text; keep it where the tokenizer would add it.
    return ("{{ bos_token }}" if adds_bos(tokenizer) else "") + TULU_TEMPLATE


def adds_bos(tokenizer: Any) -> bool:
    """Return whether a tokenizer puts its begin-of-sequence token before a text."""
    return tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]


def as_conversation(messages: Sequence[Message]) -> Conversation:
    """Return turns as a conversation, which they may be already."""
    return messages if isinstance(messages, Conversation) else Conversation(messages)
