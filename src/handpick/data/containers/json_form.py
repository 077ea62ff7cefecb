"""The JSON form of values that JSON has no word for, of columnar files and of Python.

| value | JSON |
|---|---|
| decimal | its digits as text |
| date, time, point in time | ISO 8601 text |
| duration, calendar interval | ISO 8601 text, ``PT1.5S`` |
| bytes | text where they are UTF-8, else Base64 |
| NaN, infinity, pandas' NA and NaT | null |
| map | an object; keys that are no text are written as JSON |
| UUID | text |
| NumPy's numbers and arrays | numbers and lists |
"""

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from handpick.data.examples import Json
from handpick.data.json_rules import WrittenNumber

_NANOSECONDS = 1_000_000_000


def json_form(value: Any) -> Json:
    """Return the JSON form of a value; one that has a word in JSON stays as it is.

    Raises:
        TypeError: it has no form.
        RecursionError: it is nested too deep.
    """
    if value is None or isinstance(value, str | int):  # bool is an int
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return value if isinstance(value, WrittenNumber) else float(value)
    if isinstance(value, list):
        return [json_form(each) for each in value]
    if isinstance(value, Mapping):
        return {_key(key): json_form(each) for key, each in value.items()}
    for kind, form in _FORMS:
        if isinstance(value, kind):
            return form(value)
    if type(value).__name__ == "NAType":  # pandas', which need not be installed
        return None
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def seconds_form(nanoseconds: int) -> str:
    """Return a duration as ISO 8601 text, exact."""
    whole, rest = divmod(abs(nanoseconds), _NANOSECONDS)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return f"{'-' if nanoseconds < 0 else ''}PT{whole}{fraction}S"


def bytes_form(value: bytes) -> str:
    """Return bytes as the text they are in UTF-8, else in Base64."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii")


def _key(key: Any) -> str:
    form = json_form(key)
    return form if isinstance(form, str) else json.dumps(form)


def _point_in_time(value: date | time) -> Json:
    return value.isoformat() if value == value else None  # pandas' NaT is a datetime, and unequal to itself


def _duration(value: timedelta) -> Json:
    whole = (value.days * 86_400 + value.seconds) * _NANOSECONDS + value.microseconds * 1000
    return seconds_form(whole + getattr(value, "nanoseconds", 0))  # pandas' Timedelta has some


def _interval(value: pa.MonthDayNano) -> Json:
    return f"P{value.months}M{value.days}D" + seconds_form(value.nanoseconds).replace("P", "")


def _numpy_value(value: np.generic | np.ndarray) -> Json:
    if isinstance(value, np.ndarray):
        return [_numpy_value(each) for each in value] if value.dtype.kind in "mM" else json_form(value.tolist())
    if isinstance(value, np.datetime64 | np.timedelta64):
        if np.isnat(value):
            return None
        if isinstance(value, np.datetime64):
            return str(value)
        return seconds_form(int(value.astype("timedelta64[ns]").astype(np.int64)))
    return json_form(value.item())


_FORMS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Json]], ...] = (
    (Decimal, lambda value: format(value, "f") if value.is_finite() else None),
    ((datetime, date, time), _point_in_time),
    (timedelta, _duration),
    ((bytes, bytearray, memoryview), lambda value: bytes_form(bytes(value))),
    (pa.MonthDayNano, _interval),
    (tuple, lambda value: [json_form(each) for each in value]),
    (UUID, str),
    ((np.generic, np.ndarray), _numpy_value),
)
