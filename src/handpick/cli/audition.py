"""``handpick audition``."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handpick.auditions.settings import AuditionSettings
from handpick.cli.app import AUDITION_FLAGS, CHOOSE, SELECT, app
from handpick.cli.errors import report_errors
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.settings import Settings

if TYPE_CHECKING:
    from handpick.auditions.plan import AuditionPlan
    from handpick.auditions.run import Audition

_EACH_ITS_OWN = ("method", "representation", "algorithm", "store", "score_only")
_FLAGS = flags_of(Settings, SELECT, leave_out=_EACH_ITS_OWN, style=Style(heading="What a run has"))


@add_command(
    app,
    *("methods", "metric", "time_limit", "if_none", "pool", "query", "model", "budget", "out", "max_length"),
    "dry_run",
    rich_help_panel=CHOOSE,
)
@with_flags(audition=AUDITION_FLAGS, settings=_FLAGS)
def audition(
    audition: dict[str, Any],
    settings: dict[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which rounds, and what they take; train none.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    probe: Annotated[
        float, typer.Option(help="Seconds to compute for, to see how fast this machine is.", min=1)
    ] = 20.0,
) -> None:
    """Find out by your own queries which way to choose helps.

    Candidates choose by half of the queries, the other half judges them.

    handpick audition --methods bm25,rds+,less-rr --pool pool.jsonl --query q.jsonl --model MODEL --out runs/q

    `handpick select --method auto` with the same flags goes on from it to the choice. A run that is stopped goes on.
    """
    with report_errors():
        from handpick.auditions.run import PreparedAudition

        prepared = PreparedAudition(settings, AuditionSettings.from_values(audition))
        if dry_run:
            show_planned(prepared.plan(probe, keep=False), as_json=as_json)
            return
        found = prepared.run(probe)
        typer.echo(json.dumps(found.to_json(), indent=1)) if as_json else show_audition(found)


def show_planned(plan: "AuditionPlan", *, as_json: bool) -> None:
    """Show the candidates, the rounds and what they take."""
    if as_json:
        typer.echo(json.dumps(plan.to_json(), indent=1))
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from handpick.durations import format_duration
    from handpick.terminal import console

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("candidate", "a choice takes"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    for name, cost in plan.candidates.items():
        table.add_row(Text(name), format_duration(cost.choice))
    console.print(table)
    for number, (round_, seconds) in enumerate(zip(plan.rounds, plan.training_s, strict=True), 1):
        trainings = f"{round_.trainings_of(plan.targets):,} trainings of {format_duration(seconds)}"
        console.print(
            f"round {number}: {round_.candidates} candidates and {round_.draws} random draws, "
            f"{round_.examples:,} examples each; {trainings}",
            soft_wrap=True,
        )
    for name, why in plan.left_out.items():
        console.print(Text(f"left out: {name}: {why}"), soft_wrap=True)
    console.print(f"all, and the choice after it: about {format_duration(plan.seconds)}", style="bold")


def show_audition(found: "Audition") -> None:
    """Show each round's candidates with their intervals, and who is taken."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from handpick.durations import format_duration
    from handpick.layout import AuditionLayout
    from handpick.terminal import console

    for number, result in enumerate(found.rounds, 1):
        round_ = result.round
        table = Table(
            title=f"Round {number}: {round_.examples:,} examples each; gain over random in {result.metric} on "
            f"{result.queries:,} queries",
            title_justify="left",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        for heading in ("candidate", result.metric, "gain", "its interval", "takes", ""):
            table.add_column(heading, justify="left" if heading in ("candidate", "") else "right", no_wrap=True)
        for line in result.lines:
            gain = line.gain
            went = "stays" if number < len(found.rounds) and line.candidate in result.kept else ""
            took = "taken" if number == len(found.rounds) and line.candidate == found.decision.winner else went
            table.add_row(
                Text(line.candidate), f"{line.value:.3g}", f"{gain.mean:+.3g}", f"{gain.low:+.3g} to {gain.high:+.3g}",
                format_duration(found.plan.candidates[line.candidate].choice), took,
            )  # fmt: skip
        if result.lines:
            table.add_row(f"random, {round_.draws} draws", f"{result.lines[0].random:.3g}", "", "", "", "")
        console.print(table)
        for name, why in result.failed.items():
            console.print(Text(f"failed: {name}: {why}"), soft_wrap=True)
    for each in found.hazards:
        console.print(Text(f"look out: {each}"), soft_wrap=True)
    console.print(Text(found.decision.why, style="bold"), soft_wrap=True)
    console.print(Text(f"the rounds, for machines: {AuditionLayout(found.folder).record}"), soft_wrap=True)
