"""What a disk refuses while a model is written, as one sentence."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from handpick.errors import StoreError


@contextmanager
def translate_disk_errors(what: str, then: str = "") -> Iterator[None]:
    """Turn what the file system, safetensors or torch.save cannot write while open into a StoreError.

    Args:
        what: is written, and where to: "the model to runs/a".
        then: a sentence on what is not lost.

    Raises:
        StoreError: it cannot be written.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "inline_container" not in str(error):  # torch.save on a full disk
            raise
        first_line = (str(error).splitlines() or [""])[0]
        other = isinstance(error, OSError) and error.errno not in (None, errno.ENOSPC, errno.EDQUOT)
        guess = ("." if then else "") if other else "; is the disk full?"
        raise StoreError(f"cannot write {what}{guess}{then and ' ' + then} ({first_line})") from error
