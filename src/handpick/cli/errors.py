"""Errors and interrupts as one line each, for every command."""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from handpick.errors import HandpickError, is_out_of_memory, system_error_number
from handpick.terminal import as_one_line

TRACEBACK = "HANDPICK_TRACEBACK"  # in the environment: faults of our own come with all that led to them
_KEPT = "What was computed is kept"
OUR_FAULT = 70  # the exit status of a fault of our own, as sysexits has it


@contextmanager
def report_errors() -> Iterator[None]:
    """Report an error as one line, an interrupt as one line, and no wall of warnings from libraries.

    What a user can cause exits with 2. What nothing foresaw is a fault of handpick's: it is said so, in one line too,
    and exits with 70.
    """
    import warnings

    from handpick.allocator import keep_freed_memory
    from handpick.progress import log, quiet_libraries, saying_once

    _escape_what_the_locale_lacks()
    try:
        with warnings.catch_warnings(), saying_once():
            warnings.simplefilter("ignore")
            keep_freed_memory()
            quiet_libraries()
            yield
    except HandpickError as error:
        log(f"handpick: {as_one_line(error)}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        log(f"handpick: stopped. {_KEPT}; the same command goes on from here.")
        raise typer.Exit(130) from None
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            log(f"handpick: out of memory. {_KEPT}; with more memory the same command goes on from here.")
            raise typer.Exit(2) from None
        if isinstance(error, OSError) or system_error_number(error) is not None:
            log(f"handpick: {as_one_line(error)}. {_KEPT}; mend the cause, and the same command goes on from here.")
            raise typer.Exit(2) from None
        log(f"handpick: {_describe_fault(error)}")
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        raise typer.Exit(OUR_FAULT) from None


def _describe_fault(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}handpick{os.sep}" in frame.filename] or frames
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
    said = as_one_line(error)[:300]
    return (
        f"a fault of handpick's own, {type(error).__name__} in {where}{': ' * bool(said)}{said}; please report it, "
        f"with the traceback that {TRACEBACK}=1 shows"
    )


def _escape_what_the_locale_lacks() -> None:
    """Let standard streams write what their encoding has no bytes for as an escape, where they would raise."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
