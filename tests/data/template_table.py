"""The table of families and conversation shapes: right, refused as the template is, or wrong."""

from dataclasses import dataclass
from functools import cache

from handpick.data.render import Renderer
from handpick.errors import HandpickError
from tests.data.chat_shapes import ALL_SHAPES, KINDS
from tests.data.chat_templates.families import FAMILIES, Family
from tests.data.chat_templates.oracle import NoTemplate, expected, template_text
from tests.data.learnt import conversation, learnt_spans, tokenizer


@dataclass(frozen=True)
class Cell:
    """What came of a family and a shape. ``wrong`` says why, and is empty where the outcome is right."""

    refused: bool
    wrong: str

    @property
    def mark(self) -> str:
        """Return how the table shows it."""
        if self.wrong:
            return "wrong"
        return "refused" if self.refused else "right"


@dataclass(frozen=True)
class Prompt:
    """What stands between the last word of a question and its answer, white space at its end aside.

    ``asked`` is the template's own generation prompt, ``given`` the prompt that handpick gives, and ``trained`` what
    the training text has there.
    """

    asked: str
    given: str
    trained: str


def here() -> list[Family]:
    """Return the families whose template is on this machine."""
    found = []
    for family in FAMILIES:
        try:
            template_text(family)
        except NoTemplate:
            continue
        found.append(family)
    return found


@cache
def cell(family: Family, shape: str) -> Cell:
    """Return what the renderer makes of a shape under a family's template, held to what was written by hand."""
    wanted = expected(family, ALL_SHAPES[shape])
    try:
        text, spans = learnt_spans(family, ALL_SHAPES[shape])
    except HandpickError as error:
        why = "" if wanted.refusal or wanted.may_refuse else f"refused, and the template writes it: {error}"
        return Cell(True, why)
    if wanted.refusal:
        return Cell(False, f"not refused, and the template raises: {wanted.refusal}")
    return Cell(False, "; ".join(wanted.faults(text, spans)))


def kind_mark(family: Family, kind: str) -> str:
    """Return the mark of a kind of conversation: the worst of its shapes'."""
    marks = {cell(family, shape).mark for shape in KINDS[kind]}
    return next(mark for mark in ("wrong", "refused", "right") if mark in marks)


def row(family: Family) -> str:
    """Return a family's line of the table."""
    return f"| {family.label} | {' | '.join(kind_mark(family, kind) for kind in KINDS)} |"


def prompt(family: Family, shape: str) -> Prompt | None:
    """Return how a shape's last answer is asked for; None where the template refuses the shape."""
    told = conversation(ALL_SHAPES[shape])
    word = "tallest?" if shape == "plain" else "overcast"
    renderer = Renderer(tokenizer(family))
    try:
        text, _ = renderer.spans(told)
        asked = renderer.text(told[:-1], add_generation_prompt=True)
        given = renderer.prompt_text(told[:-1])
    except HandpickError:
        return None
    trained = text.rpartition(told[-1].content)[0]
    return Prompt(*(part.rpartition(word)[2].rstrip() for part in (asked, given, trained)))
