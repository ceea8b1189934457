"""Unifies the schemas of many frames without losing a value.

A type is widened only to one that holds every value of both exactly. So int64 and float64 have no common type (an int
beyond 2^53 would change), nor have naive and zoned timestamps, nor bool and int. Timestamps and durations of two units
take the finer one; ``conform`` refuses the few values, centuries away, that are outside the range of the finer unit.

JSON and CSV have 5 in one frame and 5.5 in the next: ``whole_numbers_as_floats`` and ``long_numbers`` make such columns
alike where that loses nothing.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from functools import lru_cache, reduce
from typing import TypeVar

import pyarrow as pa

from api2db.errors import DataError
from api2db.frames._cells import python_values
from api2db.frames._exact import cast_exactly, decimal_digits
from api2db.frames._kinds import JSON, is_bytes, is_json, is_number, is_text

_types = pa.types
_UNITS = ("s", "ms", "us", "ns")
_FLOATS = (pa.float16(), pa.float32(), pa.float64())
_FLOAT_BITS = {16: 11, 32: 24, 64: 53}
_RECENT = 8
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,37}")
_LONG = pa.decimal128(38, 0)
_Rows = TypeVar("_Rows", pa.Table, pa.RecordBatch)


@lru_cache(maxsize=4096)
def widened(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return the smallest type that holds every value of both exactly, or None if there is none."""
    if a.equals(b) or _types.is_null(b):
        return a
    if _types.is_null(a):
        return b
    if _types.is_dictionary(a) or _types.is_dictionary(b):
        return _widened_dictionary(a, b)
    for is_kind, widen in _KINDS:
        if is_kind(a) and is_kind(b):
            return widen(a, b)
    return None


