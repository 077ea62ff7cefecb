"""The named methods, each a product of a representation (representations.py), an objective
(objectives/) and a selection algorithm, as its paper has it."""

from dataclasses import dataclass
from difflib import get_close_matches

from handpick.choices import Entry, ObjectiveName, Optimizer, look_up
from handpick.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Method:
    """One line of the table.

    ``optimizer`` (the pool side's) and ``objective`` (the query side's) are the gradient representations' alone.
    """

    representation: str
    algorithm: str
    summary: str
    source: str
    optimizer: Optimizer = "adam"
    objective: ObjectiveName = "next-token"


METHODS: dict[str, Method] = {
    "less-rr": Method(
        "gradient", "round-robin", "Adam-preconditioned LoRA gradients, queries take turns", "TIS, arXiv 2602.14696"
    ),
    "less": Method(
        "gradient", "mean-max", "the same, best mean over a subtask", "LESS, arXiv 2402.04333"
    ),
    "less-uot": Method("gradient", "uot", "the same, by unbalanced optimal transport", "TIS, arXiv 2602.14696"),
    "rose": Method(
        "gradient", "mean-max", "as less, for what is preferred: queries are pairs", "ROSE, arXiv 2412.00631",
        objective="preference",
    ),
    "nice": Method(
        "gradient", "mean-max", "as less, for what is rewarded: queries need no answers", "NICE, ICML 2025",
        objective="reward",
    ),
    "gradient-rr": Method("gradient", "round-robin", "plain LoRA gradients, queries take turns", "ours", "sgd"),
    "whitened-rr": Method("whitened", "round-robin", "as less-rr, whitened by the pool's covariance", "ours"),
    "gist": Method(
        "gist", "doubly-greedy", "nearness to a subtask's mean gradient, in the queries' subspace",
        "GIST, arXiv 2602.18584", "sgd",
    ),
    "landmarks": Method(
        "landmarks", "round-robin", "as less-rr: exact for a few, from which all others follow by cheap features",
        "Influence Distillation, arXiv 2505.19051",
    ),
    "tacs": Method(
        "tacs", "round-robin", "what gets easier once the model has learnt the queries, most first",
        "TACS, arXiv 2605.09404",
    ),
    "rds+": Method(
        "rds+", "round-robin", "hidden states, queries take turns", "Ivison et al., arXiv 2503.01807"
    ),
    "whitened-rds-rr": Method("whitened-rds+", "round-robin", "as rds+, whitened by the pool's second moment", "ours"),
    "embed": Method("embed", "round-robin", "sentence embeddings, queries take turns", "TIS, arXiv 2602.14696"),
    "tsds": Method(
        "embed", "knn-kde", "near the queries and not all in one place", "TSDS, arXiv 2410.11303"
    ),
    "tsds-uniform": Method(
        "embed", "knn-uniform", "the nearest of each query, the same for each", "TSDS, arXiv 2410.11303"
    ),
    "bm25": Method("bm25", "round-robin", "shared words, queries take turns", "classic"),
    "dsir": Method("dsir", "importance", "drawn by n-gram importance weight", "DSIR, arXiv 2302.03169"),
    "perplexity": Method(
        "perplexity", "doubly-greedy", "what the model finds least likely", "Yin and Rush, arXiv 2410.16208"
    ),
    "ifd": Method("ifd", "doubly-greedy", "where the prompt helps the model least", "Li et al., arXiv 2308.12032"),
    "longest": Method("length", "doubly-greedy", "the longest responses", "Zhao et al., arXiv 2402.04833"),
    "random": Method("none", "random", "a uniform draw, the baseline of every study", "baseline"),
}  # fmt: skip


ITERSELECT = "iterselect"
AUTO = "auto"

# no product of a representation and an algorithm, and so no preset of `select`: each is the command of its name
OWN_COMMANDS: dict[str, Entry] = {
    ITERSELECT: Entry(
        "what the base model answers worse than the reference, by a judge and a classifier",
        "IterSelectTune, arXiv 2410.13464",
    ),
    "audition": Entry(
        "which of several methods helps, by the queries themselves; `select --method auto` takes it", "ours"
    ),
}


def find_method(name: str) -> Method:
    """Return the table's entry of that name.

    Raises:
        SettingsError: there is none; the message lists those there are, or names the command that the method has.
    """
    if name == AUTO:
        raise SettingsError("auto is found by an audition: it is a method of `handpick select` alone")
    if name not in METHODS:
        for own in get_close_matches(name.lower(), OWN_COMMANDS, n=1, cutoff=0.8):
            raise SettingsError(f"{own} is no method for --method but a command of its own: run `handpick {own}`")
    return look_up(METHODS, name, "method")
