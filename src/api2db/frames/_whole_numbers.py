"""Joins whole numbers and fractions of several frames: JSON and CSV have 5 in one frame and 5.5 in the next."""

import re
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import TypeVar

import pyarrow as pa

from api2db.frames._exact import cast_exactly
from api2db.frames._kinds import is_text

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,37}")
_LONG = pa.decimal128(38, 0)
_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


def whole_numbers_as_floats(frames: Sequence[_Rows]) -> list[_Rows]:
    """If one frame has fractions, turn the whole numbers of the others into floats, where these hold them exactly."""
    floats = {field.name for frame in frames for field in frame.schema if pa.types.is_floating(field.type)}
    return [_as_floats(frame, floats) for frame in frames]


def long_numbers(frames: Sequence[_Rows]) -> list[_Rows]:
    """If one frame has whole numbers, read texts of another that are such numbers beyond 64 bits, as CSV has them."""
    whole = {field.name for frame in frames for field in frame.schema if pa.types.is_integer(field.type)}
    return [_as_decimals(frame, whole) for frame in frames]


def _as_decimals(frame: _Rows, names: Collection[str]) -> _Rows:
    for place, field in enumerate(frame.schema):
        if field.name in names and is_text(field.type):
            texts = frame.column(place).to_pylist()
            told = [text for text in texts if text is not None]
            if all(map(_WHOLE.fullmatch, told)) and any(abs(int(text)) >= 2**63 for text in told):
                numbers = [None if text is None else Decimal(text) for text in texts]
                frame = frame.set_column(place, pa.field(field.name, _LONG), pa.array(numbers, _LONG))
    return frame


def _as_floats(frame: _Rows, names: Collection[str]) -> _Rows:
    for place, field in enumerate(frame.schema):
        if field.name in names and pa.types.is_integer(field.type):
            column = frame.column(place)
            whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            cast, inexact = cast_exactly(whole, pa.float64())
            if inexact is None:
                frame = frame.set_column(place, pa.field(field.name, pa.float64()), cast)
    return frame
