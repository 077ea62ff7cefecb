"""``handpick report``: one HTML file of a selection, of two, of a study, or of published numbers."""

from typing import Annotated

import typer

from handpick.cli.app import LOOK, app, out_folder
from handpick.cli.errors import report_errors
from handpick.terminal import say


@app.command(rich_help_panel=LOOK)
def report(
    folder: Annotated[
        str, typer.Argument(help="The folder of a selection or of a study; with --published, of the numbers.")
    ],
    other: Annotated[
        str | None, typer.Argument(help="The folder of another selection, to lay beside the first.")
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(help="Of a selection: a test set to hold the picks against; several.", metavar="FILE"),
    ] = None,
    published: Annotated[
        str | None, typer.Option(help="The folder holds published numbers in this shape: tis.", metavar="SHAPE")
    ] = None,
    out: Annotated[
        str | None, typer.Option(help="Of published numbers or two selections: the folder to write to.", metavar="DIR")
    ] = None,
) -> None:
    """Write one HTML page: what was chosen and why, two selections beside each other, or what a study found.

    handpick report runs/gsm8k

    Plots stand beside it in report/, as PNG and CSV.
    """
    with report_errors():
        from handpick.reporting.write import write_report
        from handpick.run_place import name_of

        place = None if out is None else out_folder(out)
        page = write_report(folder, other, tests=test or [], published=published, out=place)
        say(name_of(folder, page) if place is None else page)
