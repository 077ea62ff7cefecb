"""The file in which a judge's answers are kept, and every call it took to get them.

One JSON object per line, with its digest, only ever appended to. A call is written down before it is sent, with what it
may use at most, and again when it is over, with what it did use and the answer. So a run that was killed leaves nothing
unknown: its answers are there, and a call whose end nobody saw counts as what it may have used.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from handpick.documents import WRONG_CONTENT
from handpick.errors import JudgeError
from handpick.files import open_private
from handpick.judge.answers import JudgeAnswer, Usage
from handpick.locks import lock_file
from handpick.progress import log
from handpick.sealed import seal, unseal

HEADER = b'{"handpick": "answers of a judge", "version": 1}\n'


class Journal:
    """Answers by the digest of their request, and what all calls have used. One run at a time has it open.

    It is read when first opened; later only what others have appended since.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, JudgeAnswer] = {}
        self.used = Usage()
        self._under_way: dict[str, Usage] = {}
        self._end = 0  # of what has been read or written
        self._lines = 0
        self._file: FileIO | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Open the file for calls to be written down; no other run can have it meanwhile.

        A last line that a killed run has left half-written is taken away, which is said.

        Raises:
            JudgeError: another run has the file, it is damaged or another kind of file, or it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = FileIO(open_private(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")
        except OSError as error:
            raise self._disk_error(error) from error
        with file:
            try:
                lock_file(file)
            except BlockingIOError as error:
                raise JudgeError(
                    f"another run has the judge's answers in {self.path}; wait until it is over, or name another file"
                ) from error
            except OSError as error:
                raise self._disk_error(error) from error
            self._file = file
            try:
                self._catch_up()
                yield
            finally:
                self._file = None

    def record_request(self, key: str, at_most: Usage) -> None:
        """Write down that a call is about to be sent, and what it may use.

        Raises:
            JudgeError: the file cannot be written.
        """
        self._append({"sent": key, "in": at_most.tokens_in, "out": at_most.tokens_out})

    def record_response(self, key: str, used: Usage, answer: JudgeAnswer | None) -> None:
        """Write down what a call has used, and its answer where one came.

        Raises:
            JudgeError: the file cannot be written.
        """
        entry: dict[str, Any] = {"over": key, "in": used.tokens_in, "out": used.tokens_out}
        self._append(entry if answer is None else entry | {"text": answer.text, "cut": answer.cut})
        try:
            if self._file is not None:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise self._disk_error(error) from error

    def _catch_up(self) -> None:
        half = False
        try:
            with self.path.open("rb") as lines:
                lines.seek(self._end)
                for line in lines:
                    if half := not line.endswith(b"\n"):
                        break
                    self._take(line)
            if half and self._end:
                log(f"{self.path}: the last line is half-written, by a run that was killed; it is taken away")
            if half and not self._end and not HEADER.startswith(line):
                raise self._damaged_error()
            if half:
                self._truncate()
            if not self._end:
                self._append_bytes(HEADER)
        except OSError as error:
            raise self._disk_error(error) from error

    def _take(self, line: bytes) -> None:
        if self._end == 0:
            if line != HEADER:
                raise self._damaged_error()
        else:
            try:
                self._note(unseal(json.loads(line)))
            except WRONG_CONTENT as error:
                raise self._damaged_error() from error
        self._end += len(line)
        self._lines += 1

    def _note(self, entry: dict[str, Any]) -> None:
        usage = Usage(1, entry["in"], entry["out"])
        if "sent" in entry:
            self._under_way[entry["sent"]] = usage
            self.used = self.used.plus(usage)
            return
        self.used = self.used.plus(usage.minus(self._under_way.pop(entry["over"])))
        if "text" in entry:
            self.answers[entry["over"]] = JudgeAnswer(entry["text"], entry["cut"])

    def _append(self, entry: dict[str, Any]) -> None:
        try:
            self._append_bytes(json.dumps(seal(entry)).encode() + b"\n")
        except OSError as error:
            raise self._disk_error(error) from error
        self._note(entry)

    def _append_bytes(self, line: bytes) -> None:
        """Append without a sync: a killed process loses nothing of it, a power cut at most calls that are not over."""
        if self._file is None:
            raise RuntimeError("the journal is not open")
        written = 0
        try:
            while written < len(line):
                written += self._file.write(line[written:])
        except OSError:
            self._truncate()  # else the next line would be written behind half of this one
            raise
        self._end += len(line)
        self._lines += 1

    def _truncate(self) -> None:
        if self._file is not None:
            self._file.truncate(self._end)

    def _damaged_error(self) -> JudgeError:
        if self._end == 0:
            return JudgeError(f"{self.path} holds something else than a judge's answers; name another file")
        return JudgeError(
            f"{self.path}: line {self._lines + 1} is damaged; take it away and run again, and only what it held is "
            "asked anew"
        )

    def _disk_error(self, error: OSError) -> JudgeError:
        return JudgeError(
            f"cannot write the judge's answers to {self.path}: {error.strerror}; what stands there stays good, so "
            "mend the cause and run the same again"
        )
