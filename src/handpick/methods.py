"""The named methods: each a representation, an objective and a selection algorithm, as its paper has it."""

from dataclasses import dataclass

from handpick.choices import ObjectiveName, Optimizer, look_up


@dataclass(frozen=True, slots=True)
class Method:
    """One line of the table.

    ``optimizer`` is the pool side's, None where no features are needed at all; ``objective`` is the query side's.
    """

    optimizer: Optimizer | None
    algorithm: str
    summary: str
    source: str
    objective: ObjectiveName = "next-token"


METHODS: dict[str, Method] = {
    "less-rr": Method(
        "adam", "round-robin", "Adam-preconditioned LoRA gradients, queries take turns", "TIS, arXiv 2602.14696"
    ),
    "less": Method(
        "adam", "mean-max", "Adam-preconditioned LoRA gradients, best mean over a subtask", "LESS, arXiv 2402.04333"
    ),
    "rose": Method(
        "adam", "mean-max", "as less, for what is preferred: queries are pairs", "ROSE, arXiv 2412.00631", "preference"
    ),
    "nice": Method(
        "adam", "mean-max", "as less, for what is rewarded: queries need no answers", "NICE, ICML 2025", "reward"
    ),
    "gradient-rr": Method("sgd", "round-robin", "plain LoRA gradients, queries take turns", "ours"),
    "random": Method(None, "random", "a uniform draw, the baseline of every study", "baseline"),
}


def find_method(name: str) -> Method:
    """The table's entry of that name.

    Raises:
        SettingsError: there is none; the message lists those there are.
    """
    return look_up(METHODS, name, "method")
