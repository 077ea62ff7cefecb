"""What ``handpick study`` prints of its steps."""

from collections.abc import Sequence

import typer

from handpick.study.listing import Listed


def show_steps(steps: Sequence[Listed]) -> None:
    """A line a step, and how many of each kind there are."""
    for step in steps:
        typer.echo(f"{'done ' if step.done else 'to do'} {step.name:<28} {step.what}")
    for kind in dict.fromkeys(step.kind for step in steps):
        own = [step for step in steps if step.kind == kind]
        typer.echo(f"{kind}: {sum(step.done for step in own)} of {len(own)} done")
