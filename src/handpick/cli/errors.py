"""Errors and interrupts as one line each, for every command."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from handpick.errors import HandpickError


@contextmanager
def report_errors() -> Iterator[None]:
    """Report an error as one line, an interrupt as one line, and no wall of warnings from libraries."""
    import warnings

    from handpick.allocator import keep_freed_memory
    from handpick.progress import log, quiet_libraries, saying_once

    try:
        with warnings.catch_warnings(), saying_once():
            warnings.simplefilter("ignore")
            keep_freed_memory()
            quiet_libraries()
            yield
    except (HandpickError, OSError) as error:
        log(f"handpick: {error}")
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        log("handpick: stopped. What was computed is kept; the same command goes on from here.")
        raise typer.Exit(130) from None
