"""What is no records is refused by what it is."""

import bz2
import io
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from handpick.errors import DataError
from tests.data.containers.reading import read

TEXT = '{"prompt": "é"}\n{"prompt": "b"}\n'


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", TEXT)
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.jsonl"))
    return out.getvalue()


def numpy_array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (TEXT.encode("utf-16"), "text in UTF-16, which cannot be read; save it as UTF-8"),
        (TEXT.encode("utf-16-le"), "text in UTF-16 or UTF-32"),
        (TEXT.encode("utf-16-be"), "text in UTF-16 or UTF-32"),
        (TEXT.encode("utf-32"), "text in UTF-32"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a pointer of Git LFS.*git lfs pull"),
        (zipped(), "a ZIP archive or a file of an office suite, which cannot be read; unpack it first"),
        (tarred(), "a tar archive"),
        (bz2.compress(TEXT.encode()), "compressed with bzip2"),
        (lzma.compress(TEXT.encode()), "compressed with xz"),
        (pickle.dumps([{"prompt": "a"}]), "a pickle, which is not loaded"),
        (numpy_array(), "an array of NumPy"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "a PDF"),
        (b"<!DOCTYPE html>\n<html><body>sign in</body></html>\n", "a page in HTML.*fetch that again"),
    ],
    # archives hold the second they were made in, and every process that runs tests has to name them alike
    ids=[
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-32",
        "lfs",
        "zip",
        "tar",
        "bzip2",
        "xz",
        "pickle",
        "numpy",
        "pdf",
        "html",
    ],
)
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} is {what}"):
            read(tmp_path / name)
