"""``handpick study``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from handpick.cli.app import TRAIN, app
from handpick.cli.errors import report_errors
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.cli.next_steps import quote_path, say_next
from handpick.settings.executor import CellExecutorSettings
from handpick.terminal import say

_WHO = flags_of(CellExecutorSettings, style=Style(sentences=True))


@app.command(rich_help_panel=TRAIN)
@with_flags(who=_WHO)
def study(
    config: Annotated[Path, typer.Argument(help="A YAML file: pool, models, targets, methods, budgets, seeds.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the steps, done and to do, and do none.")] = False,
    *,
    who: dict[str, Any],
) -> None:
    """Train on what each method chooses and measure it, against random draws.

    handpick study study.yaml --workers 2

    Writes results.json after every fine-tuning. A cell that fails says why, and the others go on; the command then
    exits with 1. A run that is stopped goes on.
    """
    failed = 0
    with report_errors():
        from handpick.cli.show_study import show_steps
        from handpick.layout import StudyLayout
        from handpick.run_place import name_of
        from handpick.studies.run import plan_steps, run_study
        from handpick.studies.settings import StudySettings
        from handpick.studies.summary import show_results

        settings = StudySettings.from_yaml(config, who)
        if dry_run:
            show_steps(*plan_steps(settings))
        else:
            results = run_study(settings)
            failed = sum(cell.status == "failed" for cell in results.cells)
            show_results(results)
            done = sum(cell.status == "done" for cell in results.cells)
            where = name_of(settings.place, StudyLayout(settings.folder).results)
            say(f"{done} of {len(results.cells)} cells done, {failed} failed: {where}")
            say_next(f"handpick report {quote_path(name_of(settings.place, settings.folder))}")
    if failed:
        raise typer.Exit(1)
