"""What a disk refuses while a model is written, as one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from handpick.errors import StoreError, system_error_number


@contextmanager
def translate_disk_errors(what: str, then: str = "") -> Iterator[None]:
    """Turn what the file system, safetensors, tokenizers or torch.save cannot write while open into a StoreError.

    Args:
        what: is written, and where to: "the model to runs/a".
        then: a sentence on what is not lost.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        yield
    except Exception as error:
        if not _is_of_the_disk(error):
            raise
        first_line = (str(error).splitlines() or [""])[0]
        code = system_error_number(error)
        guess = "; is the disk full?" if code in (None, errno.ENOSPC, errno.EDQUOT) else "." if then else ""
        raise StoreError(f"cannot write {what}{guess}{then and ' ' + then} ({first_line})") from error


def _is_of_the_disk(error: Exception) -> bool:
    said = str(error)
    if isinstance(error, RuntimeError):
        return "inline_container" in said  # torch.save on a full disk
    # tokenizers raises a bare Exception with the words of Rust
    return isinstance(error, OSError | SafetensorError) or (
        type(error) is Exception and system_error_number(error) is not None
    )
