"""What a person sees of a plan."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from handpick.planning import Amount, Plan, StageCost

console = Console(highlight=False)


def show_plan(plan: Plan) -> None:
    """Show one line per stage, the total, how it was estimated, and what would be cheaper."""
    table = Table(box=None, pad_edge=False)
    for heading in ("stage", "examples", "tokens", "FLOPs", "disk", "memory", "time", "range"):
        named = heading == "stage"
        table.add_column(heading, justify="left" if named else "right", no_wrap=not named, overflow="fold")
    for stage in plan.stages:
        table.add_row(*_cells(stage))
    table.add_row(*_cells(plan.total), style="bold")
    console.print(table)
    for stage in plan.stages:
        if stage.note:
            console.print(Text(f"{stage.name}: {stage.note}"), soft_wrap=True)
    for line in plan.notes:
        console.print(Text(line), soft_wrap=True)
    for line in plan.cheaper:
        console.print(Text(f"cheaper: {line}"), soft_wrap=True)


def _cells(stage: StageCost) -> tuple[str, ...]:
    return (
        stage.name.replace(", checkpoint", ""),
        "" if stage.examples is None else f"{stage.examples:,}",
        "" if stage.tokens is None else format_scaled(stage.tokens.value),
        "" if stage.flops is None else format_scaled(stage.flops),
        format_bytes(stage.disk) if stage.disk else "",
        "" if stage.memory is None else format_bytes(stage.memory),
        "there" if stage.there else "" if stage.seconds is None else format_duration(stage.seconds.value),
        "" if stage.seconds is None else _format_range(stage.seconds),
    )


def _format_range(amount: Amount) -> str:
    """Format how far the 95% interval goes to either side, in percent."""
    if amount.is_exact or not amount.value:
        return ""
    return f"{100 * (amount.low / amount.value - 1):+.0f} {100 * (amount.high / amount.value - 1):+.0f}%"


def format_scaled(number: float) -> str:
    """Format a number as 1.2k, 3.4M, 5.6G, 7.8T, 9.0P, 1.2E."""
    for suffix in ("", "k", "M", "G", "T", "P"):
        if abs(number) < 999.5:
            return f"{number:.0f}" if not suffix else f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g}E"


def format_bytes(number: float) -> str:
    """Format bytes in powers of 1000, as disks are sold."""
    return f"{format_scaled(number)}B"


def format_duration(seconds: float) -> str:
    """Format seconds as 4.2 s, 3 min 20 s, 5 h 10 min, 3 d 4 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    for limit, large, small, unit in ((3600, 60, 1, "min/s"), (86400, 3600, 60, "h/min")):
        if seconds < limit:
            first, second = unit.split("/")
            return f"{int(seconds // large)} {first} {int(seconds % large // small)} {second}"
    return f"{int(seconds // 86400)} d {int(seconds % 86400 // 3600)} h"
