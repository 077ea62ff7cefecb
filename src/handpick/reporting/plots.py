"""Plots as SVG that takes the page's colours, as PNG, and as the CSV of what they show.

A figure is drawn once in the light theme's colours. In the SVG each of these becomes the page's variable of that
colour, so that the plot is light or dark with the page. matplotlib's global state is set for the drawing alone.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from handpick.files import atomic_write
from handpick.layout import FiguresLayout
from handpick.reporting.page import replace_unprintable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

INK, FAINT = "#1d1f21", "#8a9096"
# Told apart with every common kind of colour blindness (after Okabe and Ito 2008), darkened to be read on white; what
# comes beyond them has another mark and another dash.
SERIES = ("#0072b2", "#c8500a", "#00835f", "#a8467f", "#8f6a00", "#2f8fbf")
NEUTRAL = "#6d7378"  # what the others are held against: the pool, the random draw
_THEMED = {INK: "currentColor", FAINT: "var(--faint)", NEUTRAL: "var(--neutral)"} | {
    colour: f"var(--series-{n})" for n, colour in enumerate(SERIES, 1)
}
_MARKS, _DASHES = ("o", "s", "^", "D", "v", "P"), ("-", "--", ":", "-.")

_DPI = 150


@dataclass(frozen=True)
class Plot:
    """A figure and the numbers it shows. ``name`` names its files; ``caption`` says how to read it."""

    name: str
    title: str
    caption: str
    figure: "Figure"
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]

    @property
    def svg(self) -> Markup:
        """The figure as an element for the page; the same bytes for the same figure."""
        drawn = io.StringIO()
        with style():
            self.figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        self.figure.set_layout_engine("none")  # what is laid out stays: a second time takes as long as the drawing
        text = drawn.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        # every plot names its parts anew, and all are in one document
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r'(xlink:href="|url\()#', rf"\1#{self.name}-", text)
        for colour, themed in _THEMED.items():
            text = text.replace(colour, themed)
        return Markup(text)

    def write(self, layout: FiguresLayout) -> None:
        """Write the picture, and the numbers in it as CSV.

        Raises:
            StoreError: they cannot be written.
        """
        picture = io.BytesIO()
        with style():
            self.figure.savefig(picture, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
        atomic_write(layout.picture(self.name), picture.getvalue())
        write_csv(layout.table(self.name), self.columns, self.rows)


# What makes a spreadsheet take a cell for a formula; the wide forms are what some take for the same.
_FORMULA = re.compile(r"[\s\ufeff]*[=+\-@\uff1d\uff0b\uff0d\uff20\u2212]|[\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?|[+-]?(inf|nan)")


def harmless_cell(value: object) -> object:
    """Return a cell that no spreadsheet runs: text that begins like a formula has an apostrophe before it.

    Numbers, and texts that are a number, stay as they are. (OWASP, CSV Injection.)
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return replace_unprintable(value)
    return f"'{replace_unprintable(value)}"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table as UTF-8 CSV, numbers in full, and nothing in it that a spreadsheet would run.

    Raises:
        StoreError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([harmless_cell(cell) for cell in row] for row in (columns, *rows))
    atomic_write(path, text.getvalue().encode())


@contextmanager
def style() -> Iterator[None]:
    """Use our settings of matplotlib, for making and for saving a figure."""
    from matplotlib import rc_context

    with rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "handpick",
            "text.parse_math": False,
            "font.size": 9.5,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.edgecolor": FAINT,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.grid": True,
            "grid.color": FAINT,
            "grid.alpha": 0.25,
            "grid.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "figure.facecolor": "none",
            "axes.facecolor": "none",
            "lines.linewidth": 1.6,
            "lines.markersize": 4.5,
            "axes.axisbelow": True,
        }
    ):
        yield


def panels(n: int, *, across: int = 2, width: float = 7.6, height: float = 2.7) -> tuple["Figure", list["Axes"]]:
    """Make a figure with ``n`` axes, ``across`` per row, ``height`` inches each; to be called within ``style``."""
    from matplotlib.figure import Figure

    across = min(across, n)
    down = -(-n // across)
    figure = Figure(figsize=(width, height * down), layout="constrained")
    axes = [figure.add_subplot(down, across, place + 1) for place in range(n)]
    return figure, axes


def series_style(series: int) -> dict[str, str]:
    """Return colour, mark and dash of a series: no two of the first twenty-four are alike in all three."""
    lap = series // len(SERIES)
    return {
        "color": SERIES[series % len(SERIES)],
        "marker": _MARKS[(series + lap) % len(_MARKS)],
        "linestyle": _DASHES[lap % len(_DASHES)],
    }


def whole_numbers(most: int = 10) -> "MaxNLocator":
    """Return a locator of marks at whole numbers, that many intervals at most."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(integer=True, nbins=most)
