from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handpick.errors import DataError, FingerprintMismatch
from handpick.fingerprint import Fingerprint, digest, file_digest, first_difference, require_same

# of six digits and no negative zero, so that two are equal or have more than rounding between them
floats = st.floats(allow_nan=False, allow_infinity=False).map(lambda value: float(f"{value:.6g}") + 0.0)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fingerprints = st.dictionaries(st.text(), json_values, max_size=3)


def test_digest_is_a_fixed_function_of_the_content() -> None:
    assert digest({"b": [1, None], "a": "ü"}) == digest({"a": "ü", "b": [1, None]}) == "9d57496cc00f5bc8"
    assert digest({"a": 1}) != digest({"a": 1.0})


def test_digest_refuses_what_json_cannot_say() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest({"rate": float("nan")})
    with pytest.raises(TypeError):
        digest({"path": Path("here")})


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_digest(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    with pytest.raises(DataError, match="none: No such file"):
        file_digest(tmp_path / "none")


@pytest.mark.parametrize(
    ("there", "here", "difference"),
    [
        ({"proj": {"dim": 8, "seed": 0}}, {"proj": {"seed": 1, "dim": 8}}, "proj.seed is 0 there and 1 here"),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, "b is 2 there and 3 here"),
        ({"model": "x"}, {"model": "y"}, 'model is "x" there and "y" here'),
        ({"model": "x"}, {}, 'model is "x" there and not set here'),
        ({}, {"lora": {"r": 8}}, 'lora is not set there and {"r": 8} here'),
        ({"r": None}, {}, "r is null there and not set here"),
        ({"layers": ["q", "k"]}, {"layers": ["q", "v"]}, 'layers[1] is "k" there and "v" here'),
        ({"layers": ["q"]}, {"layers": ["q", {"r": 1}]}, 'layers[1] is not set there and {"r": 1} here'),
        ({"files": [{"rows": 1}]}, {"files": [{"rows": 2}]}, "files[0].rows is 1 there and 2 here"),
        ({"layers": ["q"]}, {"layers": {"q": 1}}, 'layers is ["q"] there and {"q": 1} here'),
        ({"on": True}, {"on": 1}, "on is true there and 1 here"),
    ],
)  # fmt: skip
def test_first_difference_names_the_setting_and_both_values(
    there: Fingerprint, here: Fingerprint, difference: str
) -> None:
    assert first_difference(there, here) == difference


def test_long_values_are_shown_where_they_part() -> None:
    difference = first_difference({"template": "x" * 500 + "A" + "y" * 500}, {"template": "x" * 500 + "B" + "y" * 500})
    assert difference is not None
    assert "xA" in difference
    assert "xB" in difference
    assert len(difference) < 200


@given(fingerprints, fingerprints)
def test_a_difference_is_found_exactly_where_the_digests_differ(there: Fingerprint, here: Fingerprint) -> None:
    assert (first_difference(there, here) is None) == (digest(there) == digest(here))


def test_rounding_is_no_difference() -> None:
    """A weight that an older handpick made on Python 3.11 has other last bits than the same one made today."""
    assert first_difference({"w": [{"weight": 0.1 + 0.2}]}, {"w": [{"weight": 0.3}]}) is None
    assert first_difference({"rate": 1e-5}, {"rate": 1.0000001e-5}) == "rate is 1e-05 there and 1.0000001e-05 here"
    assert first_difference({"share": 0.0}, {"share": 1e-300}) == "share is 0.0 there and 1e-300 here"


def test_require_same() -> None:
    require_same({"a": 1, "b": 2}, {"b": 2, "a": 1}, what="the store")
    with pytest.raises(FingerprintMismatch, match=r"^the store runs/x does not match: a is 1 there and 2 here; use "):
        require_same({"a": 1}, {"a": 2}, what="the store runs/x")


FILE = {"sha256": "a", "rows": 8}


@pytest.mark.parametrize(
    ("there", "here", "rules"),
    [
        ({"files": [FILE]}, {"files": [{"sha256": "a", "record_rule": 2, "rows": 9}]}, "record rule 1, now 2"),
        ({"files": [{"sha256": "a", "record_rule": 2, "rows": 8}]}, {"files": [FILE]}, "record rule 2, now 1"),
        ({"space": {"template": "t"}}, {"space": {"template": "t", "record_rule": 3}}, "record rule 1, now 3"),
    ],
)
def test_another_reading_of_the_same_is_named(there: Fingerprint, here: Fingerprint, rules: str) -> None:
    with pytest.raises(FingerprintMismatch) as told:
        require_same(there, here, what="the store runs/x")
    assert str(told.value) == (
        f"the store runs/x was made when handpick read records otherwise ({rules}): make it anew, or choose another "
        "--out or --store"
    )


def test_what_is_not_the_same_at_all_is_named_before_how_it_is_read() -> None:
    with pytest.raises(FingerprintMismatch, match=r'files\[0\]\.sha256 is "a" there and "b" here'):
        require_same({"files": [FILE]}, {"files": [{"sha256": "b", "record_rule": 2, "rows": 8}]}, what="the store")
