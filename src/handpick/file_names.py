"""Names that users give to targets and studies and that become names of files: each stays in its folder, and apart."""

from collections.abc import Iterable

from handpick.errors import SettingsError
from handpick.terminal import escape_controls, is_text

_BYTES = 100  # what a file system leaves beside our own words and a temporary name's: most take 255
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}


def check_file_name(name: str, what: str) -> str:
    """Return a name that can be one of a file or folder on any system, and of none outside the folder it is put in.

    Args:
        name: as the user gave it.
        what: it names, as a sentence begins with it: "the target".

    Raises:
        SettingsError: it is none.
    """
    wrong = _what_is_wrong(name)
    if wrong:
        shown = escape_controls(name if len(name) <= _BYTES else f"{name[:_BYTES]}…")
        raise SettingsError(f"{what} {shown!r} cannot be named so, since files are called by it: {wrong}; rename it")
    return name


def check_file_names(names: Iterable[str], what: str) -> None:
    """Check several, and that no two are one file where capitals do not count.

    Raises:
        SettingsError: one is no name of a file, or two are the same.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(check_file_name(name, what).casefold(), name)
        if other != name:
            raise SettingsError(
                f"{what} {name!r} and {other!r} differ by capitals alone, and are one file on some systems: rename one"
            )


def _what_is_wrong(name: str) -> str:
    if not name.strip():
        return "it is empty"
    if not is_text(name) or escape_controls(name) != name or "\n" in name or "\t" in name:
        return "it holds what is no letter"
    if "/" in name or "\\" in name:
        return "it has a / or a \\ in it"
    if name != name.strip() or name.endswith("."):
        return "it begins or ends with a space, or ends with a full stop"
    if name.partition(".")[0].strip().casefold() in _RESERVED:
        return "Windows keeps it for a device"
    if len(name.encode()) > _BYTES:
        return f"it is longer than {_BYTES} bytes"
    return ""
