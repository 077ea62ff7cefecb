"""``handpick.study`` and ``handpick.report``: experiments, and pages about what was done."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handpick.errors import SettingsError
from handpick.reporting.write import write_report
from handpick.studies.cells import Results
from handpick.studies.run import run_study
from handpick.studies.settings import StudySettings


def study(config: str | Path | Mapping[str, Any] | StudySettings) -> Results:
    """Train on what each method chooses and measure it, against random draws. A study that is stopped goes on.

    Args:
        config: the YAML file of ``handpick study``, or its content. A study reads files, never records in memory: its
            later parts may be other processes.

    Returns:
        Every cell of the study: done, failed and why, or missing. It is also written to its folder.

    Raises:
        HandpickError: the settings are wrong, the pool cannot be read or the folder not be written. What stops a
            single method, target, model or cell is in its cells.
    """
    return run_study(study_settings(config))


def study_settings(config: str | Path | Mapping[str, Any] | StudySettings) -> StudySettings:
    """Return the checked settings of a study.

    Raises:
        SettingsError: a setting is wrong, or holds records instead of files.
    """
    if isinstance(config, StudySettings):
        return config
    if isinstance(config, str | Path):
        return StudySettings.from_yaml(config)
    pool = config.get("pool")
    if isinstance(pool, Sequence) and any(isinstance(each, Mapping) for each in pool):
        raise SettingsError("a study reads files, and its pool is a list of records: write them to a file first")
    return StudySettings.from_values(config, where="study")


def report(
    folder: str | Path,
    other: str | Path | None = None,
    *,
    tests: Sequence[str | Path] = (),
    published: str | None = None,
    out: str | Path | None = None,
) -> Path:
    """Write one HTML file that opens from disk: what was chosen and why, two selections, or what a study found.

    Args:
        folder: of a selection or of a study, or the address of one in a bucket; with ``published``, of the numbers.
        other: of a second selection, to lay beside the first.
        tests: of a selection: test sets to hold the picks against.
        published: the folder holds published numbers in this shape: ``tis``.
        out: of published numbers or two selections: the folder to write to; two selections' page is else written
            into the first one's.

    Returns:
        The page, on this machine; its plots, where it has any, stand beside it in ``report``, as PNG and CSV.

    Raises:
        HandpickError: of the kind that fits what is wrong (see ``handpick.errors``).
    """
    files = [str(tests)] if isinstance(tests, str | Path) else [str(test) for test in tests]
    return write_report(
        folder,
        other,
        tests=files,
        published=published,
        out=None if out is None else Path(out),
    )
