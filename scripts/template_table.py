"""Print the table of chat templates and conversation shapes as Markdown: ``python scripts/template_table.py``.

A cell says what the renderer makes of the shape under the family's template, held to what ``tests/data/chat_templates``
has written down by hand: right, refused (the template raises, or leaves the answer out), or wrong. Templates that are
not in the installed trl are read from the folder that ``scripts/chat_templates.py`` wrote and HANDPICK_TEMPLATES names.
"""

import argparse
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tests.data.chat_shapes import ALL_SHAPES, KINDS  # noqa: E402
from tests.data.template_table import cell, here, kind_mark  # noqa: E402


def main() -> None:
    """Print the table, and with ``--why`` what is wrong in each wrong cell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--why", action="store_true", help="say below the table what is wrong in each wrong cell")
    why = parser.parse_args().why
    families = here()
    rows = {family: [kind_mark(family, kind) for kind in KINDS] for family in families}
    print("| family |", " | ".join(KINDS), "|")
    print("|---|" + "---|" * len(KINDS))
    for family, marks in rows.items():
        print(f"| {family.label} |", " | ".join(marks), "|")
    cells = [mark for marks in rows.values() for mark in marks]
    print(f"\n{len(families)} templates, {len(cells)} cells:", end=" ")
    print(", ".join(f"{cells.count(mark)} {mark}" for mark in ("right", "refused", "wrong")) + ".")
    for family in families if why else ():
        for shape in ALL_SHAPES:
            if said := cell(family, shape).wrong:
                print(f"- {family.label}, {shape}: {said}")


if __name__ == "__main__":
    main()
