"""Everything handpick raises on purpose.

A message is one sentence or two: what is wrong, where, and what to do. The command line prints it as
one line and exits with 2; the library raises it as it is.
"""

import errno
import mmap
import os
import re

_NOT_THERE = (errno.ENOENT, errno.EISDIR, errno.ENOTDIR)
_SYSTEM_WORDS = re.compile(r"([A-Z][^():]*) \((?:os error )?(\d{1,3})\)")


class HandpickError(Exception):
    """Base of every error a user can cause and can mend."""


def first_line(error: BaseException) -> str:
    """Return the first line of what another library says, its kind where it says nothing.

    Where that line ends in a colon, what it announces is added.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[: 2 if lines[0].endswith(":") else 1])


def system_error_number(error: BaseException) -> int | None:
    """Return the number of the system's refusal that an error tells of, whoever raises it; None where it tells of none.

    PyTorch and libraries in Rust raise errors of their own with the system's words and number: "Too many open files
    (24)", "No space left on device (os error 28)".
    """
    if isinstance(error, OSError):
        return error.errno
    for words, number in _SYSTEM_WORDS.findall(str(error)):
        if words == os.strerror(int(number)):
            return int(number)
    return None


def is_refused(error: BaseException) -> bool:
    """Return whether an error tells of what the system refuses (a handle, memory, permission, a disk), whoever says it.

    It says nothing of what a file holds then, so nobody is to be told that it is damaged, or to remove it. That there
    is no such file, or a folder in its place, is no such refusal.
    """
    return is_out_of_memory(error) or system_error_number(error) not in (None, *_NOT_THERE)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, whoever says it.

    PyTorch has an error of its own for a GPU's, and for the machine's a RuntimeError like any other.
    """
    said = str(error)
    return (
        isinstance(error, MemoryError)
        or system_error_number(error) == errno.ENOMEM
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in said or "can't start new thread" in said))
        # of a module in C that found none, and did not say so
        or (isinstance(error, SystemError) and not _is_memory_left())
    )


def _is_memory_left() -> bool:
    try:
        mmap.mmap(-1, 1 << 24).close()
    except OSError:
        return False
    return True


class DataError(HandpickError):
    """A pool, a query set or a record cannot be used."""


class SettingsError(HandpickError):
    """A setting is out of range, contradicts another, or names something that is not there."""


class ModelError(HandpickError):
    """A model, tokenizer, adapter or checkpoint cannot be used, or has a layer that is not supported."""


class FingerprintMismatch(HandpickError):
    """Two things that must come from the same model, data or settings do not."""


class StoreError(HandpickError):
    """A feature store is missing, damaged, incomplete or full."""


class SimilarityError(HandpickError):
    """A similarity matrix holds a value that is not finite, or has the wrong shape."""


class SandboxError(HandpickError):
    """A sandbox for code that nobody has read cannot be made."""


class JudgeError(HandpickError):
    """A judge cannot be asked: a cap is reached, its server refuses, or the file with its answers cannot be used."""


class AuditionError(HandpickError):
    """No candidate of an audition beat random draws, and nothing was to be chosen then."""


class WorkerError(HandpickError):
    """Processes that share the work out die again and again, or one failed in a way that none should."""
