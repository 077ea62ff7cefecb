"""The loss mask on real templates, held to what was written down by hand; the templates prove the writing."""

from pathlib import Path

import pytest

from handpick.data.render import Renderer
from tests.data.chat_shapes import ALL_SHAPES, KINDS, SHAPES
from tests.data.chat_templates.families import FAMILIES, TRL, Family
from tests.data.chat_templates.oracle import FOLDER, expected, marked_template, render, unwritten
from tests.data.learnt import unwritten_fields
from tests.data.template_table import cell, here, kind_mark, prompt, row

BY_NAME = {family.name: family for family in FAMILIES}
ALWAYS_WRITTEN = ("plain", "several turns", "tools", "tool results", "earlier thinking")
NEVER_REFUSED = (
    *("qwen3", "qwen3.5", "llama3", "llama3.1", "llama3.2", "gpt-oss", "gemma3", "gemma4"),
    *("mistral-v1", "mistral-v3", "mistral-nemo", "mistral-small-3", "mistral-small-3.2"),
)
# Where TRL's training template writes another text than the model's own, its marks say nothing of the latter.
OTHER_TEXT = {
    "qwen3": {  # a think block in every turn
        *("several turns", "earlier thinking", "tool results", "null content", "late system", "assistant first"),
        *("trimmed and repeated", "weights", "empty earlier answer", "answer repeats prompt", "two answers"),
        *("two calls", "call with text", "calls in two exchanges"),
    },
    "qwen3.5": {  # the same
        *("several turns", "earlier thinking", "assistant first", "trimmed and repeated", "weights"),
        *("empty earlier answer", "answer repeats prompt", "calls in two exchanges"),
    },
    "deepseek-r1-distill": {"empty think", "thought in text"},  # thoughts that the model's own drops
    "glm4-moe": {"two answers"},  # <|user|> between them
    "cohere2": {"developer"},  # no end behind a turn of a role that it does not know
}
WRONG: dict[str, set[str]] = {}  # cells where the renderer is known to be wrong
HERE = here()
needs_spans = pytest.mark.skipif(not hasattr(Renderer, "spans"), reason="the renderer gives no spans of characters")
needs_unwritten = pytest.mark.skipif(
    not hasattr(Renderer, "unwritten"), reason="the renderer does not say what is lost"
)
every_family = pytest.mark.parametrize("family", HERE, ids=lambda family: family.name)


def test_the_templates_of_trl_are_the_ones_that_were_read() -> None:
    assert [family.name for family in FAMILIES if family.package is TRL and family not in HERE] == []


def test_all_templates_are_here() -> None:
    if missing := [family.label for family in FAMILIES if family not in HERE]:
        pytest.skip(f"run scripts/chat_templates.py and set {FOLDER} for the templates of {', '.join(missing)}")


@every_family
def test_a_template_writes_what_was_written_down_by_hand(family: Family) -> None:
    for record in ALL_SHAPES.values():
        wanted = expected(family, record)  # it asserts that the texts are equal
        assert wanted.refusal or wanted.learnt


@pytest.mark.parametrize("family", [f for f in HERE if marked_template(f)], ids=lambda family: family.name)
def test_generation_marks_are_the_ones_written_by_hand(family: Family) -> None:
    marked = marked_template(family)
    assert marked
    for shape, record in ALL_SHAPES.items():
        wanted = expected(family, record)
        if wanted.refusal:
            continue
        text, marks = render(marked, family, record)
        if shape in OTHER_TEXT.get(family.name, ()):
            assert text != wanted.text + wanted.appended
        else:
            assert text == wanted.text + wanted.appended
            faults = wanted.faults(text, marks)
            assert bool(faults) is (shape == "weights"), f"{shape}: {faults}"  # TRL knows no weights
            assert all(fault.startswith("learnt: ") for fault in faults)


@pytest.mark.parametrize(
    ("name", "shape", "learnt"),
    [
        ("qwen2.5", "tools", ['<tool_call>\n{"name": "get_weather", "arguments": {"city": "Quito", "days": 3}}\n'
                              "</tool_call><|im_end|>"]),
        ("qwen3", "plain", ["<think>\n\n</think>\n\nEverest, clearly.<|im_end|>"]),
        ("qwen3", "thought in text", ["<think>\nCompare heights first.\n</think>\n\nEverest, clearly.<|im_end|>"]),
        ("qwen3", "earlier thinking", ["Everest, clearly.<|im_end|>",
                                       "<think>\nSkip the summit above.\n</think>\n\nThen K2.<|im_end|>"]),
        ("llama3", "weights", ["Then K2.<|eot_id|>"]),
        ("gemma2", "empty earlier answer", ["<end_of_turn>", "Then K2.<end_of_turn>"]),
        ("glm4-moe", "several turns", ["\n<think></think>\nEverest, clearly.<|user|>",
                                       "\n<think></think>\nThen K2.<|user|>",
                                       "\n<think></think>\nKangchenjunga.", "<|user|>"]),
        ("phi3", "plain", ["Everest, clearly.<|end|>", "<|endoftext|>"]),
    ],
)  # fmt: skip
def test_the_learnt_texts(name: str, shape: str, learnt: list[str]) -> None:
    assert expected(BY_NAME[name], SHAPES[shape]).learnt == learnt


