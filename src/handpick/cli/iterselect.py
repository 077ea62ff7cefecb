"""``handpick iterselect``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from handpick.cli.app import CHOOSE, app
from handpick.cli.errors import report_errors
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.cli.next_steps import quote_path, say_next
from handpick.iterselecttune.settings import ANSWERS, CLASSIFIER, JUDGE, ROUNDS, IterSelectSettings
from handpick.settings.executor import MACHINES

if TYPE_CHECKING:
    from handpick.iterselecttune.run import IterRun

_COUNTS = ("round", "judged", "hard", "easy", "ties", "flipped", "missing")
_FLAGS = flags_of(
    IterSelectSettings,
    style=Style(
        sentences=True,
        descriptions={
            "max_judge_calls": "requests, at most, over all runs of the folder; rounds shrink to it",
            "max_answer_tokens": "tokens of a verdict, at most",
        },
    ),
)


@add_command(
    app,
    *("pool", "model", "judge", "judge_url", "max_judge_calls", "budget", "out", "rounds", "dry_run"),
    rich_help_panel=CHOOSE,
)
@with_flags(settings=_FLAGS, headings=(JUDGE, ROUNDS, ANSWERS, CLASSIFIER, MACHINES))
def iterselect(
    settings: dict[str, Any],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and do nothing.")] = False,
) -> None:
    """Choose what is hard for a model, without a target task (IterSelectTune).

    handpick iterselect --pool alpaca.jsonl --model M --judge JUDGE --judge-url URL --max-judge-calls 4500

    handpick iterselect --pool alpaca.jsonl --model M --judge local:JUDGE --out runs/iter

    handpick iterselect --pool alpaca.jsonl --model M --judge rule:rouge-l --out runs/iter

    It says first how many answers, judge calls and tokens it will take; a cap on calls is never passed. A stopped run
    goes on.
    """
    with report_errors():
        from handpick.iterselecttune.run import PreparedIterSelect
        from handpick.progress import log

        prepared = PreparedIterSelect(IterSelectSettings.from_values(settings))
        for line in prepared.expected.lines():
            log(line)
        if not dry_run:
            _show(prepared.run(), prepared.settings)


def _show(run: "IterRun", settings: IterSelectSettings) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from handpick.iterselecttune.reads import READ_AS
    from handpick.run_place import name_of
    from handpick.terminal import console

    table = Table(
        title="Rounds: what was judged, and how well the classifier tells it on what was held out",
        title_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for heading in (*_COUNTS, "held", "acc.", "prec.", "recall", "AUC"):
        table.add_column(heading, justify="right")
    for line in run.figures:
        counts = [f"{line[name]:,}" for name in _COUNTS]
        held = [
            "–" if line[name] is None else f"{line[name]:.3f}" for name in ("accuracy", "precision", "recall", "auc")
        ]
        table.add_row(*counts, f"{line['held_out']:,}", *held)
    console.print(table)
    console.print(f"the classifier and the embeddings read {READ_AS[settings.reads].words}")
    how = {name: sum(pick.how == name for pick in run.picks) for name in ("judged", "inferred", "easy")}
    console.print(
        f"{len(run.picks):,} chosen: {how['judged']:,} judged hard, {how['inferred']:,} by the classifier and likeness"
        + (f", {how['easy']:,} judged easy, since nothing else was left" if how["easy"] else "")
    )
    calls, whole = run.judging["calls"], run.judging["whole_pool_calls"]
    if whole:
        console.print(f"{calls:,} judge calls; judging the whole pool would take {whole:,}")
    records, explained = (name_of(settings.out, path) for path in (settings.layout.records, settings.layout.explained))
    console.print(f"the choice, and why: {records}, {explained}", soft_wrap=True)
    folder = quote_path(name_of(settings.out, settings.folder))
    say_next(f"handpick report {folder}", f"handpick train --selection {folder}")
