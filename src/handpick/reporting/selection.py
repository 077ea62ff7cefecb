"""The report of a selection, from the folder that ``handpick select`` or ``handpick iterselect`` wrote."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handpick.data.examples import Message
from handpick.files import atomic_write
from handpick.layout import FiguresLayout, ReportLayout
from handpick.reporting import beside
from handpick.reporting.auditioned import audition_plot, read_audition
from handpick.reporting.best import BEST_TEXT, best_rows
from handpick.reporting.checks import checks
from handpick.reporting.distributions import distributions
from handpick.reporting.feature_map import read_feature_map
from handpick.reporting.iterated import Iterated
from handpick.reporting.lead import lead_of
from handpick.reporting.nearest import nearest_similarities
from handpick.reporting.page import data_block, page
from handpick.reporting.picks import composition, response, table_data
from handpick.reporting.plots import Plot, write_csv
from handpick.reporting.rounds import calibration_plot, rounds_plot
from handpick.reporting.run_folder import RunFolder, open_run
from handpick.reporting.settings_groups import group_settings

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
        folder: of a finished ``handpick select`` or ``handpick iterselect``.
        tests: test sets that the picks are held against; without them, what the run itself has looked at.

    Returns:
        The page.

    Raises:
        StoreError: the folder holds no selection or a damaged one, or cannot be written.
        SettingsError: its settings cannot be read.
        DataError: a test set cannot be read.
    """
    run = open_run(folder)
    iterated = run.made_by if isinstance(run.made_by, Iterated) else None
    near = nearest_similarities(run)
    drawn = read_feature_map(run)
    best = best_rows(run, near)
    plots = distributions(run, near)
    of_rounds = _round_plots(iterated)
    auditioned = read_audition(run.remarks)
    of_audition = audition_plot(auditioned)
    kinds = [(pick.source, pick.category or "") for pick in run.picks]
    mixture = composition(kinds, None if run.pool is None else run.pool.kinds)
    messages = _messages_beside(run)
    text = page(
        "selection.html.jinja",
        title=f"Selection {folder.resolve().name}",
        lead=lead_of(run),
        beside=beside.put_beside(run.picks, messages, beside.count_telling_words(run.pool)),
        open=beside.OPEN,
        run=run,
        iterated=iterated,
        of_rounds=of_rounds,
        auditioned=auditioned,
        of_audition=of_audition,
        checks=checks(run, tests),
        near=near,
        drawn=drawn,
        map_data=None if isinstance(drawn, str) else data_block(drawn.data()),
        best=best if isinstance(best, str) else data_block(best),
        n_best=0 if isinstance(best, str) else len(best),
        best_characters=BEST_TEXT,
        plots=plots,
        mixture=mixture,
        asked=group_settings(run),
        distances=_distance_rows(run.distances),
        distance_names=list(_DISTANCES.values()),
        queries=_query_rows(run),
        lists=_list_rows(run),
        queries_shown=_QUERIES,
        picks=data_block(table_data(run.picks, messages, None if iterated is None else iterated.taken)),
        lengths=_medians(run),
    )
    layout = ReportLayout(folder)
    figures = FiguresLayout(layout.report_folder)
    figures.folder.mkdir(exist_ok=True)
    for plot in [*plots, *of_rounds, *([of_audition] if of_audition else [])]:
        plot.write(figures)
    write_csv(figures.composition, list(mixture[0]), [list(row.values()) for row in mixture])
    atomic_write(layout.report, text)
    return layout.report


def _round_plots(iterated: Iterated | None) -> list[Plot]:
    """Plot the rounds, as far as there were any."""
    if iterated is None:
        return []
    made = [rounds_plot(iterated.rounds), calibration_plot(iterated.rounds)]
    return [plot for plot in made if plot is not None]


def _messages_beside(run: RunFolder) -> Mapping[str, Sequence[Message]]:
    """Return what the picks stand beside: the queries, or the hard examples that they were picked for."""
    if not isinstance(run.made_by, Iterated):
        return run.queries or {}
    if run.pool is None:
        return {}
    pool, wanted = run.pool.pool, {pick.picked_for for pick in run.picks}
    return {example_id: pool[row].messages for row, example_id in enumerate(pool.ids()) if example_id in wanted}


def _medians(run: RunFolder) -> dict[str, float | None]:
    """Return median lengths in characters."""
    chosen = [len(response(pick.messages)) for pick in run.picks]
    pool = None if run.pool is None else float(np.median(run.pool.responses))
    return {"chosen": float(np.median(chosen)), "pool": pool}


def _distance_rows(distances: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per subset; the first is the selection's."""
    return [{"name": name, "values": [each[key] for key in _DISTANCES]} for name, each in distances.items()]


def _list_rows(run: RunFolder) -> list[dict[str, Any]]:
    """Return how deep the prefilter's list of every query goes, the shallowest first, and how many picks it has."""
    if run.missed is None:
        return []
    picks = Counter(pick.picked_for for pick in run.picks)
    rows = [
        {"query": query or "all queries together", "depth": depth, "picks": picks.get(query)}
        for query, depth in run.missed.depths.items()
    ]
    return sorted(rows, key=lambda row: row["depth"])


def _query_rows(run: RunFolder) -> list[dict[str, Any]]:
    """Return how many picks every query has and the best of their scores, most first; queries without a pick too."""
    if isinstance(run.made_by, Iterated):
        return []
    count = Counter(pick.picked_for for pick in run.picks if pick.picked_for is not None)
    best: dict[str, float] = {}
    for pick in run.picks:
        if pick.picked_for is not None:
            best[pick.picked_for] = max(pick.score, best.get(pick.picked_for, pick.score))
    rows = []
    for query_id in dict.fromkeys([*run.query_ids, *count]):
        messages = (run.queries or {}).get(query_id, ())
        question = next((m.content for m in reversed(messages) if m.role == "user"), "")
        rows.append(
            {
                "id": query_id,
                "target": run.target_of.get(query_id, ""),
                "picks": count[query_id],
                "best": best.get(query_id),
                "asked": " ".join(question.split())[:160],
            }
        )
    return sorted(rows, key=lambda row: -row["picks"]) if count else []