def _widened_dictionary(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    both = _types.is_dictionary(a) and _types.is_dictionary(b)
    values = widened(_value_type(a), _value_type(b))
    if values is None or not both:
        return values
    return pa.dictionary(pa.int32(), values, ordered=a.ordered and b.ordered)


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if _types.is_dictionary(type_) else type_


def _widened_number(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if _types.is_floating(a) or _types.is_floating(b):
        return None if _types.is_decimal(a) or _types.is_decimal(b) else _widened_float(a, b)
    if _types.is_decimal(a) or _types.is_decimal(b):
        return _widened_decimal(a, b)
    return _widened_integer(a, b)


def _widened_float(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    needed = max(_exact_bits(a), _exact_bits(b))
    return next((type_ for type_ in _FLOATS if _FLOAT_BITS[type_.bit_width] >= needed), None)


def _exact_bits(type_: pa.DataType) -> int:
    if _types.is_floating(type_):
        return _FLOAT_BITS[type_.bit_width]
    # The largest half float is 65504, so it holds only 8-bit integers.
    bits = int(type_.bit_width)
    return 24 if bits == 16 else bits


def _widened_integer(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if _types.is_signed_integer(a) == _types.is_signed_integer(b):
        return a if a.bit_width >= b.bit_width else b
    signed, unsigned = (a, b) if _types.is_signed_integer(a) else (b, a)
    bits = max(signed.bit_width, 2 * unsigned.bit_width)
    return pa.decimal128(20, 0) if bits > 64 else {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[bits]


def _widened_decimal(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    (precision_a, scale_a), (precision_b, scale_b) = decimal_digits(a), decimal_digits(b)
    scale = max(scale_a, scale_b)
    precision = max(precision_a - scale_a, precision_b - scale_b) + scale
    if precision > 76:
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _finer(a: pa.DataType, b: pa.DataType) -> str:
    return _UNITS[max(_UNITS.index(a.unit), _UNITS.index(b.unit))]


def _widened_timestamp(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    if (a.tz is None) != (b.tz is None):
        return None
    return pa.timestamp(_finer(a, b), a.tz if a.tz == b.tz else "UTC")


def _is_moment(type_: pa.DataType) -> bool:
    return bool(_types.is_date(type_) or _types.is_timestamp(type_))


def _widened_moment(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return the common type of dates and timestamps: a date is its midnight, but not an instant."""
    day, other = (a, b) if _types.is_date(a) else (b, a)
    if _types.is_date(other):
        return pa.date64()
    if _types.is_timestamp(day):
        return _widened_timestamp(a, b)
    return other if other.tz is None else None


def _widened_time(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    unit = _finer(a, b)
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


_KINDS = (
    (is_number, _widened_number),
    (_is_moment, _widened_moment),
    (_types.is_time, _widened_time),
    (_types.is_duration, lambda a, b: pa.duration(_finer(a, b))),
    (is_text, lambda _a, _b: pa.large_utf8()),
    (is_bytes, lambda _a, _b: pa.large_binary()),
    (is_json, lambda _a, _b: JSON),
)


def unify(schemas: Sequence[pa.Schema]) -> pa.Schema | None:
    """Return one schema that every frame of these schemas conforms to, or None if a column has no common type.

    Its columns are the union of all, in order of first appearance. The ``pandas`` metadata is kept only if all agree.
    Thousands of equal schemas cost about a millisecond.
    """
    distinct = _distinct(schemas)
    if len(distinct) == 1:
        return distinct[0]
    names = dict.fromkeys(name for schema in distinct for name in schema.names)
    fields = [
        (name, _common_type(schema.field(name).type for schema in distinct if name in schema.names)) for name in names
    ]
    if any(type_ is None for _, type_ in fields):
        return None
    metadata = {str(schema.metadata) for schema in distinct}
    return pa.schema(fields, distinct[0].metadata if len(metadata) == 1 else None)


def _distinct(schemas: Sequence[pa.Schema]) -> list[pa.Schema]:
    distinct: list[pa.Schema] = []
    for schema in schemas:
        if not any(schema.equals(known, check_metadata=True) for known in reversed(distinct[-_RECENT:])):
            distinct.append(schema)
    return distinct


def _common_type(types: Iterable[pa.DataType]) -> pa.DataType | None:
    return reduce(lambda a, b: None if a is None else widened(a, b), types)


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give the batch the columns, order and types of a schema; a column that it lacks is null.

    Raises:
        DataError: The schema lacks a column of the batch, or its type can't hold one of the values exactly.
    """
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    surplus = [name for name in batch.schema.names if schema.get_field_index(name) < 0]
    if surplus:
        raise DataError(
            f"the schema has no column {', '.join(map(repr, surplus))}; unify it with the batch's own first"
        )
    return pa.RecordBatch.from_arrays([_conformed(batch, field) for field in schema], schema=schema)


def _conformed(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    place = batch.schema.get_field_index(field.name)
    if place < 0:
        return pa.nulls(batch.num_rows, field.type)
    array, inexact = cast_exactly(batch.column(place), field.type)
    if inexact is not None:
        row = inexact.index(True).as_py()
        [value] = python_values(batch.column(place).slice(row, 1))
        raise DataError(
            f"column {field.name!r}, row {row}: {field.type} can't hold {value!r} exactly; load this frame separately"
        )
    return array


def whole_numbers_as_floats(frames: Sequence[_Rows]) -> list[_Rows]:
    """If one frame has fractions, turn the whole numbers of the others into floats, where these hold them exactly."""
    floats = {field.name for frame in frames for field in frame.schema if _types.is_floating(field.type)}
    return [_as_floats(frame, floats) for frame in frames]


def long_numbers(frames: Sequence[_Rows]) -> list[_Rows]:
    """If one frame has whole numbers, read texts of another that are such numbers beyond 64 bits, as CSV has them."""
    whole = {field.name for frame in frames for field in frame.schema if _types.is_integer(field.type)}
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
        if field.name in names and _types.is_integer(field.type):
            column = frame.column(place)
            whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            cast, inexact = cast_exactly(whole, pa.float64())
            if inexact is None:
                frame = frame.set_column(place, pa.field(field.name, pa.float64()), cast)
    return frame
