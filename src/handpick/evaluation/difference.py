"""Two models on the same tests: by how much one is above the other, test by test.

Tests differ from each other far more than two models do on one of them, so the interval of the mean difference is
narrower than those of the two means, and says what they cannot. It is made as theirs are (``estimate.py``).

Legend: R records.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handpick.documents import reading
from handpick.errors import DataError, StoreError
from handpick.evaluation.estimate import Estimate, mean
from handpick.evaluation.metrics import answers_per_prompt, is_likelihood
from handpick.fingerprint import Fingerprint, require_same
from handpick.layout import EvaluationLayout
from handpick.sealed import unseal

_ANEW = "name a folder that `handpick evaluate` wrote, or measure again"
_TOKENS = ("tokenizer", "template", "template_args")
_OF_BOTH = ("dtype", "max_length")
_MAY_DIFFER = ("limit", "subtask_field", "metrics", "rewards")  # of a task; what is common to both is compared
_OF_ANSWERS = ("max_new_tokens", "stop", "samples", "temperature", "top_p", "seed")


@dataclass(frozen=True)
class PairedDifference:
    """A metric of two models, over the records that both have a value of.

    ``difference`` is the mean over examples of the first's value minus the second's, with its 95% interval. ``alone``
    counts the records that only one of them has a value of.
    """

    a: Estimate
    b: Estimate
    difference: Estimate
    alone: int


@dataclass(frozen=True)
class PairedDifferences:
    """Differences by task and metric; ``same_tokens``: whether both models read a text as the same tokens.

    Where they do not, a loss is a mean over other tokens in each, and no smaller one is better for it.
    """

    tasks: dict[str, dict[str, PairedDifference]]
    same_tokens: bool


def compare_evaluations(a: Path, b: Path) -> PairedDifferences:
    """Compare what two models were found to do on the tasks that both were measured on.

    Args:
        a: the folder of an evaluation.
        b: of another, or of another model.

    Raises:
        DataError: they have no task, or no metric of one, in common.
        FingerprintMismatch: a task of one name has other tests, or was measured otherwise.
        StoreError: a file is missing or damaged.
    """
    found = {each: _read_evaluation(EvaluationLayout(each).evaluation) for each in (a, b)}
    made_a, made_b = (found[each]["made_with"] for each in (a, b))
    require_same(
        {name: made_a[name] for name in _OF_BOTH}, {name: made_b[name] for name in _OF_BOTH}, what=f"the evaluation {a}"
    )
    tasks: dict[str, dict[str, PairedDifference]] = {}
    for name, own in found[a]["tasks"].items():
        if name in found[b]["tasks"]:
            lines_a, lines_b = (_read_predictions(EvaluationLayout(each).predictions(name)) for each in (a, b))
            metrics = _common_metrics(lines_a, lines_b)
            of_a, of_b = own["task"], found[b]["tasks"][name]["task"]
            require_same(_compared(of_a, of_b, metrics), _compared(of_b, of_a, metrics), what=f"the task {name} of {a}")
            tasks[name] = {m: each for m in metrics if (each := _difference(m, lines_a, lines_b)) is not None}
            if not tasks[name]:
                raise DataError(
                    f"{a} and {b} have no metric of {name} in common, on any record: measure both by the same"
                )
    if not tasks:
        names = [", ".join(found[each]["tasks"]) for each in (a, b)]
        raise DataError(
            f"{a} and {b} have no task in common: {names[0]}, and {names[1]}; measure both on one, NAME=FILE names it"
        )
    same_tokens = all(made_a.get(name) == made_b.get(name) for name in _TOKENS)
    return PairedDifferences(tasks, same_tokens)


def _compared(task: Mapping[str, Any], other: Mapping[str, Any], metrics: Collection[str]) -> Fingerprint:
    """Return what of a task must be the same in both, where these metrics are compared.

    Of rewards those that both have, a function of one's own by its name.
    """
    rewards, others = (
        {name.partition(" of ")[0]: each for name, each in given["rewards"].items()} for given in (task, other)
    )
    may_differ = _MAY_DIFFER + (_OF_ANSWERS if all(map(is_likelihood, metrics)) else ())
    own = {name: value for name, value in task.items() if name not in may_differ}
    if any(map(answers_per_prompt, metrics)):  # the largest K says how many answers are drawn, and whether they are
        own["pass@K"] = [metric for metric in task["metrics"] if answers_per_prompt(metric)]
    return own | {"rewards": {name: value for name, value in rewards.items() if name in others}}


@dataclass(frozen=True, slots=True)
class _Line:
    example: str
    scores: dict[str, float]
    weights: dict[str, float]


def _common_metrics(a: Mapping[str, _Line], b: Mapping[str, _Line]) -> list[str]:
    """Return the metrics that both have some value of, in the first's order."""
    names_a, names_b = (dict.fromkeys(name for line in lines.values() for name in line.scores) for lines in (a, b))
    return [name for name in names_a if name in names_b]


def _difference(metric: str, a: Mapping[str, _Line], b: Mapping[str, _Line]) -> PairedDifference | None:
    """Return the difference over the records that both have a value of; None where there are none."""
    has_a, has_b = ({id for id, line in lines.items() if metric in line.scores} for lines in (a, b))
    both = has_a & has_b
    common = [id for id in a if id in both]
    if not common:
        return None
    values_a, values_b = ([lines[id].scores[metric] for id in common] for lines in (a, b))
    examples = [a[id].example for id in common]
    weights = [a[id].weights.get(metric, 1.0) for id in common]
    own, other, difference = (
        mean(values, examples, None if set(weights) == {1.0} else weights)
        for values in (values_a, values_b, [x - y for x, y in zip(values_a, values_b, strict=True)])
    )
    return PairedDifference(own, other, difference, len(has_a ^ has_b))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        with reading(path, StoreError, _ANEW):
            yield
    except FileNotFoundError as error:
        raise StoreError(f"there is no {path}: {_ANEW}") from error


def _read_evaluation(path: Path) -> dict[str, Any]:
    with _reading(path):
        found = unseal(json.loads(path.read_text(encoding="utf-8", errors="surrogatepass")))
        return {name: found[name] for name in ("made_with", "tasks")}


def _read_predictions(path: Path) -> dict[str, _Line]:
    """Return the scores of every record by its id."""
    with _reading(path), path.open(encoding="utf-8", errors="surrogatepass", newline="\n") as lines:
        records = map(json.loads, lines)
        return {each["id"]: _Line(each["example"], each["scores"], each.get("weights", {})) for each in records}
