"""The named methods: each a representation, an objective and a selection algorithm, as its paper has it."""

from dataclasses import dataclass

from handpick.choices import Optimizer, look_up


@dataclass(frozen=True, slots=True)
class Method:
    """One line of the table. ``optimizer`` is the pool side's; None where no features are needed at all."""

    optimizer: Optimizer | None
    algorithm: str
    summary: str
    source: str


METHODS: dict[str, Method] = {
    "less-rr": Method(
        "adam", "round-robin", "Adam-preconditioned LoRA gradients, queries take turns", "TIS, arXiv 2602.14696"
    ),
    "less": Method(
        "adam", "mean-max", "Adam-preconditioned LoRA gradients, best mean over a subtask", "LESS, arXiv 2402.04333"
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
