"""From a conversation to token ids and labels: the one place that knows the chat template and the loss mask.

The tokenizer's own chat template is used where it has one, else the Tulu form (``chat_template.py``). The loss stands
on what the model has to write for an assistant's turn, its end included (``loss_spans.py``), less the turns and their
parts that the data says are not to be learnt. A token that holds any of that text is labelled, also one that straddles
its edge, unless it is a special token of the prompt.

Most conversations are plain turns of text. For those the template's text around the turns, its scaffold, is found once
for all that have the same roles, and a conversation is walked along it; one that does not fit is looked at by itself.

Text in a message that spells a special token ("<|im_end|>") becomes that token, as in every trainer
that renders first and tokenizes after: it is masked or labelled with the turn it stands in.
"""

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from handpick.data.chat_template import ChatTemplate, Form, adds_bos, as_conversation
from handpick.data.examples import Conversation, Json, Message, Role, Span
from handpick.data.loss_spans import TurnSpan, TurnSpans, past_space
from handpick.data.name_unwritten import name_unwritten
from handpick.data.plain_text import has_response, why_unlearnt
from handpick.errors import DataError, ModelError

IGNORED = -100  # the label of a position without loss, as torch's cross-entropy has it

_TAG_WITHIN_A_TURN = re.compile(r"</?(?:\w*think\w*|tools?|tool_\w+|arg_\w+|function\w*|parameter\w*)>")


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


class _Turn(NamedTuple):
    """A turn of a scaffold: which it is, the text behind its content, and how far its span reaches beyond that.

    ``before`` characters ahead of the content and ``behind`` characters after it are the turn's, both None of a turn
    that is not the assistant's.
    """

    turn: int
    after: str
    before: int | None
    behind: int | None


class _Scaffold(NamedTuple):
    """The text of a template around the contents of conversations with the same roles."""

    start: str
    turns: list[_Turn]  # in the order written


