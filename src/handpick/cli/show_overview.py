"""What a person sees of ``handpick look`` in a terminal."""

from rich.table import Table
from rich.text import Text

from handpick.overview.look import Overview
from handpick.reporting.overview_tables import OverviewTable, how_sampled, tables_of
from handpick.terminal import console

_ROWS = 12  # of a table
_NAME = 50  # characters of a name


def show_overview(found: Overview) -> None:
    """Show every table, and what was looked at one by one."""
    for table in tables_of(found):
        console.print(_as_table(table))
        console.print()
    console.print(Text(f"Languages: {how_sampled(found)}.", style="dim"), soft_wrap=True)
    for name, side in found.sides.items():
        took = f"{side.parsing:.1f} s to read, {side.looking:.1f} s to count all"
        console.print(Text(f"{name}: {took}, {side.sampling:.1f} s for what is looked at one by one", style="dim"))


def _as_table(found: OverviewTable) -> Table:
    table = Table(title=found.title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, heading in enumerate(found.headings):
        is_text = place in found.is_text
        is_name = place == 0
        table.add_column(
            heading,
            justify="left" if is_text else "right",
            no_wrap=is_name or (not is_text and any(" " in row[place] for row in found.rows)),  # else headings alone
            overflow="ellipsis" if is_name else "fold",
            max_width=_NAME if is_name else None,
            header_style="dim",
        )
    shown, others = found.head(_ROWS)
    for row in shown:
        table.add_row(*map(Text, row))
    if others:
        table.add_row(Text(f"{others:,} others", style="dim"))
    return table
