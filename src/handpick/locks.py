"""Locks on open files. The system lets go of one when its file is closed: also when a process ends, however it does.

On a file system that keeps no locks, what is written whole (``handpick.files``) and a folder that a run is in
(``handpick.own_folder``) do without: nothing that dead processes have left is swept, and that nothing keeps a second
run out is said. What several processes add to (answers, samples, what a judge said) is refused there.
"""

from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows, and Python in a browser
    raise ImportError(
        "handpick runs on Linux and macOS: it needs their locks on files (fcntl); on Windows, run it in WSL"
    ) from None


def lock_file(file: int | IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Lock an open file for as long as it is open.

    Args:
        file: it, or its descriptor.
        shared: whether others may have it too, if they ask for the same.
        wait: whether to wait until nobody else has it.

    Raises:
        BlockingIOError: another process has it, and there is no waiting.
        OSError: its file system keeps no locks, which it says.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"its file system keeps no locks ({error.strerror or error})") from error
