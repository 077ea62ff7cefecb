"""The page of ``handpick look``."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handpick.files import atomic_write
from handpick.overview.look import Overview, Side
from handpick.reporting.overview_tables import how_sampled, tables_of
from handpick.reporting.page import page
from handpick.reporting.plots import FAINT, NEUTRAL, SERIES, Plot, panels, style, whole_numbers

_ROWS = 100  # of a table
_BINS = 40


def write_overview_page(found: Overview, path: Path) -> Path:
    """Write one HTML file of what ``look`` found. Equal findings give equal bytes.

    Args:
        found: what was counted.
        path: the file.

    Returns:
        ``path``.

    Raises:
        StoreError: the file cannot be written.
    """
    text = page(
        "overview.html.jinja",
        title=f"A look at {', '.join(Path(file).name for file in list(found.pool.files)[:3])}"
        + (f" and {len(found.pool.files) - 3} more files" if len(found.pool.files) > 3 else ""),
        found=found,
        tables=tables_of(found),
        rows_shown=_ROWS,
        sampled=how_sampled(found),
        plots=_plots(found),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text)
    return path


def _plots(found: Overview) -> list[Plot]:
    made = [
        _lengths_plot(
            "characters",
            "How long, in characters",
            "Share of the records by length, on a logarithmic scale.",
            found.sides,
            {
                "conversation, characters": lambda side: side.counts.characters_N,
                "answers, characters": lambda side: side.counts.answer_characters_N,
            },
        )
    ]
    if all(side.sample.tokens is not None and len(side.sample.tokens.tokens_R) for side in found.sides.values()):
        made.append(_tokens_plot(found))
    return made


def _tokens_plot(found: Overview) -> Plot:
    limit = found.settings.max_length
    return _lengths_plot(
        "tokens",
        "How long, in tokens",
        f"Share of the conversations by tokens, on a logarithmic scale: {how_sampled(found)}. "
        f"What is longer than {limit:,} tokens is cut there (the line).",
        found.sides,
        {"conversation, tokens": _tokens_of},
        limit=limit,
    )


def _tokens_of(side: Side) -> NDArray[np.int64]:
    tokens = side.sample.tokens
    return np.zeros(0, dtype=np.int64) if tokens is None else tokens.tokens_R


def _lengths_plot(
    name: str,
    title: str,
    caption: str,
    sides: Mapping[str, Side],
    panels_of: Mapping[str, Callable[[Side], NDArray[np.int64]]],
    limit: int | None = None,
) -> Plot:
    """Plot lengths of every side: the pool as an area, the queries as a line."""
    looks: dict[str, dict[str, Any]] = {
        "pool": {"color": NEUTRAL, "fill": True, "alpha": 0.45, "linewidth": 0},
        "query": {"color": SERIES[0], "linewidth": 2},
    }
    rows: list[list[object]] = []
    with style():
        figure, all_axes = panels(len(panels_of), height=2.8)
        for axes, (label, lengths_of) in zip(all_axes, panels_of.items(), strict=True):
            # at least 1, for the scale: an empty text stands with those of one character
            logs = {side: np.log10(np.maximum(lengths_of(own), 1)) for side, own in sides.items()}
            edges = np.histogram_bin_edges(np.concatenate(list(logs.values())), bins=_BINS)
            for side, values in logs.items():
                share = np.histogram(values, edges)[0] / len(values)
                axes.stairs(share, edges, label=side, **looks[side])
                rows += [
                    [label, side, float(10**low), float(10**high), float(part)]
                    for low, high, part in zip(edges[:-1], edges[1:], share, strict=True)
                ]
            if limit is not None:
                axes.axvline(np.log10(limit), color=FAINT, linestyle="--", linewidth=1)
            axes.set_title(label)
            axes.xaxis.set_major_locator(whole_numbers())
            axes.xaxis.set_major_formatter(lambda power, _: f"{10**power:,.0f}")
            axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g}%")
            axes.set_ylim(bottom=0)
        if len(sides) > 1:
            all_axes[0].legend()
    return Plot(name, title, caption, figure, ["length of", "side", "from", "to", "share"], rows)
