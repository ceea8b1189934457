"""Whole numbers among fractions: 5 in one frame and 5.5 in the next, as JSON and CSV give them."""

from collections.abc import Collection, Sequence
from typing import TypeVar

import pyarrow as pa

from api2db.frames.exact import cast_exactly

__all__ = ["whole_numbers_as_floats"]

_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


def whole_numbers_as_floats(frames: Sequence[_Rows]) -> list[_Rows]:
    """Where one frame has fractions, the whole numbers of the others, as far as floats hold them exactly."""
    floats = {field.name for frame in frames for field in frame.schema if pa.types.is_floating(field.type)}
    return [_as_floats(frame, floats) for frame in frames]


def _as_floats(frame: _Rows, names: Collection[str]) -> _Rows:
    for place, field in enumerate(frame.schema):
        if field.name in names and pa.types.is_integer(field.type):
            column = frame.column(place)
            whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            cast, inexact = cast_exactly(whole, pa.float64())
            if inexact is None:
                frame = frame.set_column(place, pa.field(field.name, pa.float64()), cast)
    return frame
