"""The plots of a selection: how near the queries, the scores in order of choice, and how long, chosen beside pool."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from handpick.reporting.iterated import HOW, Iterated
from handpick.reporting.nearest import NearestSimilarities
from handpick.reporting.picks import response
from handpick.reporting.plots import NEUTRAL, SERIES, Plot, panels, style, whole_numbers
from handpick.reporting.run_folder import PoolFacts, RunFolder, n_characters

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = (12, 40)  # at least and at most


def distributions(run: RunFolder, near: NearestSimilarities | str) -> list[Plot]:
    """Plot lengths, the similarities unless ``near`` says why there are none, and scores unless all are equal."""
    with style():
        plots = [] if isinstance(near, str) else [_similarities(near)]
        if any(score != run.picks[0].score for score in run.selection.scores):
            plots.append(_scores(run))
        plots.append(_lengths(_chosen_lengths(run), run.pool))
    return plots


def _similarities(near: NearestSimilarities) -> Plot:
    series = {"pool": near.pool, "random draw": near.drawn, "chosen": near.chosen}
    edges = _edges(np.concatenate(list(series.values())), len(near.chosen))
    figure, (axes,) = panels(1, height=3.0)
    shares = _steps(axes, series, edges)
    axes.set_xlabel(near.what)
    axes.legend()
    medians = ", ".join(f"{name} {float(np.median(values)):.4g}" for name, values in series.items())
    return Plot(
        "similarity",
        "How near the queries",
        f"Share of the examples, by {near.what}: the {len(near.chosen):,} chosen, as many drawn at random, and "
        f"{len(near.pool):,} of the {near.candidates:,} candidates. Medians: {medians}.",
        figure,
        ["from", "to", *shares],
        _bin_rows(edges, shares),
    )


def _scores(run: RunFolder) -> Plot:
    figure, (axes,) = panels(1, height=2.4)
    columns = ["rank", "score"]
    rows: list[list[Any]] = [[pick.rank, pick.score] for pick in run.picks]
    if isinstance(run.made_by, Iterated) and run.made_by.taken:
        columns.append("taken")
        taken = run.made_by.taken  # of a run that was cut short it may lack some picks
        hows = [taken[pick.id].how if pick.id in taken else "" for pick in run.picks]
        rows = [[*row, how] for row, how in zip(rows, hows, strict=True)]
        for colour, (how, spoken) in zip(SERIES, HOW.items(), strict=False):
            own = [row[:2] for row in rows if row[2] == how]
            if own:
                axes.plot(*zip(*own, strict=True), ".", color=colour, markersize=4, alpha=0.8, label=spoken)
        axes.legend(markerscale=2, fontsize=9)
    else:
        axes.plot(*zip(*rows, strict=True), ".", color=SERIES[0], markersize=4, alpha=0.8)
    axes.set_xlabel("rank")
    axes.set_ylabel("score")
    return Plot("scores", "Scores in order of choice", f"{run.ranked_by}.", figure, columns, rows)


def _lengths(chosen: dict[str, NDArray[np.int64]], pool: PoolFacts | None) -> Plot:
    pooled = None if pool is None else {"response": pool.responses, "conversation": pool.conversations}
    figure, both = panels(2, height=2.8)
    columns: list[str] = ["length of", "from", "to", "pool", "chosen"]
    rows: list[Sequence[object]] = []
    for axes, (name, own) in zip(both, chosen.items(), strict=True):
        series = {"chosen": own} if pooled is None else {"pool": pooled[name], "chosen": own}
        # at least 1, for the scale: an empty text stands with those of one character
        logs = {which: np.log10(np.maximum(lengths, 1)) for which, lengths in series.items()}
        edges = _edges(np.concatenate(list(logs.values())), len(own))
        shares = _steps(axes, logs, edges)
        axes.set_title(f"{name}, characters")
        axes.xaxis.set_major_locator(whole_numbers())
        axes.xaxis.set_major_formatter(lambda power, _: f"{10**power:,.0f}")
        for low, high, *values in _bin_rows(10**edges, shares):
            rows.append([name, low, high, *([None] * (2 - len(values))), *values])
    both[0].legend()
    where = "the chosen" if pool is None else f"the chosen and {len(pool.sample):,} of the pool's {len(pool):,}"
    return Plot(
        "lengths",
        "How long",
        f"Share of the examples by length, on a logarithmic scale: {where}.",
        figure,
        columns,
        rows,
    )


def _chosen_lengths(run: RunFolder) -> dict[str, NDArray[np.int64]]:
    """Return the length of every pick, in characters."""
    return {
        "response": np.array([len(response(pick.messages)) for pick in run.picks]),
        "conversation": np.array([n_characters(pick.messages) for pick in run.picks]),
    }


def _edges(values: NDArray[Any], n_chosen: int) -> NDArray[np.float64]:
    """Return the edges of bins over all values, as many as the picks can fill."""
    fewest, most = _BINS
    return np.histogram_bin_edges(values.astype(np.float64), bins=min(most, max(fewest, 2 * round(n_chosen**0.5))))


def _steps(axes: "Axes", series: dict[str, NDArray[Any]], edges: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Draw the share of each series in every bin, and give the shares."""
    looks: dict[str, dict[str, Any]] = {
        "pool": {"color": NEUTRAL, "fill": True, "alpha": 0.3, "linewidth": 0},
        "random draw": {"color": SERIES[1], "linestyle": "--"},
        "chosen": {"color": SERIES[0], "linewidth": 2},
    }
    shares = {name: np.histogram(values, edges)[0] / len(values) for name, values in series.items()}
    for name, share in shares.items():
        axes.stairs(share, edges, label=name, **looks[name])
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
    axes.set_ylim(bottom=0)
    return shares


def _bin_rows(edges: NDArray[np.float64], shares: dict[str, NDArray[np.float64]]) -> list[list[object]]:
    columns = [edges[:-1], edges[1:], *shares.values()]
    return [[float(value) for value in row] for row in zip(*columns, strict=True)]
