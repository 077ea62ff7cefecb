"""A setting's flag is said where the setting is declared, and complaints name it."""

from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from handpick.errors import SettingsError
from handpick.flag_names import NO_FLAG, Flag, flag_of, parse_settings


class Inner(BaseModel):
    size: Annotated[int, Flag("inner_size")] = Field(3, gt=0)
    hidden: Annotated[int, NO_FLAG] = 1


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str
    max_length: int = Field(8, ge=2)
    files: Annotated[list[str], Flag("file")] = []
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("path", "flag"),
    [
        (("max_length",), "--max-length"),
        (("files", 0), "--file"),
        (("inner", "size"), "--inner-size"),
        (("inner", "hidden"), "hidden"),
        (("unheard_of",), "--unheard-of"),
    ],
)
def test_the_flag_of_a_setting(path: tuple[str | int, ...], flag: str) -> None:
    assert flag_of(Outer, *path) == flag


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no model given: name one with --model"),
        ({"model": "m", "max_length": "1"}, "--max-length should be greater than or equal to 2, not '1'"),
        ({"model": "m", "files": [1]}, "--file should be a valid string, not 1"),
        ({"model": "m", "inner": {"size": 0}}, "--inner-size should be greater than 0, not 0"),
    ],
)
def test_a_complaint_is_one_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as told:
        parse_settings(Outer, values)
    assert str(told.value) == message


def test_good_values_become_settings() -> None:
    assert parse_settings(Outer, {"model": "m", "inner": {"size": "4"}}) == Outer(model="m", inner=Inner(size=4))
