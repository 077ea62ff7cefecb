"""A document that was changed is noticed when it is read; one of before, without a digest, is taken as it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from handpick.errors import StoreError
from handpick.sealed import read_sealed, seal, unseal, write_sealed

DOCUMENT: dict[str, Any] = {"b": [1, 2.5, 1e-30, None, True], "a": {"ü": "\ud800 é", "n": {}}, "t": (1, 2)}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.json", DOCUMENT)
    assert read_sealed(tmp_path / "a.json", "remove it") == DOCUMENT | {"t": [1, 2]}


def test_the_order_of_keys_does_not_count() -> None:
    assert seal(DOCUMENT)["digest"] == seal(dict(reversed(DOCUMENT.items())))["digest"]


def test_every_changed_letter_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_sealed(path, {"name": "x", "values": [10, 0.5]}, indent=None)
    good = path.read_bytes()
    own_name = good.index(b'"digest"')
    for at, byte in enumerate(good.rstrip()):
        if chr(byte) != " " and not own_name < at < own_name + len('"digest'):
            path.write_bytes(good[:at] + bytes([byte ^ 2]) + good[at + 1 :])
            with pytest.raises(StoreError, match=rf"^{path} is damaged \(.*\); remove it$"):
                read_sealed(path, "remove it")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"a"', '{"a": 1, "digest": "0"}', "[" * 100_000])
def test_what_is_no_document_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(StoreError, match="is damaged"):
        read_sealed(tmp_path / "a.json", "remove it")


def test_one_of_before_has_no_digest() -> None:
    assert unseal(json.loads('{"a": 1}')) == {"a": 1}
