"""What a person sees of a plan."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from handpick.durations import format_duration
from handpick.magnitudes import format_bytes, format_scaled
from handpick.planning import Amount, DeviceBill, MethodBill, MethodComparison, Plan, StageCost, TrainingBill
from handpick.terminal import console


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


def show_comparison(comparison: MethodComparison) -> None:
    """Show a line a method, the quickest first; the training below them; then who cannot be run, and why."""
    training, price = comparison.training, comparison.price_per_hour
    is_known = not isinstance(training, str)
    table = Table(box=None, pad_edge=False)
    headings = [
        "method",
        "time",
        *(["÷ training", "passes"] if is_known else []),
        *([] if price is None else ["money"]),
    ]
    for heading in (*headings, "disk", "memory"):
        table.add_column(heading, justify="left" if heading == "method" else "right", no_wrap=True)
    for bill in comparison.bills:
        cells = [bill.method, ("≥ " if bill.left_out else "") + format_duration(bill.seconds.value)]
        if is_known:
            cells += [_format_ratio(bill.ratio), "–" if bill.passes is None else f"{bill.passes:.1f}"]
        cells += [] if price is None else [_format_money(bill.money)]
        table.add_row(*cells, format_bytes(bill.disk), "" if bill.memory is None else format_bytes(bill.memory))
    if not isinstance(training, str):
        table.add_section()
        for n in dict.fromkeys((training.examples, comparison.chosen)):
            seconds = training.seconds.value * n / training.examples
            cells = [f"train on {n:,}", format_duration(seconds), _format_ratio(n / training.examples)]
            cells += [f"{training.passes(training.flops) * n / training.examples:.1f}"]
            table.add_row(*cells, *([] if price is None else [_format_money(seconds / 3600 * price)]), style="bold")
    console.print(table)
    for bill in comparison.bills:
        for line in bill.left_out:
            console.print(Text(f"{bill.method}, at least: {line}"), soft_wrap=True)
    _show_training(training)
    for line in comparison.notes:
        console.print(Text(line), soft_wrap=True)
    if comparison.refused:
        console.print(Text("not with these settings:"))
    for method, reason in comparison.refused.items():
        console.print(Text(f"  {method}: {reason}"), soft_wrap=True)


def show_devices(bills: Sequence[DeviceBill]) -> None:
    """Show a line a number of devices: the time, what of it the driver works alone, and what all are held for."""
    if not bills:
        return
    has_price = bills[0].money is not None
    table = Table(box=None, pad_edge=False)
    for heading in ("devices", "time", "driver alone", "device hours", *(["money"] if has_price else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for bill in bills:
        cells = [f"{bill.devices:,}", format_duration(bill.seconds.value), format_duration(bill.alone)]
        cells += [f"{bill.device_hours:,.1f}", *([_format_money(bill.money)] if has_price else [])]
        table.add_row(*cells)
    console.print(table)
    console.print(
        Text(
            "devices: each as fast as the one of this plan, whole shards, all held from beginning to end; loading the "
            "model in each is left out"
        ),
        soft_wrap=True,
    )


def show_beside_training(bill: MethodBill, training: TrainingBill | str) -> None:
    """Show what a selection takes beside the training that it is for."""
    if bill.money is not None:
        console.print(Text(f"money: {_format_money(bill.money)}"), soft_wrap=True)
    if not isinstance(training, str):
        took = f"{format_duration(bill.seconds.value)} ÷ {format_duration(training.seconds.value)}"
        at_least = "at least " if bill.left_out else ""
        lost = ": the selection has lost" if bill.ratio is not None and bill.ratio > 1 else ""
        console.print(
            Text(
                f"time to select ÷ time to train on all {training.examples:,} usable: {at_least}"
                f"{_format_ratio(bill.ratio)} ({took}){lost}"
            ),
            soft_wrap=True,
        )
    _show_training(training)


def _show_training(training: TrainingBill | str) -> None:
    lines = [training] if isinstance(training, str) else [training.how, training.rule]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _format_ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}" if ratio >= 0.001 else "< 0.001"


def _format_money(money: float | None) -> str:
    return "" if money is None else f"{money:,.2f}" if money >= 0.01 or money == 0 else "< 0.01"


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
