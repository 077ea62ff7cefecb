"""The result: which examples were chosen, in order, and what led there."""

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handpick.documents import GONE, WRONG_CONTENT, as_object, reading
from handpick.errors import DataError, StoreError
from handpick.files import write_parts
from handpick.fingerprint import file_digest
from handpick.layout import RunLayout
from handpick.object_store import was_address
from handpick.sealed import seal, unseal

if TYPE_CHECKING:
    from datasets import Dataset  # pyright: ignore[reportMissingTypeStubs]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Selection:
    """The chosen examples, in order of choice.

    ``scores`` are what the algorithm ranked on. ``picked_for`` has the id of the query each was picked
    for, None where the algorithm picks for none. ``origins`` says where each came from: the file or data set of the
    pool, and the line or row in it, counted from 1. ``settings`` and ``fingerprints`` hold JSON values.
    ``record(i)`` gives the ``i``-th choice as it stood in the pool's file, without the line end; it is
    called only when the records are written or converted.
    """

    ids: list[str]
    scores: list[float]
    picked_for: list[str | None]
    settings: dict[str, Any]
    fingerprints: dict[str, Any]
    record: Callable[[int], bytes]
    origins: list[tuple[str, int]] = field(default_factory=list)

    @classmethod
    def open(cls, folder: str | Path) -> "Selection":
        """Read back what ``save`` wrote; the records stay in the folder until they are asked for.

        Raises:
            StoreError: the folder holds no selection, or a damaged one, or one of another schema version; or it cannot
                be read.
        """
        if was_address(folder):
            raise StoreError(f"{folder} is in a bucket: fetch its folder, and name that")
        layout = RunLayout(Path(folder))
        summary_path, records_path = layout.selection, layout.records
        try:
            summary = unseal(json.loads(summary_path.read_bytes()))
            line_starts = _line_starts(records_path)
        except GONE as error:
            raise StoreError(
                f"no selection in {folder} ({error}); name a folder that `handpick select` wrote"
            ) from error
        except OSError as error:
            raise StoreError(f"the selection in {folder} cannot be read ({error}); mend that") from error
        except (ValueError, RecursionError) as error:
            raise StoreError(f"{summary_path} is damaged ({error}); select again") from error
        if summary.get("schema_version") != SCHEMA_VERSION:
            raise StoreError(
                f"{summary_path} has schema version {summary.get('schema_version')} and this handpick reads "
                f"{SCHEMA_VERSION}; open it with handpick {summary.get('handpick_version')}, or select again"
            )
        with reading(summary_path, StoreError, "select again"):
            _check_summary(summary)
        n_ids, n_records = len(summary["ids"]), len(line_starts) - 1
        if n_ids != n_records:
            raise StoreError(f"{summary_path} has {n_ids} ids and {records_path} {n_records} records; select again")
        if summary.get("records") not in (None, file_digest(records_path)):
            raise StoreError(
                f"{records_path} has changed since {summary_path} was written, or a run was cut short between the two; "
                "select again, or name the file itself to train on it as it is"
            )

        def record(choice: int) -> bytes:
            start, end = line_starts[choice], line_starts[choice + 1]
            with records_path.open("rb") as file:
                file.seek(start)
                return file.read(end - start).removesuffix(b"\n")

        return cls(
            ids=summary["ids"],
            scores=summary["scores"],
            picked_for=summary["picked_for"],
            settings=summary["settings"],
            fingerprints=summary["fingerprints"],
            record=record,
            origins=[(file, line) for file, line in summary.get("origins", [])],
        )

    def save(self, folder: str | Path) -> None:
        """Write ``selected.jsonl`` and ``selection.json`` into ``folder``, making it if need be.

        Each file is written whole and renamed into place, ``selection.json`` last.

        Raises:
            StoreError: the folder cannot be written, a full disk among the reasons.
        """
        layout = RunLayout(Path(folder))
        self.to_jsonl(layout.records)
        summary = {
            "schema_version": SCHEMA_VERSION,
            "handpick_version": handpick_version(),
            "settings": self.settings,
            # computed here or read from a file of ours, whose keys are in another order
            "fingerprints": json.loads(json.dumps(self.fingerprints, sort_keys=True)),
            "ids": self.ids,
            "scores": self.scores,
            "picked_for": self.picked_for,
            "origins": self.origins,
            "records": file_digest(layout.records),
        }
        text = json.dumps(seal(summary), ensure_ascii=False, indent=2) + "\n"
        write_parts(layout.selection, [text.encode()])

    def to_jsonl(self, path: str | Path) -> None:
        """Write the records to ``path``, the pool's own bytes, one a line, in order of choice.

        Raises:
            StoreError: the file cannot be written, a full disk among the reasons.
        """
        write_parts(Path(path), (self.record(choice) + b"\n" for choice in range(len(self))))

    def to_dataset(self) -> "Dataset":
        """Return the records as a ``datasets.Dataset``, in order of choice; a field that a record lacks is None.

        Raises:
            DataError: a field has values of several types, which a Dataset cannot hold.
        """
        from datasets import Dataset  # pyright: ignore[reportMissingTypeStubs]

        try:
            records = [as_object(json.loads(self.record(choice))) for choice in range(len(self))]
        except WRONG_CONTENT as error:
            raise DataError(f"a chosen record is no object of JSON ({error}); use to_jsonl instead") from error
        # Dataset.from_list would drop every field that the first record has not.
        fields = dict.fromkeys(field for record in records for field in record)
        columns = {field: [record.get(field) for record in records] for field in fields}
        try:
            return Dataset.from_dict(columns)  # pyright: ignore[reportUnknownMemberType]
        except (ValueError, TypeError) as error:  # Arrow's own errors are kinds of these
            raise DataError(f"the chosen records do not fit one table ({error}); use to_jsonl instead") from error

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        if not self.ids:
            return "Selection of 0 examples"
        examples = "1 example" if len(self) == 1 else f"{len(self):,} examples"
        picked_for = "" if self.picked_for[0] is None else f" for {self.picked_for[0]!r}"
        return f"Selection of {examples}; first {self.ids[0]!r}{picked_for}, score {self.scores[0]:.4g}"


def _check_summary(summary: dict[str, Any]) -> None:
    """Raise TypeError, ValueError or KeyError where a summary does not hold what a selection is made of."""
    n = len(summary["ids"])
    for name, kind in (("ids", str), ("scores", int | float), ("picked_for", str | None)):
        if not isinstance(summary[name], list) or not all(isinstance(each, kind) for each in summary[name]):
            raise TypeError(f"{name} is no list of what it should be")
    if n != len(summary["scores"]) or n != len(summary["picked_for"]):
        raise ValueError("its lists have several lengths")
    for name in ("settings", "fingerprints"):
        as_object(summary[name])
    origins = [(file, line) for file, line in summary.get("origins", [])]
    if (origins and len(origins) != n) or not all(isinstance(f, str) and isinstance(at, int) for f, at in origins):
        raise TypeError("origins are no files and lines")


def _line_starts(path: Path) -> list[int]:
    """Return where each line of the file starts, and where the last one ends."""
    with path.open("rb") as file:
        return list(accumulate((len(line) for line in file), initial=0))


def handpick_version() -> str | None:
    """Return the installed version; None where handpick runs from its source tree."""
    try:
        return importlib.metadata.version("handpick")
    except importlib.metadata.PackageNotFoundError:
        return None
