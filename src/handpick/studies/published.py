"""Published numbers as the results of a study: the CSVs behind the plots of TIS (Nayak et al. ICML 2026)."""

import csv
import math
from pathlib import Path

from handpick.errors import DataError
from handpick.listing import matching
from handpick.studies.cells import RANDOM, ZERO_SHOT, CellKey, Results

MODEL = "Llama-2-7B"
NEAREST = f"{MODEL}, nearest quantile only"  # its "model", where the nearest quantile alone was cut into ten
QUANTILE_BUDGET = 500  # examples of each quantile that were trained on
_COLUMNS = {"ce_loss": ("dev", "test"), "true_metric": ("true_metric",)}
_METRICS = {"test": "loss", "true_metric": "metric"}  # theirs: ours
_KEYS = {
    "quantile": ("dataset", "method", "bin"),
    "budget": ("dataset", "method", "num_samples", "seed"),
    "zero_shot": ("dataset",),
}
# name: what was measured, what it goes by, the name of the model
_FILES = {
    "binning_ce_loss_quantile.csv": ("ce_loss", "quantile", MODEL),
    "binning_true_metric_quantile.csv": ("true_metric", "quantile", MODEL),
    "sub_bin0_focus_ce_loss_quantile.csv": ("ce_loss", "quantile", NEAREST),
    "sub_bin0_focus_true_metric_quantile.csv": ("true_metric", "quantile", NEAREST),
    "budget_ce_loss_budget.csv": ("ce_loss", "budget", MODEL),
    "budget_true_metric_budget.csv": ("true_metric", "budget", MODEL),
    "budget_ce_loss_zero_shot.csv": ("ce_loss", "zero_shot", MODEL),
    "budget_true_metric_zero_shot.csv": ("true_metric", "zero_shot", MODEL),
}


def read_tis(folder: Path) -> Results:
    """Read the budget and quantile experiments from CSVs in TIS's shape, into cells in the order of the files.

    The loss on the tests is the metric "loss", the task's own metric is "metric", and the loss on the queries, which
    the paper plots, is ``dev_loss``. Methods have the paper's names, but for "Random": that is "random", as in a study.
    The quantiles are of 500 examples each. Those within the nearest quantile (``sub_bin0_focus_…``) are an experiment
    apart and go by a model of their own, ``NEAREST``. Files that are not there are listed in ``settings["missing"]``.

    Raises:
        DataError: there is no file of these, or a CSV of another name; a file lacks a column or has no line, or a line
            has too few or too many fields, what is no number, or says something a second time.
    """
    names = [path.name for path in matching(folder, "*.csv")]
    if not names:
        raise DataError(f"no CSV file in {folder}; name the folder with TIS's numbers, such as {next(iter(_FILES))}")
    if unknown := [name for name in names if name not in _FILES]:
        raise DataError(f"{folder / unknown[0]} is none of TIS's files, {', '.join(_FILES)}; take it away")
    found: dict[CellKey, dict[str, float]] = {}
    for name in _FILES:
        if name in names:
            _read(folder / name, found)
    cells = [
        place.cell(
            status="done",
            dev_loss=values.get("dev"),
            metrics={ours: values[theirs] for theirs, ours in _METRICS.items() if theirs in values},
        )
        for place, values in found.items()
    ]
    settings = {"folder": folder.name, "missing": [name for name in _FILES if name not in names]}
    return Results(name=f"TIS, published numbers for {MODEL}", settings=settings, cells=cells)


def _read(path: Path, found: dict[CellKey, dict[str, float]]) -> None:
    what, by, _ = _FILES[path.name]
    needed = (*_KEYS[by], *_COLUMNS[what])
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}; get it again") from error
    table = csv.reader(lines)
    try:
        header, *rows = [*table] or [[]]
    except csv.Error as error:
        raise DataError(f"{path}, line {table.line_num}: {error}; get the file again") from error
    if missing := [column for column in needed if column not in header]:
        raise DataError(f"{path} has no column {missing[0]!r}; it should have {', '.join(needed)}")
    n_lines = 0
    for line, fields in enumerate(rows, 2):
        if not fields:
            continue
        n_lines += 1
        if len(fields) != len(header):
            raise DataError(f"{path}, line {line}, has {len(fields)} fields of {len(header)}; get the file again")
        _add(path, line, dict(zip(header, fields, strict=True)), found)
    if not n_lines:
        raise DataError(f"{path} has no line below its header; get it again")


def _add(path: Path, line: int, fields: dict[str, str], found: dict[CellKey, dict[str, float]]) -> None:
    what, by, model = _FILES[path.name]
    method = ZERO_SHOT if by == "zero_shot" else fields["method"]
    try:
        place = CellKey(
            model,
            RANDOM if method == "Random" else method,
            fields["dataset"],
            budget=QUANTILE_BUDGET if by == "quantile" else int(fields["num_samples"]) if by == "budget" else None,
            quantile=int(fields["bin"]) if by == "quantile" else None,
            seed=int(fields["seed"]) if by == "budget" else 0,
        )
        values = {column: float(fields[column]) for column in _COLUMNS[what]}
    except ValueError as error:
        raise DataError(f"{path}, line {line}: {error}; get the file again") from error
    if not all(math.isfinite(value) for value in values.values()):
        raise DataError(f"{path}, line {line}, has a number that is not finite; get the file again")
    own = found.setdefault(place, {})
    if twice := own.keys() & values.keys():
        raise DataError(f"{path}, line {line}, says {sorted(twice)[0]} of a cell a second time; get the file again")
    own |= values
