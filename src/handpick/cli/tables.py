"""The tables of what there is to choose from, as the code has them: on the screen and in docs/methods.md."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from handpick.algorithms import ALGORITHMS
from handpick.methods import METHODS, OWN_COMMANDS
from handpick.objectives import OBJECTIVES
from handpick.representations import SCORERS
from handpick.rewards import REWARDS
from handpick.settings.passes import passes_of
from handpick.terminal import console


class _TableEntry(NamedTuple):
    title: str
    headings: Sequence[str]
    rows: list[Sequence[str]]


def _tables() -> list[_TableEntry]:
    methods: list[Sequence[str]] = []
    for name, method in METHODS.items():
        has_sides = SCORERS[method.representation].has_objective
        sides = (method.optimizer, method.objective) if has_sides else ("–", "–")
        summary, made_of = method.summary, (method.representation, *sides, method.algorithm)
        methods.append((name, *made_of, summary, method.source, str(passes_of(name) or "?")))
    gives = {
        "features": "features", "similarity": "a similarity", "scores": "one score an example", "nothing": "–",
    }  # fmt: skip
    representations = [
        (f"{name}:{spec.argument}" if spec.argument else name, spec.summary, gives[spec.output], spec.source)
        for name, spec in SCORERS.items()
    ]
    rewards: list[Sequence[str]] = []
    for name, entry in REWARDS.items():
        argument = f":{entry.argument}" if entry.argument else ""
        rewards.append((name + (argument if entry.needs_argument or not argument else f"[{argument}]"), entry.summary))
    rewards.append(("FILE.py:FUNCTION", "a function of your own: (prompts, completions, records) -> scores"))
    return [
        _TableEntry(
            "Methods, for --method",
            ("method", "representation", "pool side", "query side", "algorithm", "what it chooses", "source", "passes"),
            methods,
        ),
        _TableEntry("Methods that are commands of their own, and none for --method",
                ("command", "what it chooses", "source"),
                [(f"handpick {name}", *entry) for name, entry in OWN_COMMANDS.items()]),
        _TableEntry("Representations, for --representation", ("name", "an example is its", "gives", "source"),
                list(representations)),
        _TableEntry("Objectives of gradients, for --objective", ("name", "what it is", "source"),
                [(name, *entry) for name, entry in OBJECTIVES.items()]),
        _TableEntry("Selection algorithms, for --algorithm", ("name", "what it does", "source"),
                [(name, each.summary, each.source) for name, each in ALGORITHMS.items()]),
        _TableEntry("Rewards, for --reward", ("name", "what it is"), rewards),
    ]  # fmt: skip


def print_tables() -> None:
    """Print the tables, in as few columns as an ordinary terminal has room for."""
    for listed in _tables():
        table = Table(title=listed.title, title_justify="left", title_style="bold", box=None, show_header=False)
        of_methods = "algorithm" in listed.headings
        for no_wrap in (True, True, False) if of_methods else (True, False):
            table.add_column(no_wrap=no_wrap)
        for name, *cells in listed.rows:
            made_of = [] if not of_methods else [_describe_parts(*cells[:4])]
            summary, *sources = cells[4:] if of_methods else [cells[0], *cells[-1:][: len(cells) - 1]]
            if of_methods:
                sources[-1] = f"passes: {sources[-1]}"
            said = f"{summary} ({'; '.join(sources)})" if sources else summary
            table.add_row(Text(name, style="bold"), *map(Text, made_of), Text(said))
        console.print(table)
        console.print()


def _describe_parts(representation: str, pool_side: str, query_side: str, algorithm: str) -> str:
    named = [side for side in (pool_side, query_side) if side not in ("–", "next-token")]
    return f"{' '.join([representation, *named])} × {algorithm}"


def as_markdown() -> str:
    """Render the page docs/methods.md."""
    parts = [
        "# What there is to choose from",
        "Written by `handpick methods --markdown`; a test holds it to the code. Any representation goes with any "
        "algorithm, as long as the algorithm finds what it needs: `--representation` and `--algorithm` overrule a "
        "method's own.",
    ]
    for listed in _tables():
        lines = ["| " + " | ".join(row) + " |" for row in (listed.headings, *listed.rows)]
        lines.insert(1, "|" + "---|" * len(listed.headings))
        parts += [f"## {listed.title}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
