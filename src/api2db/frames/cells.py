"""Cells that no column type holds: dicts, lists and mixed values, kept as JSON text.

A JSON cell holds what JSON can say. Beyond it: a Decimal and a UUID become text, dates and times ISO 8601, bytes
base64, a set a list in the order of its texts, NaN and the other missing values ``null``, an infinity the text
``"Infinity"``.
"""

import base64
import datetime
import decimal
import enum
import json
import math
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError

__all__ = ["JSON", "decode_cell", "encode_cell", "is_json", "json_array", "python_values"]

JSON: pa.DataType = pa.json_(pa.utf8())


def is_json(type_: pa.DataType) -> bool:
    """Say whether a column of this type holds JSON cells."""
    return isinstance(type_, pa.BaseExtensionType) and type_.extension_name == "arrow.json"


def encode_cell(value: object) -> str:
    """Write one cell as JSON text, with characters as they are rather than escaped.

    Raises:
        FrameError: Part of the value has no JSON form, or the value holds itself.
    """
    try:
        return _encode_plain(value)
    except (TypeError, ValueError):
        return _encode_any(value)


def decode_cell(text: str) -> Any:
    """Read back what ``encode_cell`` wrote: dicts, lists, texts, numbers, booleans and None."""
    return json.loads(text)


def json_array(values: Iterable[object]) -> pa.Array:
    """Encode every value as a JSON cell; a None is a null, not the text ``null``.

    Raises:
        FrameError: A value has no JSON form.
        UnicodeEncodeError: A text holds half of a surrogate pair.
    """
    texts = pa.array([None if value is None else encode_cell(value) for value in values], pa.utf8())
    return pa.ExtensionArray.from_storage(JSON, texts)


def python_values(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Give the values as Python's objects; times that Python's classes don't reach, such as the year 10000, as text."""
    try:
        values: list[Any] = array.to_pylist()
    except (OverflowError, ValueError):
        return [_python_value(scalar) for scalar in array]
    return values


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        text = str(scalar.value) if pa.types.is_duration(scalar.type) else str(scalar.cast(pa.utf8()))
        return text if not text.startswith("<") else f"{scalar.value} {getattr(scalar.type, 'unit', 'days')} since 1970"


_PLAIN_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_encode_plain = _PLAIN_ENCODER.encode


def _encode_any(value: object) -> str:
    try:
        return _encode_plain(_jsonable(value))
    except RecursionError:
        raise FrameError("a cell holds itself, or is nested too deeply for JSON; flatten it before the put") from None


def _jsonable(value: Any) -> object:
    if value is None or (isinstance(value, (str, int)) and not isinstance(value, enum.Enum)):
        return value
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return _jsonable_float(float(value))
    if isinstance(value, Mapping):
        return _jsonable_mapping(value)
    if isinstance(value, AbstractSet):
        return sorted(map(_jsonable, value), key=_encode_plain)
    if isinstance(value, (np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)):
        return [_jsonable(item) for item in _items(value)]
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return [_jsonable(item) for item in value]
    return _jsonable_scalar(value)


def _jsonable_float(value: float) -> object:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _jsonable_mapping(mapping: Mapping[Any, Any]) -> dict[str, object]:
    encoded = {_key(key): _jsonable(value) for key, value in mapping.items()}
    if len(encoded) != len(mapping):
        raise FrameError(f"two keys of a dict cell have the same text; its keys are {list(mapping)!r}; rename one")
    return encoded


def _key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    plain = _jsonable(key)
    return plain if isinstance(plain, str) else _encode_plain(plain)


def _items(values: Any) -> Iterable[object]:
    if values.dtype.kind in "mM" and isinstance(values, np.ndarray):
        boxed = pd.to_datetime if values.dtype.kind == "M" else pd.to_timedelta
        return [boxed(row) if values.ndim == 1 else row for row in values]
    return list(values) if not isinstance(values, np.ndarray) or values.ndim else [values.item()]


def _jsonable_scalar(value: Any) -> object:
    for kinds, plain in _PLAIN:
        if isinstance(value, kinds):
            return plain(value)
    raise FrameError(f"a cell of type {type(value).__qualname__} has no JSON form; turn it into text or numbers first")


def _jsonable_number(value: Any) -> object:
    if isinstance(value, np.longdouble):
        raise FrameError("a cell of type longdouble has no JSON form; turn it into a float or a Decimal first")
    return _jsonable(value.item())


_PLAIN: tuple[tuple[Any, Callable[[Any], object]], ...] = (
    (decimal.Decimal, lambda value: None if value.is_nan() else str(value)),
    (datetime.timedelta, lambda value: pd.Timedelta(value).isoformat()),
    ((datetime.date, datetime.time), lambda value: value.isoformat()),
    ((uuid.UUID, pd.Period, pd.Interval), str),
    ((bytes, bytearray, memoryview), lambda value: base64.b64encode(value).decode("ascii")),
    (np.datetime64, lambda value: _jsonable(pd.Timestamp(value))),
    (np.timedelta64, lambda value: _jsonable(pd.Timedelta(value))),
    ((np.bool_, np.integer, np.floating), _jsonable_number),
    (enum.Enum, lambda value: _jsonable(value.value)),
    (pa.Scalar, lambda value: _jsonable(value.as_py())),
    (os.PathLike, os.fsdecode),
)
