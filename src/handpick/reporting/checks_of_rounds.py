"""What a person should look at before they believe a judge and the classifier that learnt from it."""

from handpick.reporting.iterated import Iterated
from handpick.reporting.page import number, percent
from handpick.reporting.thresholds import SelectionCheck, Thresholds, conclude


def checks_of_rounds(iterated: Iterated, limits: Thresholds) -> list[SelectionCheck]:
    """Run the checks that a selection by ``handpick iterselect`` has besides those of every selection."""
    return [
        _check_verdicts(iterated, limits),
        _check_flipped(iterated, limits),
        _check_one_kind(iterated, limits),
        _check_classifier(iterated, limits),
    ]


def _check_verdicts(iterated: Iterated, limits: Thresholds) -> SelectionCheck:
    name, limit = "Examples without a verdict", limits.no_verdict
    missing, judged = sum(each.missing for each in iterated.rounds), _count_with_verdict(iterated)
    if not missing + judged:
        return SelectionCheck(name, "open", "The folder tells of no example that was judged.")
    share = missing / (missing + judged)
    said = f"{missing:,} of {missing + judged:,} examples ({percent(share)}) were given no verdict"
    warning = (
        f"; {limit:.0%} or more is warned about. They are neither hard nor easy: look at what the judge "
        "answered in verdicts, and whether a cap or its server stopped it."
    )
    return conclude(name, said, share >= limit, warning, f"; less than {limit:.0%}.")


def _check_flipped(iterated: Iterated, limits: Thresholds) -> SelectionCheck:
    name, limit = "Verdicts that turn with the order", limits.flipped
    judged = _count_with_verdict(iterated)
    if iterated.by_rule or iterated.settings.get("verdict") == "pointwise":
        return SelectionCheck(
            name, "open", "Answers were not held side by side, so that no order could turn a verdict."
        )
    if not judged:
        return SelectionCheck(name, "open", "There is no verdict.")
    flipped = sum(each.flipped for each in iterated.rounds)
    said = f"{flipped:,} of {judged:,} verdicts ({percent(flipped / judged)}) named the other answer in the other order"
    warning = (
        f"; {limit:.0%} or more is warned about. They count as easy. A judge that goes by the place of an "
        "answer says little about it: try another judge, or another prompt."
    )
    return conclude(name, said, flipped / judged >= limit, warning, f", and count as easy; less than {limit:.0%}.")


def _check_one_kind(iterated: Iterated, limits: Thresholds) -> SelectionCheck:
    name, limit = "Hard and easy", limits.one_kind
    judged = _count_with_verdict(iterated)
    if not judged:
        return SelectionCheck(name, "open", "There is no verdict.")
    share = sum(each.hard for each in iterated.rounds) / judged
    said = f"{percent(share)} of the {judged:,} examples with a verdict are hard"
    warning = (
        f"; {1 - limit:.0%} or less and {limit:.0%} or more are warned about. The classifier has hardly "
        "seen the other kind, and learns little more than to say this one."
    )
    return conclude(name, said, not 1 - limit < share < limit, warning, f", between {1 - limit:.0%} and {limit:.0%}.")


def _check_classifier(iterated: Iterated, limits: Thresholds) -> SelectionCheck:
    name, limit = "The last classifier", limits.auc
    last = iterated.rounds[-1] if iterated.rounds else None
    if last is None or last.auc is None:
        return SelectionCheck(name, "open", "Not measured: it needs both hard and easy examples among those held out.")
    said = f"On {last.held_out:,} held-out examples it has an AUC of {number(last.auc, 3)}, where chance has 0.5"
    warning = (
        f"; less than {limit:g} is warned about. It hardly tells hard from easy, so what was inferred is "
        "chosen by likeness to hard examples alone: judge more a round, or set --alpha lower."
    )
    return conclude(name, said, last.auc < limit, warning, f"; {limit:g} or more.")


def _count_with_verdict(iterated: Iterated) -> int:
    return sum(each.hard + each.easy for each in iterated.rounds)
