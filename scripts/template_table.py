"""Print the tables of chat templates as Markdown: ``python scripts/template_table.py [--learnt | --prompts]``.

A cell says what the renderer makes of the shape under the family's template, held to what ``tests/data/chat_templates``
has written down by hand: right, refused (the template raises, or leaves the answer out), or wrong. Templates that are
not in the installed trl are read from the folder that ``scripts/chat_templates.py`` wrote and HANDPICK_TEMPLATES names.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tests.data.chat_shapes import ALL_SHAPES, KINDS, MORE_CALLS, SHAPES  # noqa: E402
from tests.data.chat_templates.families import Family  # noqa: E402
from tests.data.chat_templates.oracle import expected, unwritten  # noqa: E402
from tests.data.template_table import Prompt, cell, here, kind_mark, prompt, row  # noqa: E402

THOUGHTS = "reasoning_content"
FIELDS = {"tools": "tools", "tool_calls": "calls", THOUGHTS: "thoughts"}


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--learnt", action="store_true", help="what each template lets be learnt, whatever renders it")
    parser.add_argument(
        "--prompts", action="store_true", help="prompts that differ from what answers are trained behind"
    )
    parser.add_argument("--why", action="store_true", help="say below the table what is wrong in each wrong cell")
    flags = parser.parse_args()
    if flags.learnt:
        print_learnt()
    elif flags.prompts:
        print_prompts()
    else:
        print_outcomes(flags.why)


def print_outcomes(why: bool) -> None:
    """Print what the renderer makes of each shape under each template."""
    families = here()
    rows = {family: [kind_mark(family, kind) for kind in KINDS] for family in families}
    print("| family |", " | ".join(KINDS), "|")
    print("|---|" + "---|" * len(KINDS))
    for family in families:
        print(row(family))
    cells = [mark for marks in rows.values() for mark in marks]
    print(f"\n{len(families)} templates, {len(cells)} cells:", end=" ")
    print(", ".join(f"{cells.count(mark)} {mark}" for mark in ("right", "refused", "wrong")) + ".")
    for family in families if why else ():
        for shape in ALL_SHAPES:
            if said := cell(family, shape).wrong:
                print(f"- {family.label}, {shape}: {said}")


def print_learnt() -> None:
    """Print what is learnt of a plain answer, what each template raises for and what it never writes."""
    print("| family | learnt of the answer `Everest, clearly.` | raises for | never writes |")
    print("|---|---|---|---|")
    for family in here():
        print(f"| {family.label} | {learnt_plainly(family)} | {raised(family)} | {never_written(family)} |")


def print_prompts() -> None:
    """Print the templates whose own generation prompt is another text than the one their answers are trained behind."""
    prompts = {family: (prompt(family, "plain"), prompt(family, "tool results")) for family in here()}
    print(
        "| family | its generation prompt | answers are trained behind, and handpick asks with | behind a result too |"
    )
    print("|---|---|---|---|")
    for family, (plain, result) in prompts.items():
        shown = plain if differs(plain) else result
        if shown and differs(shown):
            both = "" if result is None else "yes" if differs(plain) and differs(result) else "no" if plain else "alone"
            print(f"| {family.label} | {code(shown.asked)} | {code(shown.trained)} | {both} |")
    for when, differing in (("by itself", differs), ("as handpick asks", is_given_otherwise)):
        counts = [sum(map(differing, column)) for column in zip(*prompts.values(), strict=True)]
        print(
            f"\n{when}: {counts[0]} of {len(prompts)} differ for a question, {counts[1]} behind a tool's result", end=""
        )
    print()


def differs(asked: Prompt | None) -> bool:
    """Return whether a template's own generation prompt is not what its answers are trained behind."""
    return asked is not None and asked.asked != asked.trained


def is_given_otherwise(asked: Prompt | None) -> bool:
    """Return whether handpick's prompt is not what answers are trained behind."""
    return asked is not None and asked.given != asked.trained


def code(text: str) -> str:
    """Return a text as Markdown's code in a table."""
    return f"`{repr(text)[1:-1]}`".replace("|", "\\|") if text else ""


def learnt_plainly(family: Family) -> str:
    """Return what is learnt of one answer; what is appended behind the template's text stands behind a plus."""
    shape = "plain" if not expected(family, ALL_SHAPES["plain"]).refusal else "tool results"
    wanted = expected(family, ALL_SHAPES[shape])
    texts = wanted.learnt[-1:] if shape != "plain" else wanted.learnt
    return (" + " if wanted.appended else " … ").join(f"`{repr(text)[1:-1]}`" for text in texts).replace("|", "\\|")


def raised(family: Family) -> str:
    """Return the shapes of the table that a template raises for."""
    shapes = [shape for shapes in KINDS.values() for shape in shapes if expected(family, ALL_SHAPES[shape]).refusal]
    return "all without tools" if "plain" in shapes else ", ".join(shapes)


def never_written(family: Family) -> str:
    """Return what a template writes into no training text, whatever the conversation."""
    call, system = MORE_CALLS["call with thought"], SHAPES["system"]
    with_thought = [
        {**call, "messages": call["messages"][:2]},
        {"messages": [call["messages"][0], SHAPES["earlier thinking"]["messages"][-1]]},
    ]
    lost = [unwritten(family, record) for record in with_thought if not expected(family, record).refusal]
    never = [label for name, label in FIELDS.items() if name in lost[0] and (name in lost[-1] or name != THOUGHTS)]
    if not expected(family, system).refusal and "tersely" not in expected(family, system).text:
        never.append("system turns")
    return ", ".join(never)


if __name__ == "__main__":
    main()
