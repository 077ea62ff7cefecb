"""A report of whatever a folder holds."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from handpick.choices import look_up
from handpick.errors import DataError, SettingsError
from handpick.layout import ReportLayout, RunLayout, StudyLayout
from handpick.object_store import is_address
from handpick.own_folder import check_inputs
from handpick.reporting.comparison import write_comparison
from handpick.reporting.selection import write_selection_report
from handpick.reporting.study import write_study_report
from handpick.run_place import fetch_place, hold_place
from handpick.studies.cells import Results
from handpick.studies.published import read_tis

_PUBLISHED = {"tis": read_tis}


def write_report(
    folder: str | Path,
    other: str | Path | None = None,
    *,
    tests: Sequence[str] = (),
    published: str | None = None,
    out: Path | None = None,
) -> Path:
    """Write the page for a selection, for two beside each other, for a study, or for published numbers.

    Args:
        folder: of a selection (``selection.json``), of a study (``results.json``), or of published numbers; or the
            address of a run in a bucket.
        other: the folder or address of a second selection, to lay beside the first.
        tests: for a selection, test sets to hold the picks against.
        published: the shape of published numbers: "tis".
        out: for published numbers and for two selections, the folder to write to; without it two selections' page is
            written into the first one's.

    Returns:
        The page on this machine: ``report.html``, of two selections ``comparison.html``. A run in a bucket has it too.

    Raises:
        SettingsError: the arguments do not go together.
        DataError: the folder holds nothing that a report can be made of.
        StoreError: as ``fetch_place`` and ``hold_place``.
        HandpickError: as the reports themselves.
    """
    first, second = fetch_place(folder), None if other is None else fetch_place(other)
    with hold_place(folder) if is_address(folder) and out is None else nullcontext():  # with out it is only read
        return _write_report(first, second, tests, published, out)


def _write_report(
    folder: Path, other: Path | None, tests: Sequence[str], published: str | None, out: Path | None
) -> Path:
    if other is not None:
        return _write_comparison(folder, other, tests, published, out)
    if published is not None:
        if out is None:
            raise SettingsError("--published needs --out, the folder to write the report to")
        if tests:
            raise SettingsError("--test is for the report of a selection: leave it out with --published")
        return write_study_report(look_up(_PUBLISHED, published, "shape of published numbers")(folder), out)
    if out is not None:
        raise SettingsError(
            "--out is for --published and for two selections: other reports are written into the folder they are about"
        )
    results = StudyLayout(folder).results
    if results.exists():
        if tests:
            raise SettingsError("--test is for the report of a selection, and this is a study: leave it out")
        return write_study_report(Results.open(results), folder, study=folder)
    if RunLayout(folder).selection.exists():
        check_inputs(ReportLayout(folder), {"test": list(tests)})
        return write_selection_report(folder, tests)
    raise DataError(
        f"{folder} holds neither a selection (selection.json) nor a study (results.json); name the folder that "
        "`handpick select`, `handpick iterselect` or `handpick study` wrote"
    )


def _write_comparison(a: Path, b: Path, tests: Sequence[str], published: str | None, out: Path | None) -> Path:
    if tests or published is not None:
        raise SettingsError("two folders are two selections beside each other: leave --test and --published out")
    for folder in (a, b):
        if not RunLayout(folder).selection.exists():
            raise DataError(
                f"{folder} holds no selection (selection.json), and two folders are two selections beside each other; "
                "name folders that `handpick select` or `handpick iterselect` wrote"
            )
    return write_comparison(a, b, out)
