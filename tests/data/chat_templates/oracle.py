"""A family's training text of a record and which characters of it are learnt: by hand, proven by the template."""

import hashlib
import importlib.resources
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template

from tests.data.chat_shapes import Message, as_templates_take_it
from tests.data.chat_templates.families import TRL, Family
from tests.data.chat_templates.pieces import Kind, Piece, Refused

_MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
DAY = datetime(2024, 7, 26)  # which the renderer gives templates that write the date
FOLDER = "HANDPICK_TEMPLATES"  # the environment variable that names where scripts/chat_templates.py wrote


class NoTemplate(Exception):
    """The template is not on this machine; the message says what to do."""


def template_text(family: Family) -> str:
    """Return a family's template, from TRL's package or the folder of fetched ones.

    Raises:
        NoTemplate: where it is not here, or is another than the digest says.
    """
    text = _trl_text(family.file) if family.package is TRL else None
    folder = os.environ.get(FOLDER)
    if text is None and folder and (path := Path(folder) / f"{family.name}.jinja").is_file():
        text = path.read_text("utf-8")
    if text is None:
        raise NoTemplate(f"run scripts/chat_templates.py and set {FOLDER} for the template of {family.label}")
    if hashlib.sha256(text.encode()).hexdigest() != family.sha256:
        raise NoTemplate(f"the template of {family.label} here is not {family.package.requirement}'s")
    return text


def marked_template(family: Family) -> str | None:
    """Return a family's template with generation marks: its own or TRL's; None where neither has any."""
    own = template_text(family)
    if _MARK.search(own):
        return own
    return _trl_text(family.training) if family.training else None


@cache
def _trl_text(name: str) -> str | None:
    try:
        folder = importlib.resources.files("trl")
    except ModuleNotFoundError:
        return None
    file = folder / "chat_templates" / name
    return file.read_text("utf-8") if file.is_file() else None


@dataclass(frozen=True)
class Expected:
    """What an implementation has to give.

    ``text`` is what the template writes, ``kinds`` what each of its characters is. ``appended`` is learnt and stands
    behind the text, ``may_be_appended`` may. ``refusal`` is why the template raises, empty where it does not;
    ``may_refuse`` is what it leaves out, so that a refusal is right as well.
    """

    text: str
    kinds: tuple[Kind, ...]
    appended: str = ""
    may_be_appended: str = ""
    refusal: str = ""
    may_refuse: str = ""

    @property
    def learnt(self) -> list[str]:
        """Return the learnt texts in order, without what is free."""
        marks = "".join("L" if kind is Kind.LEARNT else "." for kind in self.kinds)
        found = [self.text[match.start() : match.end()] for match in re.finditer("L+", marks)]
        return [*found, self.appended] if self.appended else found

    def faults(self, text: str, spans: list[tuple[int, int]]) -> list[str]:
        """Return in what a text and its learnt spans are wrong; nothing where they are right.

        A text may end early where nothing learnt is missing.
        """
        whole, kinds = self.text + self.appended, (*self.kinds, *[Kind.LEARNT] * len(self.appended))
        if self.may_be_appended and text == whole + self.may_be_appended:
            whole, kinds = text, (*kinds, *[Kind.FREE] * len(self.may_be_appended))
        if not whole.startswith(text):
            return [f"the text is {text!r}, not {whole!r}"]
        learnt = [False] * len(whole)
        for start, end in spans:
            learnt[start:end] = [True] * (end - start)
        wrong = {Kind.LEARNT: False, Kind.GIVEN: True, Kind.PREAMBLE: True}
        marks = "".join(
            ("-" if kind is Kind.LEARNT else "+") if wrong.get(kind) is is_learnt else "."
            for kind, is_learnt in zip(kinds, learnt, strict=True)
        )
        return [
            f"{'not learnt' if run.group()[0] == '-' else 'learnt'}: {whole[run.start() : run.end()]!r}"
            for run in re.finditer(r"-+|\++", marks)
        ]


