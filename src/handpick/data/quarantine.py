"""Where records go that cannot be used, so that one bad record never ends a run."""

import json
from collections import Counter
from pathlib import Path

from handpick.errors import DataError
from handpick.progress import log


class Quarantine:
    """Writes the records that were set aside to a JSON Lines file, and counts them by kind.

    A line of the file is ``{"file", "line", "id", "reason", "raw"}``. The kind is the part of the
    reason before its first colon: "malformed JSON: Expecting value at column 7" is "malformed JSON".

    Args:
        path: the file to write. One left by an earlier run is removed; none is written if all is well.
        limit: the number of records that may be set aside before the run is stopped; None for any.
        each_once: whether a record that is set aside again, by another stage, is no news; its first reason counts.
    """

    def __init__(self, path: Path, limit: int | None = None, *, each_once: bool = False) -> None:
        self.path = path
        self.limit = limit
        self._reported = 0
        self._seen: set[tuple[str, int | None, str | None]] | None = set() if each_once else None
        self._kinds: Counter[str] = Counter()
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise DataError(f"cannot write {path}: {error.strerror}; choose another output folder") from error

    @property
    def count(self) -> int:
        """Records set aside so far."""
        return self._kinds.total()

    @property
    def kinds(self) -> dict[str, int]:
        """Records set aside so far, by kind, the most common first."""
        return dict(self._kinds.most_common())

    def add(self, *, file: str, line: int | None, id: str | None, reason: str, raw: bytes) -> None:
        """Set a record aside.

        Args:
            file: the file or data set it came from.
            line: its line, or its row counted from 1 where there are no lines.
            id: its id, where it is known.
            reason: what is wrong with it, its kind before the first colon.
            raw: the record as it came. Bytes that are not UTF-8 are written as backslash escapes.

        Raises:
            DataError: more records than ``limit`` have been set aside, or the file cannot be written.
        """
        if self._seen is not None:
            if (file, line, id) in self._seen:
                return
            self._seen.add((file, line, id))
        entry = {"file": file, "line": line, "id": id, "reason": reason, "raw": escape_bytes(raw)}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8", newline="\n") as out:
                out.write(json.dumps(entry, ensure_ascii=False) + "\n")
        except OSError as error:
            raise DataError(f"cannot write {self.path}: {error.strerror}; make room or choose another place") from error
        self._kinds[reason.partition(":")[0]] += 1
        if self.limit is not None and self.count > self.limit:
            raise DataError(f"more bad records than the limit of {self.limit}: {self.summary()}")

    def report(self) -> None:
        """Say how many records were set aside, if any were since it was last said."""
        if self.count > self._reported:
            self._reported = self.count
            log(self.summary())

    def summary(self) -> str:
        """Return a line like "3 records set aside (2 malformed JSON, 1 unknown role): runs/x/quarantine.jsonl"."""
        if not self.count:
            return "no records set aside"
        kinds = ", ".join(f"{n} {kind}" for kind, n in self._kinds.most_common())
        return f"{self.count} record{'s' if self.count > 1 else ''} set aside ({kinds}): {self.path}"


def escape_bytes(raw: bytes) -> str:
    """Decode bytes as text, with what is not UTF-8 escaped."""
    return raw.decode("utf-8", errors="backslashreplace")