def test_every_wrong_character_is_a_fault() -> None:
    wanted = expected(BY_NAME["llama3"], SHAPES["plain"])
    start = wanted.text.index("Everest")
    end = len(wanted.text)
    assert wanted.faults(wanted.text, [(start, end)]) == []
    assert wanted.faults(wanted.text, [(start, end - len("<|eot_id|>"))]) == ["not learnt: '<|eot_id|>'"]
    assert wanted.faults(wanted.text, [(start - 2, end)]) == [r"learnt: '\n\n'"]
    assert wanted.faults(wanted.text[:-1], [(start, end - 1)]) == ["not learnt: '>'"]
    assert "the text is" in wanted.faults("!" + wanted.text, [(start + 1, end + 1)])[0]


def test_white_space_behind_an_end_is_free() -> None:
    wanted = expected(BY_NAME["qwen2.5"], SHAPES["plain"])
    start, end = wanted.text.rindex("Everest"), len(wanted.text)
    assert wanted.faults(wanted.text, [(start, end)]) == wanted.faults(wanted.text, [(start, end - 1)]) == []


@needs_spans
@every_family
def test_what_is_learnt(family: Family) -> None:
    wrong = {shape: cell(family, shape).wrong for shape in ALL_SHAPES}
    wrong = {shape: why for shape, why in wrong.items() if why}
    assert set(wrong) == WRONG.get(family.name, set()), "\n".join(f"{shape}: {why}" for shape, why in wrong.items())


@needs_spans
@pytest.mark.parametrize("name", [family.name for family in HERE if family.name in NEVER_REFUSED])
def test_the_families_in_wide_use_are_never_refused_without_need(name: str) -> None:
    for shape in ALWAYS_WRITTEN:
        wanted = expected(BY_NAME[name], SHAPES[shape])
        assert cell(BY_NAME[name], shape).refused is False or wanted.refusal or wanted.may_refuse, shape


@needs_spans
def test_at_least_six_cells_of_seven_are_right() -> None:
    marks = {(family.name, kind): kind_mark(family, kind) for family in HERE for kind in KINDS}
    wrong = [place for place, mark in marks.items() if mark == "wrong"]
    assert len(wrong) * 7 <= len(marks), wrong


DOCS = (Path(__file__).parents[2] / "docs" / "templates.md").read_text(encoding="utf-8")


@needs_spans
@every_family
def test_the_table_in_the_docs(family: Family) -> None:
    assert row(family) in DOCS


def test_the_totals_in_the_docs() -> None:
    table = DOCS.partition("<!-- table -->")[2].partition("<!-- /table -->")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    marks = [mark for line in rows for mark in line.strip("| ").split(" | ")[1:]]
    totals = ", ".join(f"{marks.count(mark)} {mark}" for mark in ("right", "refused", "wrong"))
    assert f"{len(rows)} templates, {len(marks)} cells: {totals}." in DOCS
    assert [line.split(" | ")[0].strip("| ") for line in rows] == [family.label for family in FAMILIES]


@every_family
@pytest.mark.parametrize("shape", ["plain", "tool results"])
def test_an_answer_is_asked_for_with_what_it_is_trained_behind(family: Family, shape: str) -> None:
    found = prompt(family, shape)
    if found is None:
        assert cell(family, shape).refused
    else:
        assert found.given == found.trained
        told = f"| {family.label} | `" in DOCS.partition("## Prompts")[2].partition("## A tok")[0]
        assert told or found.asked == found.trained


@needs_unwritten
@every_family
def test_what_a_template_does_not_write_is_named(family: Family) -> None:
    for shape in ("plain", "earlier thinking", "tools", "tool results", "call with thought"):
        if not expected(family, ALL_SHAPES[shape]).refusal:
            assert unwritten_fields(family, ALL_SHAPES[shape]) == unwritten(family, ALL_SHAPES[shape]), shape


def test_a_field_is_unwritten_where_another_value_gives_the_same_text() -> None:
    assert unwritten(BY_NAME["qwen3"], SHAPES["tools"]) == set()
    assert unwritten(BY_NAME["qwen3"], SHAPES["earlier thinking"]) == {"reasoning_content"}
    assert unwritten(BY_NAME["llama3"], SHAPES["tool results"]) == {"tools", "tool_calls"}
