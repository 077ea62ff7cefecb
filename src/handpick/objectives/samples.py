"""Samples and their rewards on disk, so that neither a crash nor another reward draws again.

One JSON line a prompt, in files named by the digest of all they depend on; a last line that a kill cut short is
dropped. Rewards have files of their own.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from handpick.errors import StoreError
from handpick.sampling.generate import Sample


class Journal:
    """A JSON Lines file that is only added to, with a key a line.

    Args:
        path: its folder is made if need be.

    Raises:
        StoreError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[str, Any] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.read_bytes() if path.exists() else b""
            good = whole[: whole.rfind(b"\n") + 1]
            if len(good) < len(whole):
                with path.open("r+b") as file:
                    file.truncate(len(good))
            for line in good.splitlines():
                entry = json.loads(line)
                self._found[entry["key"]] = entry["value"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} cannot be read ({error}): remove it, and it is made anew") from error

    def __contains__(self, key: str) -> bool:
        return key in self._found

    def __getitem__(self, key: str) -> Any:
        return self._found[key]

    def values(self) -> Iterable[Any]:
        return self._found.values()

    def add(self, entries: Iterable[tuple[str, Any]]) -> None:
        """Write entries behind the others.

        Raises:
            StoreError: the file system refuses; what was there before stays good.
        """
        new = dict(entries)
        lines = [json.dumps({"key": key, "value": value}, ensure_ascii=False) + "\n" for key, value in new.items()]
        try:
            with self.path.open("ab") as file:
                file.write("".join(lines).encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written ({error.strerror}); free space there") from error
        self._found |= new


def to_json(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    return [{"ids": sample.ids, "text": sample.text} for sample in samples]


def from_json(values: Iterable[dict[str, Any]]) -> list[Sample]:
    return [Sample(value["ids"], value["text"]) for value in values]
