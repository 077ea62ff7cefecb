"""What a person should look at before they believe a judge and the classifier that learnt from it."""

from handpick.reporting.iterated import Iterated
from handpick.reporting.page import number, percent
from handpick.reporting.thresholds import Check, Thresholds


def checks_of_rounds(iterated: Iterated, limits: Thresholds) -> list[Check]:
    """The checks that a selection by ``handpick iterselect`` has besides those of every selection."""
    return [
        _verdicts(iterated, limits),
        _flipped(iterated, limits),
        _one_kind(iterated, limits),
        _classifier(iterated, limits),
    ]


def _verdicts(iterated: Iterated, limits: Thresholds) -> Check:
    name, limit = "Examples without a verdict", limits.no_verdict
    missing, judged = sum(each.missing for each in iterated.rounds), _with_verdict(iterated)
    if not missing + judged:
        return Check(name, "open", "The folder tells of no example that was judged.")
    share = missing / (missing + judged)
    said = f"{missing:,} of {missing + judged:,} examples ({percent(share)}) were given no verdict"
    if share >= limit:
        return Check(
            name,
            "warn",
            f"{said}; {limit:.0%} or more is warned about. They are neither hard nor easy: look at what the judge "
            "answered in verdicts, and whether a cap or its server stopped it.",
        )
    return Check(name, "fine", f"{said}; less than {limit:.0%}.")


def _flipped(iterated: Iterated, limits: Thresholds) -> Check:
    name, limit = "Verdicts that turn with the order", limits.flipped
    judged = _with_verdict(iterated)
    if iterated.by_rule or iterated.settings.get("verdict") == "pointwise":
        return Check(name, "open", "Answers were not held side by side, so that no order could turn a verdict.")
    if not judged:
        return Check(name, "open", "There is no verdict.")
    flipped = sum(each.flipped for each in iterated.rounds)
    said = f"{flipped:,} of {judged:,} verdicts ({percent(flipped / judged)}) named the other answer in the other order"
    if flipped / judged >= limit:
        return Check(
            name,
            "warn",
            f"{said}; {limit:.0%} or more is warned about. They count as easy. A judge that goes by the place of an "
            "answer says little about it: try another judge, or another prompt.",
        )
    return Check(name, "fine", f"{said}, and count as easy; less than {limit:.0%}.")


def _one_kind(iterated: Iterated, limits: Thresholds) -> Check:
    name, limit = "Hard and easy", limits.one_kind
    judged = _with_verdict(iterated)
    if not judged:
        return Check(name, "open", "There is no verdict.")
    share = sum(each.hard for each in iterated.rounds) / judged
    said = f"{percent(share)} of the {judged:,} examples with a verdict are hard"
    if not 1 - limit < share < limit:
        return Check(
            name,
            "warn",
            f"{said}; {1 - limit:.0%} or less and {limit:.0%} or more are warned about. The classifier has hardly "
            "seen the other kind, and learns little more than to say this one.",
        )
    return Check(name, "fine", f"{said}, between {1 - limit:.0%} and {limit:.0%}.")


def _classifier(iterated: Iterated, limits: Thresholds) -> Check:
    name, limit = "The last classifier", limits.auc
    last = iterated.rounds[-1] if iterated.rounds else None
    if last is None or last.auc is None:
        return Check(name, "open", "Not measured: it needs both hard and easy examples among those held out.")
    said = f"On {last.held_out:,} held-out examples it has an AUC of {number(last.auc, 3)}, where chance has 0.5"
    if last.auc < limit:
        return Check(
            name,
            "warn",
            f"{said}; less than {limit:g} is warned about. It hardly tells hard from easy, so what was inferred is "
            "chosen by likeness to hard examples alone: judge more a round, or set --alpha lower.",
        )
    return Check(name, "fine", f"{said}; {limit:g} or more.")


def _with_verdict(iterated: Iterated) -> int:
    return sum(each.hard + each.easy for each in iterated.rounds)
