"""The report of a selection, from the folder that ``handpick select`` wrote."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from handpick.algorithms import find
from handpick.report.checks import checks
from handpick.report.nearest import Nearest, nearest
from handpick.report.page import data_block, page
from handpick.report.picks import composition, response, table_data
from handpick.report.plots import NEUTRAL, SERIES, Plot, panels, style, write_csv
from handpick.report.run_folder import PoolFacts, RunFolder, n_characters, open_run
from handpick.settings import Settings
from handpick.store.files import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BINS = (12, 40)  # at least and at most
_QUERIES = 200  # rows of the table of queries
_DISTANCES = {
    "query_to_subset": "query to nearest",
    "subset_to_query": "to nearest query",
    "wasserstein": "Wasserstein",
    "mmd": "MMD",
    "energy": "energy",
}


def write_selection_report(folder: Path, tests: Sequence[str] = ()) -> Path:
    """Write ``report.html`` into the folder of a selection, and its plots as PNG and CSV into ``report`` beside it.

    Equal folders give equal bytes.

    Args:
        folder: of a finished ``handpick select``.
        tests: test sets that the picks are held against; without them, what the run itself has looked at.

    Returns:
        The page.

    Raises:
        StoreError: the folder holds no selection or a damaged one, or cannot be written.
        SettingsError: its settings cannot be read.
        DataError: a test set cannot be read.
    """
    run = open_run(folder)
    near = nearest(run)
    plots = _plots(run, near)
    kinds = [(pick.source, pick.category or "") for pick in run.picks]
    mixture = composition(kinds, None if run.pool is None else run.pool.kinds)
    text = page(
        "selection.html.jinja",
        title=f"Selection {folder.resolve().name}",
        run=run,
        chosen_by=_chosen_by(run.settings),
        algorithm=find(run.settings.used_algorithm),
        checks=checks(run, tests),
        near=near,
        plots=plots,
        mixture=mixture,
        asked=_asked(run.settings),
        distances=_distance_rows(run.distances),
        distance_names=list(_DISTANCES.values()),
        queries=_query_rows(run),
        queries_shown=_QUERIES,
        picks=data_block(table_data(run.picks, run.queries or {})),
        lengths=_medians(run),
    )
    beside = folder / "report"
    beside.mkdir(exist_ok=True)
    for plot in plots:
        plot.write(beside)
    write_csv(beside / "composition.csv", list(mixture[0]), [list(row.values()) for row in mixture])
    write_whole(folder / "report.html", text)
    return folder / "report.html"


def _chosen_by(settings: Settings) -> str:
    return f"{settings.method}: {settings.used_representation}, {settings.used_algorithm}"


def _asked(settings: Settings) -> dict[str, dict[str, Any]]:
    """The settings, those that were said or are needed first, then those left as they are."""
    default = Settings().model_dump(mode="json")
    given = settings.model_dump(mode="json", exclude={"out"})
    shown = {name: value for name, value in given.items() if value not in (None, [], {})}
    first = ["method", "budget", "query", "target", "pool", "model", "seed"]
    said = {name: shown[name] for name in first if name in shown}
    said |= {name: value for name, value in shown.items() if value != default[name]}
    rest = {name: value for name, value in shown.items() if name not in said}
    return {"said": _readable(said), "rest": _readable(rest)}


def _readable(settings: dict[str, Any]) -> dict[str, Any]:
    def text(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(text(each) for each in value)
        if isinstance(value, dict):
            return ", ".join(f"{name} = {text(each)}" for name, each in value.items())
        return "yes" if value is True else "no" if value is False else str(value)

    return {name.replace("_", " "): text(value) for name, value in settings.items()}


def _medians(run: RunFolder) -> dict[str, float | None]:
    """Median lengths in characters."""
    chosen = [len(response(pick.messages)) for pick in run.picks]
    return {"chosen": _median(chosen), "pool": None if run.pool is None else _median(run.pool.responses)}


def _median(values: ArrayLike) -> float:
    return float(np.median(np.asarray(values)))


def _distance_rows(distances: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a subset; the first is the selection's."""
    return [{"name": name, "values": [each[key] for key in _DISTANCES]} for name, each in distances.items()]


