"""Rows of columnar data (Parquet, Arrow) as records: each value in its JSON form, none takes its row away.

A column of ``datasets``' type ``Json``, or of Arrow's, holds JSON text and is decoded.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from handpick.data.containers.json_form import json_form, seconds_form
from handpick.data.containers.record import Records, Say, record_of_json
from handpick.data.json_rules import JsonReader
from handpick.errors import DataError, first_line

ROWS_AT_A_TIME = 1000
_Decode: TypeAlias = Callable[[Any], Any]
_NANOSECONDS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def column_records(batches: Iterable[pa.RecordBatch | pa.Table], where: str, say: Say) -> Records:
    """Yield every row as a record, good and bad; ``line`` is the row.

    Args:
        batches: of one schema.
        where: what the rows are from, for messages.
        say: told, once a column, of values that are read as something else.

    Raises:
        DataError: two columns have one name.
    """
    line = 0
    try:
        for batch in batches:
            check_layout(batch, where)
            as_before = _is_read_as_before(batch.schema)
            for value in _rows(batch, where, say):
                line += 1
                record = record_of_json(line, value)
                yield record if as_before else record._replace(as_before=False)
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is damaged: the name of a column is not UTF-8: {first_line(error)}") from error


def check_layout(batch: pa.RecordBatch | pa.Table, where: str) -> None:
    """Refuse columns that point outside of their own data, which Arrow reads as they are written.

    Text that is no UTF-8 is let through: it is found, and set aside, record by record.

    Raises:
        DataError: one does.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for part in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
            try:
                _check_array(part)
            except (pa.ArrowException, ValueError, OverflowError) as error:
                raise DataError(
                    f"{where} is damaged: the column {name!r} cannot be read: {first_line(error)}"
                ) from error


def _check_array(array: pa.Array) -> None:
    try:
        array.validate(full=True)
        return
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
    # Arrow looks no further than the text; what is around it is looked at without
    if isinstance(array, pa.ExtensionArray):
        _check_array(array.storage)
    elif isinstance(array, pa.DictionaryArray):
        _check_array(array.dictionary)
        array.indices.validate(full=True)
    elif isinstance(array, pa.StructArray):
        for i in range(array.type.num_fields):
            _check_array(array.field(i))
    elif isinstance(array, pa.ListArray | pa.LargeListArray | pa.MapArray):
        kind = pa.LargeListArray if isinstance(array, pa.LargeListArray) else pa.ListArray
        kind.from_arrays(array.offsets, pa.nulls(len(array.values))).validate(full=True)
        _check_array(array.values)
    elif isinstance(array, pa.FixedSizeListArray):
        _check_array(array.values)
    elif not _is_text(array.type):
        raise pa.ArrowInvalid("text that is no UTF-8 in a column of a kind that cannot be looked into")


def _is_read_as_before(schema: pa.Schema) -> bool:
    """Return whether the first rule (``handpick.data.version``) had the same form for every column, or none."""
    forms = (_what_json_lacks(field.type) for field in schema)
    return not json_decoders(schema) and all(form in (None, _TIME, _NOT_FINITE) for form in forms)


def json_decoders(schema: pa.Schema) -> dict[str, Callable[[Any], Any]]:
    """Return what decodes the columns that hold JSON text, by their names."""
    features = _features(schema)
    found = {field.name: _decoder(field.type, features.get(field.name)) for field in schema}
    return {name: decode for name, decode in found.items() if decode}


def _rows(batch: pa.RecordBatch | pa.Table, where: str, say: Say) -> Iterator[dict[str, Any]]:
    names = batch.schema.names
    if repeated := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{where} has two columns named {sorted(repeated)[0]!r}; rename one")
    features = _features(batch.schema)
    for start in range(0, batch.num_rows, ROWS_AT_A_TIME):
        part = batch.slice(start, ROWS_AT_A_TIME)
        columns = [_values(part.column(name), part.schema.field(name), features.get(name), say) for name in names]
        for i in range(part.num_rows):
            yield {name: column[i] for name, column in zip(names, columns, strict=True)}