class Renderer:
    """Renders conversations with one tokenizer.

    Args:
        tokenizer: a fast (Rust-backed) transformers tokenizer.
        template_args: arguments to its chat template, such as ``{"enable_thinking": False}``; a record's own stand
            above them.
        n_embeddings: rows of the model's embedding; a conversation with a token beyond them is refused. None: unknown.

    Raises:
        ModelError: the tokenizer gives no character offsets, or has neither a chat template nor an
            end-of-sequence token to build the Tulu form with.
    """

    def __init__(
        self, tokenizer: Any, template_args: Mapping[str, Json] | None = None, n_embeddings: int | None = None
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} is a slow one and gives no character offsets; "
                "use the fast version of it (tokenizer.json)"
            )
        self.tokenizer = tokenizer
        self._n_embeddings = n_embeddings
        # Straight to Rust, which halves the time; on a copy, whose truncation and padding nobody else sets.
        self._backend = deepcopy(tokenizer.backend_tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = False
        self._template = ChatTemplate(tokenizer, template_args)
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special.update(tokenizer.all_special_tokens)
        self._special_ids = frozenset(tokenizer.convert_tokens_to_ids(sorted(special)))
        self._end_of_turn = _end_of_turn(special, tokenizer)
        self._turn_spans = TurnSpans(self._template, self._end_of_turn)
        self._scaffolds: dict[tuple[Role, ...], _Scaffold | None] = {}

    @property
    def template(self) -> str:
        """The chat template that is used, as the tokenizer has it."""
        return self._template.source

    @property
    def template_identity(self) -> str:
        """The text that the template is known by in fingerprints."""
        return self._template.identity

    @property
    def template_args(self) -> dict[str, Json]:
        """The arguments that the template is given."""
        return self._template.args

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end an assistant's answer: the one that the template writes behind it, and end-of-sequence.

        They may differ: base models of the Qwen family end texts otherwise than turns.
        """
        found = {self.tokenizer.eos_token_id}
        try:
            text, spans = self.spans([Message("user", "Why?"), Message("assistant", "So.")])
        except DataError:  # a template for conversations with tools alone
            spans = []
        for start, end in spans:
            ends = list(self._end_of_turn.finditer(text, start, end))
            if ends:
                found.add(self.tokenizer.convert_tokens_to_ids(ends[-1][0].strip()))
        return sorted(found - {None})

    def text(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """Return the conversation as the template writes it.

        Raises:
            DataError: the template refuses the conversation (for instance two user turns in a row).
            ModelError: the template is not valid Jinja.
        """
        conversation = as_conversation(messages)
        if conversation.document:
            return self._document(conversation)
        return self._template.write(conversation, add_generation_prompt=add_generation_prompt).text

    def _document(self, conversation: Conversation) -> str:
        """Return a text that is no conversation, between the tokens that the tokenizer and TRL's trainer put there."""
        end = self.tokenizer.eos_token or ""
        begin = self.tokenizer.bos_token if adds_bos(self.tokenizer) else ""
        return begin + conversation[0].content.removesuffix(end) + end

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
        conversation = as_conversation(messages)
        if not has_response(conversation[labelled_from:]):
            raise DataError(why_unlearnt(conversation[labelled_from:]) or "no assistant turn with any text")
        text, spans = self._learnt(conversation, labelled_from)
        encoding = self._encode(text)
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
        return self.token_ids(self.prompt_text(messages))

    def token_ids(self, text: str) -> list[int]:
        """Return the tokens of a rendered text.

        Raises:
            DataError: the model has no embedding for one of them.
        """
        ids: list[int] = self._encode(text).ids
        return ids

    def _encode(self, text: str) -> Any:
        encoding = self._backend.encode(text, add_special_tokens=False)
        if self._n_embeddings is not None and max(encoding.ids, default=0) >= self._n_embeddings:
            beyond = max(encoding.ids)
            raise DataError(
                f"token without an embedding: {self.tokenizer.convert_ids_to_tokens(beyond)!r} is number {beyond}, and "
                f"the model's embedding has {self._n_embeddings} rows: resize it, or use the tokenizer it was made with"
            )
        return encoding

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """Return a conversation up to where the assistant's answer begins.

        That is the text that an answer is trained behind: templates that open a thought in a prompt, or write an empty
        one in training alone, would else have the model draw answers in another form than it learns them. An argument
        that the template knows decides instead, as long as an answer is trained behind that prompt too.

        Raises:
            DataError: the template refuses the conversation.
            ModelError: the template is not valid Jinja.
        """
        conversation = as_conversation(messages)
        asked = self._template.write(conversation, add_generation_prompt=True).text
        trained = self._text_ahead_of_answer(conversation)
        if trained is None:
            return asked
        is_meant = self._template.knows_arguments(conversation) and trained.startswith(asked.rstrip())
        return asked if is_meant or trained.rstrip() == asked.rstrip() else trained

    def _text_ahead_of_answer(self, conversation: Conversation) -> str | None:
        """Return what the training text has ahead of one more answer; None where the template wants none there."""
        answer = "\ue000"  # a private-use character, which stands behind all that the prompt says
        try:
            text = self.text(conversation.with_turns([*conversation, Message("assistant", answer)]))
        except DataError:
            return None
        ahead, found, _ = text.rpartition(answer)
        return ahead if found else None

    def spans(self, messages: Sequence[Message], labelled_from: int = 0) -> tuple[str, list[Span]]:
        """Return the training text of a conversation, and the spans of characters in it that carry the loss, in order.

        Raises:
            DataError: the template cannot be followed, or refuses the conversation.
            ModelError: the template is not valid Jinja.
        """
        return self._learnt(as_conversation(messages), labelled_from)

    def unwritten(self, messages: Sequence[Message]) -> tuple[str, ...]:
        """Name what a conversation carries and the template does not write.

        Returns:
            Names of fields of turns, "tools", "chat_template_kwargs", "the text of a system turn" and its like, in the
            alphabet's order; none where all is written, or where the template refuses the conversation.

        Raises:
            ModelError: the template is not valid Jinja.
        """
        conversation = as_conversation(messages)
        return () if conversation.document else name_unwritten(self._template, self._turn_spans, conversation)

    @cached_property
    def mask_as_before(self) -> bool:
        """Whether plain turns have the loss mask, and prompts the end, that they had under record rule 1.

        That rule's loss stood on an answer's content, and on the one special token behind it.
        """
        question, answer = Message("user", "\ue000"), Message("assistant", "\ue001")
        shapes = ([question, answer], [question, answer] * 2, [Message("system", "\ue002"), question, answer])
        for turns in shapes:
            try:
                text, spans = self.spans(turns)
                asked = self.text(turns[:-1], add_generation_prompt=True)
            except DataError:  # a template without system turns
                continue
            places = [match.start() for match in re.finditer(answer.content, text)]
            ends = [self._end_of_turn.match(text, past_space(text, place + 1)) for place in places]
            before = [(place, end.end() if end else place + 1) for place, end in zip(places, ends, strict=True)]
            if spans != before or self.prompt_text(turns[:-1]) != asked:
                return False
        return True

    def _learnt(self, conversation: Conversation, labelled_from: int) -> tuple[str, list[Span]]:
        text, turns = self._spans(conversation)
        learnt = [t for t, message in enumerate(conversation) if t >= labelled_from and has_response([message])]
        if not {span.turn for span in turns if span.has_text}.intersection(learnt):
            raise DataError(f"dropped by the chat template: it does not write turn {learnt[-1] + 1} (assistant)")
        spans: list[Span] = []
        for turn, start, end, _ in turns:
            if turn >= labelled_from and conversation[turn].loss:
                holes = self._holes(conversation, text, turn) if conversation[turn].no_loss else []
                spans += _less(start, end, holes)
        if turns and turns[-1].turn == len(conversation) - 1 and turns[-1].end == len(text.rstrip()):
            end_of_turn = self._unwritten_end(conversation, text, turns[-1])
            if end_of_turn and spans and spans[-1][1] == turns[-1].end:
                text = text[: turns[-1].end] + end_of_turn
                spans[-1] = (spans[-1][0], len(text))
        return text, [span for span in spans if span[0] < span[1]]

    def _spans(self, conversation: Conversation) -> tuple[str, list[TurnSpan]]:
        """Return what the template writes, and the spans of the assistant's turns in it."""
        if conversation.document:
            text = self._document(conversation)
            return text, [TurnSpan(0, 0, len(text))]
        plain = not conversation.tools and not any(message.extra for message in conversation)
        form, written = self._template.write_first(conversation)
        if plain and not written.generated:
            scaffold = self._scaffold(tuple(message.role for message in conversation))
            spans = _walk(scaffold, conversation, written.text) if scaffold else None
            if spans is not None:
                return written.text, spans
        return written.text, self._turn_spans.find(conversation, form, written.text, written.generated)

    def _scaffold(self, roles: tuple[Role, ...]) -> _Scaffold | None:
        """Return the scaffold of conversations with these roles; None where the template has none that is fixed."""
        if roles not in self._scaffolds:
            try:
                self._scaffolds[roles] = self._find_scaffold(roles)
            except DataError:
                self._scaffolds[roles] = None
        return self._scaffolds[roles]

    def _find_scaffold(self, roles: tuple[Role, ...]) -> _Scaffold | None:
        marks = [f"\ue000{i}\ue001" for i in range(len(roles))]  # private-use characters: nobody's text
        conversation = Conversation(Message(role, mark) for role, mark in zip(roles, marks, strict=True))
        text = self.text(conversation)
        if any(text.count(mark) != 1 for mark in marks):
            return None
        spans = {s.turn: s for s in self._turn_spans.find(conversation, Form(), text, ())}
        # Mistral's templates move the system message into a later turn: take the turns as they are written.
        start, *rest = re.split("\ue000([0-9]+)\ue001", text)
        turns = []
        for index, after in zip(map(int, rest[::2]), rest[1::2], strict=True):
            begin = text.index(marks[index])
            span = spans.get(index)
            reach = (None, None) if span is None else (begin - span.start, span.end - begin - len(marks[index]))
            turns.append(_Turn(index, after, *reach))
        return _Scaffold(start, turns)

    def _holes(self, conversation: Conversation, text: str, turn: int) -> list[Span]:
        """Return the spans of a rendered turn that the data says are not to be learnt."""
        form = self._template.form_of(conversation)
        placed = self._turn_spans.write(conversation, form, [turn], ask=False, text=text)
        pieces = [p for p in placed.places if p.slot.field == "content"]
        if placed.text != text:
            raise DataError(
                f"rewritten by the chat template: which part of turn {turn + 1} is not to be learnt cannot be followed"
            )
        pieces.sort(key=lambda piece: piece.slot.start)
        starts = [piece.slot.start for piece in pieces]
        holes = []
        for start, end in conversation[turn].no_loss:
            first, behind = bisect_left(starts, start), bisect_left(starts, end)
            if first < behind:
                holes.append((pieces[first].start, (pieces[behind].start if behind < len(pieces) else pieces[-1].end)))
        return holes

    def _unwritten_end(self, conversation: Conversation, text: str, last: TurnSpan) -> str:
        """Return the token that ends an answer where the template writes none behind a conversation's last one.

        It is what the template writes behind an answer before the next question (GLM: ``<|user|>``, with which that
        question opens), appended as TRL does.
        """
        if conversation[-1].fields.get("tool_calls"):
            return self._opening_of_result(conversation, text[: last.end])
        end = self._turn_spans.habits.unwritten_end
        there = self._template.marks_generation(conversation) or text[last.start : last.end].endswith(end)
        return "" if there else end

    def _opening_of_result(self, conversation: Conversation, text: str) -> str:
        """Return the special token that ends a call, of a template that writes none: a result opens with it."""
        if self._turn_spans.habits.ending:
            return ""
        try:
            followed = self.text(conversation.with_turns([*conversation, Message("tool", "\ue001")]))
        except DataError:
            return ""
        found = self._end_of_turn.match(followed, len(text)) if followed.startswith(text) else None
        return found[0] if found else ""


def _walk(scaffold: _Scaffold, conversation: Conversation, text: str) -> list[TurnSpan] | None:
    """Return the spans of a conversation that is written along a scaffold; None where it is not."""
    if not text.startswith(scaffold.start):
        return None
    position = len(scaffold.start)
    spans = []
    for index, after, before, behind in scaffold.turns:
        ways = (c for c in _content_variants(conversation[index].content) if text.startswith(c + after, position))
        content = next(ways, None)
        if content is None:
            return None
        end = position + len(content)
        if before is not None and behind is not None:
            spans.append(TurnSpan(index, position - before, end + behind))
        position = end + len(after)
    return spans if position == len(text) else None


def _less(start: int, end: int, holes: list[Span]) -> list[Span]:
    """Return a span without the holes in it, which are in order."""
    edges = [start, *(min(max(edge, start), end) for hole in holes for edge in hole), end]
    return [(s, e) for s, e in zip(edges[::2], edges[1::2], strict=True) if s < e]


def _end_of_turn(special: set[str], tokenizer: Any) -> re.Pattern[str]:
    """Match one special token. A begin-of-sequence token ends nothing, and no tag of a thought or a call does."""
    begin = {tokenizer.bos_token} - {tokenizer.eos_token}
    ends = {token for token in special - begin if not _TAG_WITHIN_A_TURN.fullmatch(token)}
    longest_first = sorted(ends, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) if longest_first else r"(?!)")


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