def _query_rows(run: RunFolder) -> list[dict[str, Any]]:
    """How many picks every query has and the best of their scores, most first; queries without a pick too."""
    count = Counter(pick.picked_for for pick in run.picks if pick.picked_for is not None)
    best: dict[str, float] = {}
    for pick in run.picks:
        if pick.picked_for is not None:
            best[pick.picked_for] = max(pick.score, best.get(pick.picked_for, pick.score))
    rows = []
    for query_id in dict.fromkeys([*run.query_ids, *count]):
        messages = (run.queries or {}).get(query_id, ())
        asked = next((m.content for m in reversed(messages) if m.role == "user"), "")
        rows.append(
            {
                "id": query_id, "target": run.target_of.get(query_id, ""), "picks": count[query_id],
                "best": best.get(query_id), "asked": " ".join(asked.split())[:160],
            }
        )  # fmt: skip
    return sorted(rows, key=lambda row: -row["picks"]) if count else []


def _plots(run: RunFolder, near: Nearest | str) -> list[Plot]:
    with style():
        plots = [] if isinstance(near, str) else [_similarities(near)]
        if any(score != run.picks[0].score for score in run.selection.scores):
            plots.append(_scores(run))
        plots.append(_lengths(_chosen_lengths(run), run.pool))
    return plots


def _similarities(near: Nearest) -> Plot:
    series = {"pool": near.pool, "random draw": near.drawn, "chosen": near.chosen}
    edges = _edges(np.concatenate(list(series.values())), len(near.chosen))
    figure, (axes,) = panels(1, height=3.0)
    shares = _steps(axes, series, edges)
    axes.set_xlabel(near.what)
    axes.legend()
    medians = ", ".join(f"{name} {_median(values):.4g}" for name, values in series.items())
    return Plot(
        "similarity", "How near the queries",
        f"Share of the examples, by {near.what}: the {len(near.chosen):,} chosen, as many drawn at random, and "
        f"{len(near.pool):,} of the {near.candidates:,} candidates. Medians: {medians}.",
        figure, ["from", "to", *shares], _binned(edges, shares),
    )  # fmt: skip


def _scores(run: RunFolder) -> Plot:
    figure, (axes,) = panels(1, height=2.4)
    ranks = [pick.rank for pick in run.picks]
    axes.plot(ranks, run.selection.scores, ".", color=SERIES[0], markersize=4, alpha=0.8)
    axes.set_xlabel("rank")
    axes.set_ylabel("score")
    return Plot(
        "scores", "Scores in order of choice",
        f"What {run.settings.used_algorithm} ranked on.",
        figure, ["rank", "score"], list(zip(ranks, run.selection.scores, strict=True)),
    )  # fmt: skip


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
        axes.xaxis.set_major_locator(_whole_powers())
        axes.xaxis.set_major_formatter(lambda power, _: f"{10**power:,.0f}")
        for low, high, *values in _binned(10**edges, shares):
            rows.append([name, low, high, *([None] * (2 - len(values))), *values])
    both[0].legend()
    where = "the chosen" if pool is None else f"the chosen and {len(pool.sample):,} of the pool's {len(pool):,}"
    return Plot(
        "lengths", "How long", f"Share of the examples by length, on a logarithmic scale: {where}.",
        figure, columns, rows,
    )  # fmt: skip


def _chosen_lengths(run: RunFolder) -> dict[str, NDArray[np.int64]]:
    """Of every pick, in characters."""
    return {
        "response": np.array([len(response(pick.messages)) for pick in run.picks]),
        "conversation": np.array([n_characters(pick.messages) for pick in run.picks]),
    }


def _whole_powers() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True)


def _edges(values: NDArray[Any], n_chosen: int) -> NDArray[np.float64]:
    """Of bins over all values, as many as the picks can fill."""
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


def _binned(edges: NDArray[np.float64], shares: dict[str, NDArray[np.float64]]) -> list[list[object]]:
    columns = [edges[:-1], edges[1:], *shares.values()]
    return [[float(value) for value in row] for row in zip(*columns, strict=True)]
