"""Names of users' that become names of files stay in their folder, on any system."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.errors import SettingsError
from handpick.file_names import check_file_name, check_file_names


@pytest.mark.parametrize("name", ["gsm8k", "a.b", "my task", "é漢", "x-1_2+3", "..x", "0", "a" * 100])
def test_a_name(name: str) -> None:
    assert check_file_name(name, "the target") == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"), (" ", "empty"), (".", "full stop"), ("..", "full stop"), ("../x", "/"), ("a/b", "/"), ("/", "/"),
        ("a\\b", "/"), ("C:\\x", "/"), ("a\0b", "no letter"), ("a\nb", "no letter"), ("\x1b[1m", "no letter"),
        ("\ud800", "no letter"), ("a ", "space"), (" a", "space"), ("a.", "full stop"), ("CON", "Windows"),
        ("nul.txt", "Windows"), ("com1", "Windows"), ("a" * 101, "100 bytes"), ("漢" * 40, "100 bytes"),
    ],
)  # fmt: skip
def test_none(name: str, why: str) -> None:
    with pytest.raises(SettingsError, match=r"the target .* cannot be named so") as raised:
        check_file_name(name, "the target")
    assert why in str(raised.value)
    assert str(raised.value).isprintable()


def test_two_that_differ_by_capitals() -> None:
    check_file_names(["a", "b", "a"], "targets:")  # the same name twice is the same target
    with pytest.raises(SettingsError, match="'A' and 'a' differ by capitals alone"):
        check_file_names(["a", "A"], "targets:")


@given(st.text(max_size=120))
def test_what_is_a_name_lies_in_its_folder(name: str) -> None:
    try:
        check_file_name(name, "x")
    except SettingsError:
        return
    path = Path("/folder") / f"predictions-{name}.jsonl"
    assert path.parent == Path("/folder")
    assert (Path("/folder") / name).parent == Path("/folder")
    assert len(path.name.encode()) < 200
