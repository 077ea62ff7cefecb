"""What each method costs in forward passes of the model over the pool, as the tables say."""

from handpick.methods import METHODS
from handpick.representations import SCORERS, Passes, ScorerSpec


def passes_of(method: str) -> Passes | None:
    """Return what a method's rows of the pool cost; None where the table does not say, and the model is needed."""
    return passes_by(SCORERS[METHODS[method].representation])


def passes_by(spec: ScorerSpec) -> Passes | None:
    """Return what the rows of a line of the table cost, as ``passes_of``."""
    return Passes(0) if spec.passes is None and "model" not in spec.needs else spec.passes


def passes_by_method() -> str:
    """Return one line with every method, the cheapest first."""
    by_passes: dict[Passes, list[str]] = {}
    for method in METHODS:
        if (passes := passes_of(method)) is not None:
            by_passes.setdefault(passes, []).append(method)
    ordered = sorted(by_passes, key=lambda passes: (passes.at_checkpoints, passes.number, passes.besides))
    return ", ".join(f"{passes} ({', '.join(by_passes[passes])})" for passes in ordered)