def _features(schema: pa.Schema) -> Mapping[str, Any]:
    """Return what ``datasets`` noted of the columns' types, if it wrote the file."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _values(column: pa.Array | pa.ChunkedArray, field: pa.Field, feature: object, say: Say) -> list[Any]:
    """Return the values of a column in their JSON forms."""
    try:
        maps: Literal["strict"] | None = "strict" if "map<" in str(field.type) else None  # slower, where there are none
        values: list[Any] = column.to_pylist(maps_as_pydicts=maps)
    except (ValueError, OverflowError, KeyError, pa.ArrowException):  # one that Python cannot hold, or not UTF-8
        values = [_value(scalar) for scalar in column]
    if decode := _decoder(field.type, feature):
        values = [decode(value) for value in values]
    if what := _what_json_lacks(field.type):
        forms = [json_form(value) for value in values]
        if what != _TIME and forms != values:
            say(f"JSON has no word for all of the column {field.name!r} ({field.type}): {what}")
        values = forms
    return values


def _decoder(type: pa.DataType, feature: object) -> _Decode | None:
    """Return what decodes the JSON text in a column, None where there is none."""
    name = feature.get("_type") if isinstance(feature, dict) else None
    if name == "Json" or (isinstance(type, pa.BaseExtensionType) and type.extension_name == "arrow.json"):
        return _load_json
    if isinstance(type, pa.BaseExtensionType):
        return _decoder(type.storage_type, feature)
    if _is_list(type):
        own = feature[0] if isinstance(feature, list) and feature else None
        if isinstance(feature, dict) and isinstance(name, str):
            own = feature.get("feature")
        of_element = _decoder(type.value_type, own)
        return of_element and (lambda value: value if value is None else [of_element(each) for each in value])
    if pa.types.is_struct(type):
        fields = feature if isinstance(feature, dict) else {}
        found = ((each.name, _decoder(each.type, fields.get(each.name))) for each in type)
        by_field = {name: decode for name, decode in found if decode}
        return _of_fields(by_field) if by_field else None
    if pa.types.is_map(type) and (of_item := _decoder(type.item_type, None)):
        return lambda value: value if value is None else {key: of_item(each) for key, each in value.items()}
    return None


def _of_fields(by_field: Mapping[str, _Decode]) -> _Decode:
    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: by_field[name](each) if name in by_field else each for name, each in value.items()}

    return decode


def _load_json(text: Any) -> Any:
    """Return what JSON text holds; the text itself where it is none, or readers disagree on what it holds."""
    if not isinstance(text, str):
        return text
    reader = JsonReader(lambda name: None)
    try:
        value = reader.decode(text)
    except (ValueError, RecursionError):
        return text
    return text if reader.wrong else value


_TIME = "ISO 8601 text"
_NOT_FINITE = "null stands for NaN and infinity"


def _what_json_lacks(type: pa.DataType) -> str | None:
    """Return how values of a type are read that JSON has no word for; None where it has one for each."""
    types = pa.types
    if isinstance(type, pa.BaseExtensionType):
        return None if type.extension_name == "arrow.json" else _what_json_lacks(type.storage_type) or _TIME
    if types.is_struct(type):
        return next(filter(None, (_what_json_lacks(each.type) for each in type)), None)
    if types.is_map(type):
        return "objects, the keys as text"
    if _is_list(type) or types.is_dictionary(type) or types.is_run_end_encoded(type):
        return _what_json_lacks(type.value_type)
    if types.is_null(type) or types.is_boolean(type) or types.is_integer(type) or _is_text(type):
        return None
    if types.is_floating(type):
        return _NOT_FINITE
    if types.is_decimal(type):
        return "their digits as text"
    if types.is_date(type) or types.is_time(type) or types.is_timestamp(type):
        return _TIME
    if types.is_duration(type) or types.is_interval(type):
        return "ISO 8601 durations as text"
    return "text where bytes are UTF-8, else Base64"


def _is_list(type: pa.DataType) -> bool:
    types = pa.types
    return any(
        bool(test(type))
        for test in (
            types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view,
        )
    )  # fmt: skip


def _is_text(type: pa.DataType) -> bool:
    return bool(pa.types.is_string(type)) or pa.types.is_large_string(type) or pa.types.is_string_view(type)


def _value(scalar: pa.Scalar) -> Any:
    """Return one value, part by part, so that what Python cannot hold spoils nothing beside it."""
    if not scalar.is_valid:
        return None
    type = scalar.type
    if isinstance(scalar, pa.ExtensionScalar | pa.DictionaryScalar | pa.RunEndEncodedScalar | pa.UnionScalar):
        return _value(scalar.value if not isinstance(scalar, pa.RunEndEncodedScalar) else scalar.as_py())
    if pa.types.is_struct(type):
        return {field.name: _value(scalar[i]) for i, field in enumerate(type)}
    if pa.types.is_map(type):
        return _map([(_value(pair[0]), _value(pair[1])) for pair in scalar.values])
    if _is_list(type):
        return [_value(each) for each in scalar.values]
    if _is_text(type):
        return scalar.as_buffer().to_pybytes().decode("utf-8", errors="surrogateescape")
    try:
        return scalar.as_py()
    except (ValueError, OverflowError, KeyError, pa.ArrowException):  # KeyError: pytz, where it is, knows no such zone
        return _out_of_range(scalar)


def _map(pairs: list[tuple[Any, Any]]) -> Any:
    """Return a map; one with a key twice, of which an object would lose a value, as a list of its entries."""
    keys = [json.dumps(json_form(key)) for key, _ in pairs]
    if len(set(keys)) == len(keys):
        return {key if isinstance(key, str) else json.dumps(json_form(key)): value for key, value in pairs}
    return [{"key": key, "value": value} for key, value in pairs]


def _out_of_range(scalar: pa.Scalar) -> Any:
    """Return a point in time or a duration that Python's own types cannot hold, or whose time zone nobody knows."""
    if pa.types.is_duration(scalar.type):
        return seconds_form(scalar.value * _NANOSECONDS[scalar.type.unit])
    try:
        return scalar.cast(pa.timestamp(scalar.type.unit, "UTC")).as_py()
    except (AttributeError, ValueError, OverflowError, pa.ArrowException):
        return scalar.value  # the count since 1970, in the column's unit
