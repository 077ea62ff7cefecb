"""Files of settings, as they are written by hand."""

from pathlib import Path
from typing import Any

from handpick.documents import parse_yaml
from handpick.errors import SettingsError


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read what a file of settings holds, unchecked.

    Raises:
        SettingsError: there is no such file, or it is no YAML mapping.
    """
    try:
        loaded = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SettingsError(f"{path} is no YAML: {error}") from error
    if not isinstance(loaded, dict):
        raise SettingsError(f"{path} holds no settings: expected lines such as `pool: pool.jsonl`")
    return loaded
