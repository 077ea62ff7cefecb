"""What a chat template is told: how it is written down, and what is refused."""

from typing import Any

import pytest

from handpick.data.template_args import parse_template_args
from handpick.errors import SettingsError


def test_values_are_json_where_they_are_some_and_else_text() -> None:
    given = ["a=false", "b=3", "c=null", 'd={"x": [1]}', "e=low", 'f="3"', "g=", "h=x=y", "i=NaN"]
    parsed = {"a": False, "b": 3, "c": None, "d": {"x": [1]}, "e": "low", "f": "3", "g": "", "h": "x=y", "i": "NaN"}
    assert parse_template_args(given) == parsed
    assert parse_template_args(parsed) == parsed


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["enable_thinking"], "--template-arg should be NAME=VALUE, not ['enable_thinking']"),
        ("a=1", "--template-arg should be NAME=VALUE, not 'a=1'"),
        (["=1"], "should be NAME=VALUE with a name as templates have it, and '' is none"),
        (["enable-thinking=1"], "and 'enable-thinking' is none"),
        (["tools=[]"], "--template-arg cannot say tools, which handpick or the record says"),
        ({"add_generation_prompt": True}, "cannot say add_generation_prompt"),
        ({"a": float("inf")}, "should have a value that JSON has a word for: Out of range float"),
        (["a=1e999"], "should have a value that JSON has a word for: malformed JSON: the number 1e999 is beyond"),
        (['a={"b": 1, "b": 2}'], "should have a value that JSON has a word for: ambiguous JSON: the key 'b' stands"),
        ({"a": {1, 2}}, "should have a value that JSON has a word for: Object of type set"),
    ],
)
def test_what_is_refused(given: Any, message: str) -> None:
    with pytest.raises(SettingsError) as told:
        parse_template_args(given)
    assert message in str(told.value)
