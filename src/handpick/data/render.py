"""From a conversation to token ids and labels: the one place that knows the chat template and the loss mask.

The tokenizer's own chat template is used where it has one, else the Tulu form. The loss stands on
assistant turns: their content, and the end of turn that follows it, which is the one special token
right behind the content together with any white space between the two (Llama 2 writes " </s>").
A token that holds any of that text is labelled, also one that straddles its edge, unless it is a
special token of the prompt.

Where a turn lies is read from character offsets: the template is rendered once with a marker in place
of every content, which gives the fixed text between the turns, its scaffold, and the rendered
conversation is walked along it. A conversation that the template does not write as the scaffold and
the contents, trimmed or not, is refused rather than given a guessed mask.

Text in a message that spells a special token ("<|im_end|>") becomes that token, as in every trainer
that renders first and tokenizes after: it is masked or labelled with the turn it stands in.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import TemplateError, TemplateSyntaxError

from handpick.data.examples import Json, Message, Role
from handpick.errors import DataError, ModelError

IGNORED = -100  # the label of a position without loss, as torch's cross-entropy has it

TULU_TEMPLATE = (
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

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as tokens, cut to the length limit.

    ``labels[i]`` is ``input_ids[i]`` where the model is to be taught that token, else ``IGNORED``.
    ``full_length`` counts the tokens before the cut.
    """

    input_ids: list[int]
    labels: list[int]
    full_length: int

    @property
    def n_labels(self) -> int:
        """Tokens with a loss; the first token of a sequence is predicted from nothing and has none."""
        return sum(label != IGNORED for label in self.labels[1:])


class _Scaffold(NamedTuple):
    """The text of a template around the contents of conversations with the same roles."""

    start: str
    turns: list[tuple[int, str]]  # in the order written: the index of a turn, and the text behind its content


