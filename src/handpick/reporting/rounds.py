"""The plots of ``handpick iterselect``: what its rounds brought, and how far its last classifier is to be believed."""

from collections.abc import Sequence
from typing import Any

from handpick.reporting.iterated import Round
from handpick.reporting.page import number
from handpick.reporting.plots import FAINT, NEUTRAL, SERIES, Plot, panels, series_style, style, whole_numbers

_METRICS = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "auc": "AUC"}
_COUNTS = ("judged", "hard", "easy", "ties", "flipped", "missing", "train", "held_out")


def rounds_plot(rounds: Sequence[Round]) -> Plot | None:
    """Plot how many were hard and easy in every round, and the classifier on what was held out.

    None without a round.
    """
    if not rounds:
        return None
    at = [each.round for each in rounds]
    with style():
        figure, (counts, metrics) = panels(2, height=3.0)
        hard, easy = [each.hard for each in rounds], [each.easy for each in rounds]
        both = [sum(pair) for pair in zip(hard, easy, strict=True)]
        counts.bar(at, hard, width=0.6, color=SERIES[0], label="hard")
        counts.bar(at, easy, width=0.6, bottom=hard, color=NEUTRAL, alpha=0.35, label="easy")
        missing = [each.missing for each in rounds]
        if any(missing):
            counts.bar(at, missing, width=0.6, bottom=both, fill=False, edgecolor=FAINT, label="no verdict")
        counts.set_title("judged")
        counts.set_ylim(0, 1.3 * max(1, *(n + m for n, m in zip(both, missing, strict=True))))  # room for the legend
        counts.legend(loc="upper left", ncols=3, fontsize=9, handlelength=1.2, columnspacing=1.2)
        for place, (name, spoken) in enumerate(_METRICS.items()):
            known = [(each.round, value) for each in rounds if (value := getattr(each, name)) is not None]
            if known:
                as_it_looks: dict[str, Any] = series_style(place)
                metrics.plot(*zip(*known, strict=True), label=spoken, **as_it_looks)
        metrics.set_title("classifier, held out")
        metrics.set_ylim(-0.03, 1.03)
        if metrics.lines:
            figure.legend(*metrics.get_legend_handles_labels(), loc="outside upper right", ncols=4, fontsize=9)
        for axes in (counts, metrics):
            axes.set_xlabel("round")
            axes.set_xlim(min(at) - 0.6, max(at) + 0.6)
            axes.xaxis.set_major_locator(whole_numbers(6))
    columns = ["round", *_COUNTS, *_METRICS, "ece", "seconds"]
    return Plot(
        "rounds",
        "What the rounds brought",
        "Left: examples judged in each round, hard where the reference answer was better than the base model’s own. "
        "Right: the classifier that was trained after it, on labelled examples of all rounds that it has not learnt "
        "from.",
        figure,
        columns,
        [[getattr(each, column) for column in columns] for each in rounds],
    )


def calibration_plot(rounds: Sequence[Round]) -> Plot | None:
    """Plot, of the last classifier that was measured, how many of those it gives a probability are hard.

    None without.
    """
    measured = [each for each in rounds if any(each.n for each in each.reliability)]
    if not measured:
        return None
    last = measured[-1]
    with style():
        figure, (shares, counts) = panels(2, height=3.0)
        shares.plot([0, 1], [0, 1], color=FAINT, linestyle=":", linewidth=1.2, label="as it says")
        full = [(each.predicted, each.hard) for each in last.reliability if each.n]
        shares.plot(*zip(*full, strict=True), color=SERIES[0], marker="o", label="as it is")
        shares.set_title("share that is hard")
        shares.set_ylim(-0.03, 1.03)
        shares.legend(loc="upper left", fontsize=9)
        edges = [place / len(last.reliability) for place in range(len(last.reliability) + 1)]
        counts.stairs([each.n for each in last.reliability], edges, color=SERIES[0], fill=True, alpha=0.5)
        counts.set_title("held-out examples")
        counts.set_ylim(bottom=0)
        counts.yaxis.set_major_locator(whole_numbers(6))
        for axes in (shares, counts):
            axes.set_xlim(-0.02, 1.02)
            axes.set_xlabel("probability of hard, by the classifier")
    places = zip(edges[:-1], edges[1:], last.reliability, strict=True)
    return Plot(
        "calibration",
        "How far the last classifier is to be believed",
        f"The classifier after round {last.round}, on {last.held_out:,} held-out examples in {len(last.reliability)} "
        f"bins. On the dotted line as many are hard as it says. Expected calibration error {number(last.ece, 3)}. Bins "
        "of few examples say little.",
        figure,
        ["from", "to", "predicted", "hard", "n"],
        [[low, high, each.predicted, each.hard, each.n] for low, high, each in places],
    )
