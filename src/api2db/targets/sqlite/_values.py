"""Values as SQLite stores them."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import is_json

_types = pa.types


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """What the driver takes for a column."""
    values: list[Any] = _plain(column).to_pylist()
    return values


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column in a type that ``to_pylist`` turns into what SQLite stores as it is."""
    type_ = column.type
    if is_json(type_):
        return column.cast(pa.string())
    if _types.is_timestamp(type_):
        naive = _to_microseconds(column.cast(pa.timestamp(type_.unit))).cast(pa.string())
        return naive if type_.tz is None else pc.binary_join_element_wise(naive, "+00:00", "")
    if _types.is_duration(type_):
        return column.cast(pa.duration("ns")).cast(pa.int64())
    return column.cast(pa.string()) if any(is_kind(type_) for is_kind in _AS_TEXT) else column


def _to_microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Six digits behind the second, which every reader of ISO text takes; nine only where they are needed."""
    try:
        return column.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return column


_AS_TEXT: tuple[Callable[[pa.DataType], bool], ...] = (
    _types.is_uint64,
    _types.is_decimal,
    _types.is_date,
    _types.is_time,
)