def render(
    template: str, family: Family, record: dict[str, Any], arguments_as_text: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """Return what a template writes of a record, and its generation marks, as transformers has both.

    Raises:
        jinja2.TemplateError, TypeError: what the template raises.
    """
    messages = as_templates_take_it(record["messages"])
    if arguments_as_text:
        messages = [_with_arguments_as_text(message) for message in messages]
    with patch("transformers.utils.chat_template_utils.datetime", Mock(now=lambda: DAY)):
        texts, marks = render_jinja_template(
            [messages],
            tools=record.get("tools"),
            chat_template=template,
            return_assistant_tokens_mask=bool(_MARK.search(template)),
            bos_token=family.bos,
            eos_token=family.eos,
        )
    return texts[0], marks[0] if marks else []


def _with_arguments_as_text(message: Message) -> Message:
    if "tool_calls" not in message:
        return message
    written = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message["tool_calls"]
    ]
    return {**message, "tool_calls": written}


def pieces_of(family: Family, record: dict[str, Any]) -> list[Piece]:
    """Return a training text as the family's writer has it.

    Raises:
        Refused: where the template raises.
    """
    taken = as_templates_take_it(record["messages"])
    weighted = [
        {**message, **{name: raw[name] for name in ("weight",) if name in raw}}
        for message, raw in zip(taken, record["messages"], strict=True)
    ]
    return list(family.writer(weighted, record.get("tools")))


def expected(family: Family, record: dict[str, Any]) -> Expected:
    """Return what is to be learnt of a record.

    Raises:
        AssertionError: where the template writes another text than the writer, or raises where the writer does not.
        NoTemplate: where the template is not on this machine.
    """
    template = template_text(family)
    try:
        pieces = pieces_of(family, record)
    except Refused as refusal:
        _must_raise(template, family, record)
        return Expected("", (), refusal=str(refusal))
    text, _ = render(template, family, record, family.arguments_as_text)
    outside = (Kind.APPENDED, Kind.MAY_BE_APPENDED)
    written = "".join(piece.text for piece in pieces if piece.kind not in outside)
    kinds = [kind for piece in pieces if piece.kind not in outside for kind in [piece.kind] * len(piece.text)]
    has_preamble = any(piece.kind is Kind.PREAMBLE for piece in pieces)
    assert text.endswith(written) if has_preamble else text == written, f"{family.name}:\n{text!r}\n{written!r}"
    preamble = text[: len(text) - len(written)]
    _must_hold_no_answer(preamble, record)
    may_refuse = "arguments that are an object" if family.arguments_as_text and "tool_calls" in str(record) else ""
    if any(piece.kind is Kind.LEFT_OUT for piece in pieces):
        may_refuse = "the template leaves a part of an answer out"
    return Expected(
        text,
        (*[Kind.PREAMBLE] * len(preamble), *kinds),
        appended="".join(piece.text for piece in pieces if piece.kind is Kind.APPENDED),
        may_be_appended="".join(piece.text for piece in pieces if piece.kind is Kind.MAY_BE_APPENDED),
        may_refuse=may_refuse,
    )


def _must_raise(template: str, family: Family, record: dict[str, Any]) -> None:
    try:
        text, _ = render(template, family, record, family.arguments_as_text)
    except (jinja2.TemplateError, TypeError):
        return
    raise AssertionError(f"{family.name}'s template does not raise, but writes {text!r}")


def _must_hold_no_answer(preamble: str, record: dict[str, Any]) -> None:
    asked = [message["content"] for message in record["messages"] if message["role"] != "assistant"]
    for message in as_templates_take_it(record["messages"]):
        if message["role"] == "assistant" and " " in message["content"] and message["content"] not in asked:
            assert message["content"] not in preamble, "an answer stands in what is taken for the preamble"


def unwritten(family: Family, record: dict[str, Any]) -> set[str]:
    """Return the fields that a turn or the record carries and that leave the text as it is when they are others."""
    text, _ = render(template_text(family), family, record, family.arguments_as_text)
    found = set()
    for name, other in _with_one_field_changed(record):
        changed, _ = render(template_text(family), family, other, family.arguments_as_text)
        if changed == text:
            found.add(name)
    return found


def _with_one_field_changed(record: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "tools" in record:
        yield "tools", {**record, "tools": json.loads(json.dumps(record["tools"]).replace("forecast", "future"))}
    for place, message in enumerate(record["messages"]):
        for name, value in message.items():
            if name == "reasoning_content":
                changed: Any = value + " Or not."
            elif name == "tool_calls":
                changed = json.loads(json.dumps(value).replace("Quito", "Lima").replace("Oslo", "Lima"))
            else:
                continue
            turns = list(record["messages"])
            turns[place] = {**message, name: changed}
            yield name, {**record, "messages": turns}
