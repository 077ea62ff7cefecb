"""The names of what a record carries."""

import json

import pytest

from handpick.data.examples import Json
from handpick.data.field_names import field_names


@pytest.mark.parametrize(
    ("record", "names"),
    [
        ({}, []),
        ({"b": 1, "a": "", "none": None}, ["b", "a"]),
        ({"m": [{"role": "x"}, {"role": "y", "name": "z", "no": None}, "text"]}, ["m", "m[].role", "m[].name"]),
        ({"kwargs": {"deep": {"er": 1}, "no": None}}, ["kwargs", "kwargs.deep"]),
        ({"tags": ["a"], "ünïcode": 0}, ["tags", "ünïcode"]),
    ],
)
def test_field_names(record: dict[str, Json], names: list[str]) -> None:
    assert json.loads(field_names(record)) == names
