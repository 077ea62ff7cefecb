"""What a person should look at before they believe a selection: each check by the data, with its threshold."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from handpick.data.unwritten import sentences
from handpick.layout import RunLayout
from handpick.reporting.checks_of_rounds import checks_of_rounds
from handpick.reporting.iterated import Iterated
from handpick.reporting.page import number, percent
from handpick.reporting.picks import response
from handpick.reporting.run_folder import RunFolder, overlap_of
from handpick.reporting.thresholds import THRESHOLDS, SelectionCheck, Thresholds, conclude, quote


def checks(run: RunFolder, tests: Sequence[str] = (), limits: Thresholds = THRESHOLDS) -> list[SelectionCheck]:
    """Run all checks, those that warn first.

    Raises:
        DataError: a test set cannot be read.
        StoreError: the run's overlap.jsonl is damaged.
    """
    overlap, looked_at = overlap_of(run, tests)
    made = [
        _check_overlap(overlap, looked_at, run),
        _check_lengths(run, limits),
        _check_one_source(run, limits),
        _check_scores(run, limits),
        *([] if isinstance(run.made_by, Iterated) else [_check_queries_served(run, limits)]),
        *_check_prefilter(run, limits),
        _check_answers(run, limits),
        _check_quarantine(run, limits),
        *_check_unwritten(run),
        *(SelectionCheck(each.name, "warn" if each.warns else "fine", f"{each.said}.") for each in run.remarks),
        *(checks_of_rounds(run.made_by, limits) if isinstance(run.made_by, Iterated) else []),
    ]
    return sorted(made, key=lambda check: ("warn", "open", "fine").index(check.state))


def _check_overlap(found: Mapping[str, tuple[str, float]] | None, looked_at: str, run: RunFolder) -> SelectionCheck:
    name = "Overlap with a test set"
    if found is None:
        return SelectionCheck(name, "open", f"Not looked for: {looked_at}.")
    if not found:
        return SelectionCheck(name, "fine", f"No pick repeats a test item; {looked_at}.")
    example_id, (item, share) = next(iter(found.items()))
    without = "choose from the clean.jsonl of `handpick overlap`"
    if not isinstance(run.made_by, Iterated):
        without = "select with --exclude-overlap"
    return SelectionCheck(
        name,
        "warn",
        f"{len(found):,} of {len(run.picks):,} picks repeat a test item, one alone would be too many ({looked_at}). "
        f"The first is {quote(example_id)}: {percent(share)} of the words of {quote(item)} stand in it. What is "
        f"measured on that test will be too good; {without}.",
    )


def _check_unwritten(run: RunFolder) -> list[SelectionCheck]:
    """Warn of what the model never saw, where there is such a thing."""
    said = [sentence for what, counts in run.unwritten.items() for sentence in sentences(counts, what)]
    if not said:
        return []
    return [
        SelectionCheck(
            "Not written by the template",
            "warn",
            f"{'. '.join(said)}. The examples were compared, and are trained on, without it: take a model whose chat "
            "template writes it, or records that do not need it.",
        )
    ]


def _check_prefilter(run: RunFolder, limits: Thresholds) -> list[SelectionCheck]:
    """Warn where a prefilter may have missed much, and say so where nobody knows."""
    missed, name, limit = run.missed, "Left out by the prefilter", limits.recall
    if missed is None:
        return []
    said, recall = missed.describe(), missed.recall
    said = f"{said[0].upper()}{said[1:]}"
    if recall is not None and recall.low >= limit:
        return [SelectionCheck(name, "fine", f"{said}; the low end is {limit:.0%} or more.")]
    if recall is None or (recall.value >= limit and not missed.is_told):
        return [SelectionCheck(name, "open", f"{said}.")]
    warning = (
        f"{said}. A low end under {limit:.0%} is warned about: the prefilter may miss what the method would choose. "
        "Give a larger --prefilter-share, or another --prefilter."
    )
    return [SelectionCheck(name, "warn", warning)]


def _check_lengths(run: RunFolder, limits: Thresholds) -> SelectionCheck:
    name, limit = "Length of the responses", limits.length_ratio
    if run.pool is None:
        return SelectionCheck(name, "open", "Not compared: the pool could not be read.")
    chosen = float(np.median([len(response(pick.messages)) for pick in run.picks]))
    pool = float(np.median(run.pool.responses))
    ratio = chosen / pool if pool else float("inf")
    said = (
        f"The median response has {chosen:,.0f} characters among the chosen and {pool:,.0f} in the pool, "
        f"a ratio of {number(ratio, 3)}"
    )
    which = "longer" if ratio > limit else "shorter"
    warning = (
        f"; more than {limit:g} or less than {1 / limit:g} is warned about. A selection that is {which} than "
        "the pool may owe its effect to length: hold it against the method longest, or a random draw of equal "
        "lengths."
    )
    return conclude(name, said, ratio > limit or ratio < 1 / limit, warning, f", between {1 / limit:g} and {limit:g}.")


def _check_one_source(run: RunFolder, limits: Thresholds) -> SelectionCheck:
    name, limit = "Sources", limits.source_share
    (source, count), *_ = Counter(pick.source for pick in run.picks).most_common(1)
    share = count / len(run.picks)
    said = f"{percent(share)} of the picks come from {quote(source)}"
    if run.pool is None:
        return SelectionCheck(name, "open", f"{said}; the pool could not be read to compare.")
    in_pool = Counter(each for each, _ in run.pool.kinds)
    if len(in_pool) == 1:
        return SelectionCheck(name, "fine", f"The pool has one source, {quote(source)}.")
    said += f", which makes up {percent(in_pool[source] / len(run.pool))} of the pool"
    mended = "" if isinstance(run.made_by, Iterated) else ": --max-share sets a limit"
    warning = (
        f"; {limit:.0%} or more is warned about. That is right where this source is the task, and "
        f"narrow where it is not{mended}."
    )
    return conclude(name, said, share >= limit, warning, f", the most of any; less than {limit:.0%}.")


def _check_scores(run: RunFolder, limits: Thresholds) -> SelectionCheck:
    name, limit = "Spread of the scores", limits.score_spread
    settings = run.made_by
    if not isinstance(settings, Iterated) and settings.scorer.output == "nothing":
        return SelectionCheck(name, "open", f"The method {run.method} gives no scores.")
    scores = np.array(run.selection.scores)
    if len(scores) < 2:
        return SelectionCheck(name, "open", "One pick has no spread.")
    low, high = np.percentile(scores, [5, 95])
    largest = float(np.abs(scores).max())
    spread = float(high - low) / largest if largest else 0.0
    said = (
        f"From the 5th to the 95th percentile the scores go from {number(float(low))} to {number(float(high))}, "
        f"{percent(spread)} of the largest"
    )
    warning = (
        f"; less than {limit:.0%} is warned about. Scores that are all alike order nothing: the features may "
        "not tell the candidates apart."
    )
    return conclude(name, said, spread < limit, warning, f"; {limit:.0%} or more.")


def _check_queries_served(run: RunFolder, limits: Thresholds) -> SelectionCheck:
    name, limit = "Queries served", limits.queries_served
    served = {pick.picked_for for pick in run.picks if pick.picked_for is not None}
    if not served:
        return SelectionCheck(name, "open", "The method picks for no single query.")
    if not run.query_ids:
        return SelectionCheck(
            name, "open", f"{len(served):,} queries have a pick; how many there are could not be read."
        )
    possible = min(len(run.query_ids), len(run.picks))
    said = f"{len(served):,} of {len(run.query_ids):,} queries have a pick"
    if possible < len(run.query_ids):
        said += f", where {len(run.picks):,} picks could serve {possible:,}"
    warning = (
        f"; less than {limit:.0%} of those that could be is warned about. The selection is for a part of the "
        "task: try an algorithm in which queries take turns, such as round-robin."
    )
    return conclude(
        name, said, len(served) / possible < limit, warning, f"; {limit:.0%} or more of those that could be."
    )


def _check_answers(run: RunFolder, limits: Thresholds) -> SelectionCheck:
    name, limit = "Answers", limits.same_answer
    if len(run.picks) < 2:
        return SelectionCheck(name, "open", "One pick has one answer.")
    ((answer, count),) = Counter(response(pick.messages).strip() for pick in run.picks).most_common(1)
    share = count / len(run.picks)
    if count == 1:
        return SelectionCheck(name, "fine", "No two picks have the same response.")
    said = f"{percent(share)} of the picks have the very same response, {quote(answer)}"
    warning = f"; {limit:.0%} or more is warned about. A model can learn to say it whatever is asked."
    return conclude(name, said, share >= limit, warning, f"; less than {limit:.0%}.")


def _check_quarantine(run: RunFolder, limits: Thresholds) -> SelectionCheck:
    name, limit = "Records set aside", limits.set_aside
    if run.pool is None:
        return SelectionCheck(name, "open", "Not compared: the pool could not be read.")
    parts = {which: run.set_aside[which] / size for which, size in run.read.items() if size}
    whose = {"pool": "the pool's", "query": "the queries'"}
    lists = {which: RunLayout(run.path).quarantine(which).name for which in whose}
    said = " and ".join(
        f"{run.set_aside[which]:,} of {whose[which]} records ({percent(part)})" for which, part in parts.items()
    )
    warning = (
        f" could not be used; {limit:.0%} or more is warned about. "
        f"{' and '.join(lists[which] for which in parts)} {'have' if len(parts) > 1 else 'has'} each with the "
        "reason; many are cut off by --max-length."
    )
    return conclude(name, said, max(parts.values()) >= limit, warning, f" could not be used; less than {limit:.0%}.")