class Renderer:
    """Renders conversations with one tokenizer.

    Args:
        tokenizer: a fast (Rust-backed) transformers tokenizer.

    Raises:
        ModelError: the tokenizer gives no character offsets, or has neither a chat template nor an
            end-of-sequence token to build the Tulu form with.
    """

    # of a conversation that the first record rule read the same, tokens and labels are as they were by it
    mask_as_before = True

    def __init__(self, tokenizer: Any, template_args: Mapping[str, Json] | None = None) -> None:
        self.template_args = dict(template_args or {})
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} is a slow one and gives no character offsets; "
                "use the fast version of it (tokenizer.json)"
            )
        self.tokenizer = tokenizer
        # Straight to Rust, which halves the time; on a copy, whose truncation and padding nobody else sets.
        self._backend = deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = False
        self.template = _own_template(tokenizer) or _tulu_template(tokenizer)
        self._dated_template = (FIXED_DATE if "strftime_now" in self.template else "") + self.template
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special.update(tokenizer.all_special_tokens)
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(sorted(special)))
        self._end_of_turn = _end_of_turn(special, tokenizer)
        self._scaffolds: dict[tuple[Role, ...], _Scaffold] = {}

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end an assistant's answer: the one that the template writes behind it, and end-of-sequence.

        They may differ: base models of the Qwen family end texts otherwise than turns.
        """
        found = {self.tokenizer.eos_token_id}
        for turn, after in self._scaffold(("user", "assistant")).turns:
            if turn == 1 and (match := self._end_of_turn.match(after)):
                found.add(self.tokenizer.convert_tokens_to_ids(match[0].strip()))
        return sorted(found - {None})

    def text(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """Return the conversation as the template writes it.

        Raises:
            DataError: the template refuses the conversation (for instance two user turns in a row).
            ModelError: the template is not valid Jinja.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [message.to_json() for message in messages],
                chat_template=self._dated_template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **self.template_args,
            )
        except TemplateSyntaxError as error:
            raise ModelError(f"the tokenizer's chat template is not valid Jinja: {error}") from error
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            # What a template raises by itself is a TemplateError; the rest comes out of the Python it calls.
            raise DataError(f"refused by the chat template: {error}") from error
        return str(text)

    def __call__(self, messages: Sequence[Message], max_length: int, *, labelled_from: int = 0) -> Rendered:
        """Render one conversation.

        Args:
            messages: the turns, at least one of them by the assistant.
            max_length: tokens to keep, from the beginning.
            labelled_from: the first turn that the loss may stand on.

        Raises:
            DataError: no response token is left to learn from, or the template cannot be followed.
            ModelError: the template is not valid Jinja.
        """
        if not any(m.role == "assistant" and m.content.strip() for m in messages[labelled_from:]):
            raise DataError("no assistant turn with any text")
        text = self.text(messages)
        spans = self._loss_spans(messages, text, labelled_from)
        encoding = self._backend.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        labels = _labels(ids, encoding.offsets, spans, self._special_ids)
        rendered = Rendered(ids[:max_length], labels[:max_length], len(ids))
        if rendered.n_labels == 0:
            raise DataError(
                f"no response token left: the first {max_length} of {len(ids)} tokens hold none; raise --max-length"
            )
        return rendered

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation up to where the assistant's answer begins.

        Raises:
            DataError: the template refuses the conversation.
            ModelError: the template is not valid Jinja.
        """
        text = self.text(messages, add_generation_prompt=True)
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def _loss_spans(self, messages: Sequence[Message], text: str, labelled_from: int) -> list[Span]:
        """Return the spans of ``text`` that carry the loss, in order."""
        scaffold = self._scaffold(tuple(m.role for m in messages))
        spans: list[Span] = []
        position = len(scaffold.start)
        followed = text.startswith(scaffold.start)
        for turn, after in scaffold.turns:
            message = messages[turn]
            ways = (
                content for content in _content_variants(message.content) if text.startswith(content + after, position)
            )
            content = next(ways, None) if followed else None
            if content is None:
                raise DataError(
                    f"rewritten by the chat template: handpick cannot follow what becomes of turn {turn + 1} "
                    f"({message.role}), so its loss mask is unknown"
                )
            end = position + len(content)
            if message.role == "assistant" and turn >= labelled_from:
                end_of_turn = self._end_of_turn.match(after)
                spans.append((position, end + (end_of_turn.end() if end_of_turn else 0)))
            position = end + len(after)
        if position != len(text):
            raise DataError("rewritten by the chat template: it writes more than handpick can account for")
        return spans

    def _scaffold(self, roles: tuple[Role, ...]) -> _Scaffold:
        if roles not in self._scaffolds:
            marks = [f"\ue000{i}\ue001" for i in range(len(roles))]  # private-use characters: nobody's text
            text = self.text([Message(role, mark) for role, mark in zip(roles, marks, strict=True)])
            if any(text.count(mark) != 1 for mark in marks):
                raise DataError(f"dropped by the chat template: a turn of a conversation {' → '.join(roles)}")
            # Mistral's templates move the system message into a later turn: take the turns as they are written.
            start, *rest = re.split("\ue000([0-9]+)\ue001", text)
            turns = [(int(turn), after) for turn, after in zip(rest[::2], rest[1::2], strict=True)]
            self._scaffolds[roles] = _Scaffold(start, turns)
        return self._scaffolds[roles]


def _own_template(tokenizer: Any) -> str | None:
    if not tokenizer.chat_template:
        return None
    try:
        return str(tokenizer.get_chat_template())
    except ValueError as error:  # several templates and none of them the default one
        raise ModelError(f"the tokenizer's chat template cannot be used: {error}") from error


def _tulu_template(tokenizer: Any) -> str:
    if tokenizer.eos_token is None:
        raise ModelError("the tokenizer has neither a chat template nor an end-of-sequence token; set its eos_token")
    # Chat templates carry the begin-of-sequence token in their text; keep it where the tokenizer would add it.
    adds_bos = tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return ("{{ bos_token }}" if adds_bos else "") + TULU_TEMPLATE


def _end_of_turn(special: set[str], tokenizer: Any) -> re.Pattern[str]:
    """Match white space and one special token. A begin-of-sequence token ends nothing."""
    begin = {tokenizer.bos_token} - {tokenizer.eos_token}
    longest_first = sorted(special - begin, key=len, reverse=True)
    return re.compile(rf"\s*(?:{'|'.join(map(re.escape, longest_first))})" if longest_first else "")


def _content_variants(content: str) -> Iterator[str]:
    """Yield what templates make of a content: most write it as it is or trim it, some cut line breaks alone."""
    yield content
    yield content.strip()
    yield content.lstrip()
    yield content.rstrip()
    yield content.strip("\n")
    yield content.lstrip("\n")


def _labels(
    ids: Sequence[int], offsets: Sequence[Span], spans: Sequence[Span], special_ids: frozenset[int]
) -> list[int]:
    """Return the ids of the tokens that hold any text of a span, and ``IGNORED`` for the others."""
    labels = [IGNORED] * len(ids)
    span = reached = 0
    for i, (start, end) in enumerate(offsets):
        if start == end:  # a tokenizer with `trim_offsets` gives a token of spaces no width: it has what was left out
            start = min(reached, end)
        reached = end
        while span < len(spans) and spans[span][1] <= start:
            span += 1
        if span == len(spans):
            break
        # Phi-3's <|assistant|> takes up the white space behind it, the content's too, and is still the prompt's.
        of_prompt = start < spans[span][0] and ids[i] in special_ids
        if end > spans[span][0] and not of_prompt:
            labels[i] = ids[i]
    return labels
