"""``handpick look``: what is in a pool, before anything is chosen from it."""

from pathlib import Path
from typing import Any

from handpick.cli.app import BEFORE, app
from handpick.cli.errors import report_errors
from handpick.cli.first_screen import add_command
from handpick.cli.flags_from_settings import Style, flags_of, with_flags
from handpick.overview.settings import LookSettings
from handpick.terminal import say


@add_command(
    app, *("pool", "query", "model", "out", "all", "max_length", "seed", "cache", "columns"), rich_help_panel=BEFORE
)
@with_flags(settings=flags_of(LookSettings, style=Style(sentences=True)))
def look(settings: dict[str, Any]) -> None:
    """Show what is in a pool, and what would be set aside or lost.

    handpick look --pool pool.jsonl.gz

    handpick look --pool pool.jsonl.gz --query gsm8k_dev.jsonl.gz --model MODEL --out look.html

    Formats, sources, roles, fields, characters and repetitions are counted over all records, in seconds for a million.
    Languages, and with --model tokens, loss and what the chat template does not write, are found on a sample of 20,000,
    with 95% intervals; --all looks at every record.
    """
    with report_errors():
        from handpick.cli.show_overview import show_overview
        from handpick.overview.look import run_look

        chosen = LookSettings.from_values(settings)
        found = run_look(chosen)
        show_overview(found)
        if chosen.out is not None:
            from handpick.reporting.overview import write_overview_page

            say(f"the same on one page, for a browser: {write_overview_page(found, Path(chosen.out))}")
