"""What ``handpick study`` prints of its steps."""

from collections.abc import Mapping, Sequence

from handpick.studies.cells import CellKey
from handpick.studies.listing import UNNAMED, ListedStep, what_of
from handpick.terminal import say


def show_steps(steps: Sequence[ListedStep], reasons: Mapping[CellKey, str]) -> None:
    """Show a line per step, how many of each kind there are, and why which cells will fail."""
    for step in steps:
        say(f"{'done ' if step.done else 'to do'} {step.name:<28} {step.what}")
    for kind in dict.fromkeys(step.kind for step in steps):
        own = [step for step in steps if step.kind == kind]
        say(f"{kind}: {sum(step.done for step in own)} of {len(own)} done")
    if any(step.name == UNNAMED for step in steps):
        say(f"what is measured of a training that is {UNNAMED} is not listed yet")
    for reason in dict.fromkeys(reasons.values()):
        places = [place for place, why in reasons.items() if why == reason]
        more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
        say(f"will fail: {what_of(places[0])}{more}: {reason}")
