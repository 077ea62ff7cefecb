"""YAML and JSON of settings and records: values, or one sentence."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handpick.documents import as_kind, parse_yaml, read_object, read_yaml_mapping, reading
from handpick.errors import SettingsError, StoreError
from handpick.flag_names import check_values, show_value
from handpick.settings import Settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1\nb: [x, 2.5, null, true]", {"a": 1, "b": ["x", 2.5, None, True]}),
        ("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}", {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}}),
        ("name: 2024-01-31\nday: 2024-13-45", {"name": "2024-01-31", "day": "2024-13-45"}),
        ("", None),
        ("'3': 4", {"3": 4}),
    ],
)
def test_values(text: str, value: object) -> None:
    assert parse_yaml(text) == value


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("null: 3", "the key '.*' in line 1 is no text"), ("3: 4", "the key '3' in line 1 is no text"),
        ("a:\n  true: 4", "the key 'true' in line 2"), ("? [a]\n: 2", "is no text"), ("? {a: b}\n: 2", "is no text"),
        ("a: 1\na: 2", "the key 'a' stands twice, again in line 2"), ("t: {x: 1, 'x': 2}", "'x' stands twice"),
        (f"budget: {'9' * 5000}", "the number in line 1 is too large"), (f"a: 0x{'f' * 20}", "too large"),
        (f"pool: {'[' * 3000}{']' * 3000}", "nested too deep"), (f"a: {'[' * 150}{']' * 150}", "nested too deep"),
        ("a: &a [*a]", "an alias stands for what it is in"), ("&a a: *a", ""), (LAUGHS, "more than 1,000,000 values"),
        ("a:\tb\n\tc: d", "cannot start any token|mapping values"), ('a: "\\ud800"', "what is no character"),
        ('a: "x\\0y"', "what is no character"), ("a: \0", "special characters"), ("!!python/object:os.system a", "tag"),
        ("a: !!binary é", "."), ("a: !!timestamp x", "."), ("a: !!int ''", "."), ("a: !!float ''", "."),
        ("a: !!bool maybe", "."), ("- a\n- b\nc", "."), ("%YAML 9", "."), ("--- a\n--- b", "."),
    ],
)  # fmt: skip
def test_what_no_setting_is_said_by(text: str, why: str) -> None:
    if text == "&a a: *a":
        assert parse_yaml(text) == {"a": "a"}
        return
    with pytest.raises(ValueError, match=why) as raised:
        parse_yaml(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 500


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_what_is_written_is_read(value: object) -> None:
    text = yaml.safe_dump(value, allow_unicode=True, sort_keys=False)
    try:
        assert parse_yaml(text) == yaml.safe_load(text)
    except ValueError as error:
        assert "what is no character" in str(error) or "special characters" in str(error)  # noqa: PT017


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "x"]), VALUES, max_size=3))
def test_settings_are_read_or_said(values: dict[str, object]) -> None:
    from handpick.settings import parse_settings

    try:
        parse_settings(values, where="file")
    except SettingsError as error:
        assert str(error)  # noqa: PT017


def test_a_file_is_named_in_whatever_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text in ("", "[", "[]", "{", '{"a": 1', "null", "[" * 9999):
        path.write_text(text)
        with pytest.raises(StoreError, match=r"x\.json is damaged, or none of ours .*; remove it"):
            read_object(path, StoreError, "remove it")
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(StoreError, match=r"x\.json is damaged"):
        read_object(path, StoreError, "remove it")
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "none", StoreError, "remove it")
    with pytest.raises(StoreError, match="cannot be read: Is a directory; remove it"):
        read_yaml_mapping(tmp_path, StoreError, "remove it")
    with pytest.raises(StoreError, match=r"it has no 'b'"), reading(path, StoreError, "remove it"):
        json.loads("{}")["b"]


def test_a_fault_of_ours_is_none_of_the_files(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), reading(tmp_path, StoreError, "remove it"):
        raise AssertionError


def test_an_object_is_held_to_its_types() -> None:
    from handpick.data.unwritten import Unwritten

    assert as_kind(Unwritten, {"records": 3, "first": "a"}) == Unwritten(3, "a")
    for wrong in ({"records": "x", "first": "a"}, {"records": 3}, [], None, {"records": 3, "first": []}):
        with pytest.raises(ValueError, match=":"):
            as_kind(Unwritten, wrong)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"out": ""}, "out is empty"),
        ({"pool": ["p\udcff"]}, r"pool holds 'p\\udcff', which is no UTF-8 text"), ({"seed": 10**5000}, "64 bits"),
        ({"a": {"b": [{"c": "\0"}]}}, "a holds"), ({"a": {"\ud800": 1}}, "a holds"), ({"a": [-(2**63)]}, "64 bits"),
    ],
)  # fmt: skip
def test_what_no_setting_may_be(values: dict[str, object], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        check_values(values)


def test_a_wrong_value_is_shown_whatever_it_is() -> None:
    loop: list[object] = []
    loop.append(loop)
    assert show_value("a\x1b[1m") == r"'a\x1b[1m'"
    assert show_value(10**5000) == "such a int"
    assert len(show_value("x" * 10**6)) < 300
    assert show_value(loop) == "[[...]]"


@pytest.mark.parametrize("name", ["kde_width", "prefilter_share", "max_cosine", "overlap_threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "-inf"])
def test_no_setting_is_without_end(name: str, value: object) -> None:
    from handpick.settings import parse_settings

    with pytest.raises(SettingsError, match=name):
        parse_settings({name: [value] if name == "prefilter_share" else value})
