"""Rows that a driver returned, as an Arrow table in the types of the columns, for people to look at."""

import datetime
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from api2db.errors import ConfigurationError
from api2db.frames import JSON, encode_cell, is_json
from api2db.targets.port import Column

_types = pa.types
_UNREADABLE = (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError)


def found_column(name: str, columns: Sequence[Column], fold: Callable[[str], str] = str) -> str:
    """Return a column's name as the table writes it.

    Raises:
        ConfigurationError: The table has no such column.
    """
    known = {fold(column.name): column.name for column in columns}
    if fold(name) in known:
        return known[fold(name)]
    raise ConfigurationError(f"there is no column {name!r} to sort by; there are: {', '.join(known.values())}")


def arrow_rows(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> pa.Table:
    """Build a table from rows; a column with a value that its type can't hold becomes text."""
    arrays = [_array([row[place] for row in rows], column.type) for place, column in enumerate(columns)]
    return pa.table(arrays, [column.name for column in columns])


def _array(values: list[Any], type_: pa.DataType | None) -> pa.Array:
    type_ = pa.string() if type_ is None or _types.is_null(type_) else type_
    try:
        return _typed(values, type_)
    except _UNREADABLE:
        return pa.array([None if value is None else str(value) for value in values], pa.string())


def _typed(values: list[Any], type_: pa.DataType) -> pa.Array:
    if is_json(type_):
        texts = [value if value is None or isinstance(value, str) else encode_cell(value) for value in values]
        return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))
    if _types.is_temporal(type_) and any(isinstance(value, str) for value in values):
        return _parsed(values, type_)
    read = next((read for is_kind, read in _READ if is_kind(type_)), None)
    if read is not None:
        values = [None if value is None else read(value) for value in values]
    return pa.array(values, type_)


def _parsed(values: list[Any], type_: pa.DataType) -> pa.Array:
    """Read ISO 8601 text, also of years beyond those that Python has."""
    if _types.is_time(type_):
        return pa.array(values, pa.string()).cast(pa.time64("ns"))
    unit: Any = "D" if _types.is_date(type_) else type_.unit
    texts = [None if value is None else str(value).removesuffix("+00:00").replace(" ", "T") for value in values]
    ticks = [None if text is None else int(np.datetime64(text, unit).astype(np.int64)) for text in texts]
    return pa.array(ticks, pa.int32() if _types.is_date32(type_) else pa.int64()).cast(type_)


def _time_of(value: Any) -> Any:
    """A time of day, which MySQL's client returns as the span since midnight."""
    return value // datetime.timedelta(microseconds=1) if isinstance(value, datetime.timedelta) else value


_READ: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], Any]], ...] = (
    (_types.is_boolean, bool),
    (_types.is_integer, int),
    (_types.is_floating, float),
    (_types.is_decimal, lambda value: value if isinstance(value, Decimal) else Decimal(str(value))),
    (_types.is_time, _time_of),
)
