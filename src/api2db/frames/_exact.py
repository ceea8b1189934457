"""Exact casts: a cast never changes a value silently.

A value is held exactly if casting it back returns it. So 0.1 as a float fits ``decimal(10, 2)``, and a Decimal of up
to 15 digits fits a float64. Text is never read as a number, nor is a number written as text. Booleans are not numbers.
Naive and zoned timestamps are never mixed. A date is a naive timestamp at midnight. A JSON cell that is a single value,
such as a text or a number, or that represents one in a mixed column, is cast as that value. Any value except an
infinity can become a JSON cell. Text that is exactly a value of the type is read only on request; see ``_texts``.
"""

import datetime
from collections.abc import Callable, Mapping
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames._cells import json_array, python_values, single_value
from api2db.frames._kinds import is_binary, is_json, is_text
from api2db.frames._lists import lists_of_json
from api2db.frames._objects import array_of_objects
from api2db.frames._texts import is_decimal_beyond, read_texts

Mask: TypeAlias = "np.ndarray[Any, np.dtype[np.bool_]]"
Cast: TypeAlias = tuple[pa.Array, Mask]
Casts: TypeAlias = Mapping[tuple[str, str], Callable[[pa.Array, pa.DataType], Cast]]

_types = pa.types
_TICK_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_NS = 86_400 * 10**9
_INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 19}
_WIDEST_DIGITS = 76


def decimal_digits(type_: pa.DataType) -> tuple[int, int]:
    """Return precision and scale of a decimal type, or of the smallest decimal that holds an integer type."""
    if _types.is_decimal(type_):
        return type_.precision, type_.scale
    return 20 if type_ == pa.uint64() else _INTEGER_DIGITS[type_.bit_width], 0


def cast_exactly(array: pa.Array, to: pa.DataType, *, reads_text: bool = False) -> tuple[pa.Array, pa.Array | None]:
    """Cast every value that the type holds exactly, and mark the others.

    Args:
        reads_text: Whether to read a text that is exactly and unambiguously a value of the type.

    Returns:
        The cast array, with null for each value that can't be held exactly; and a boolean mask, without nulls, that is
        true for those values, or None if every value was held.
    """
    if array.type.equals(to):
        return array, None
    if array.null_count == len(array):
        return pa.nulls(len(array), to), None
    cast, inexact = _cast_from(array, to, _READING if reads_text else _CASTS)
    return cast, pa.array(inexact) if inexact.any() else None


def _cast_from(array: pa.Array, to: pa.DataType, casts: Casts) -> Cast:
    if _types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if array.type.equals(to):
        return array, np.zeros(len(array), bool)
    if _types.is_dictionary(to):
        values, inexact = _cast_from(array, to.value_type, casts)
        encoded = values.dictionary_encode()
        return pa.DictionaryArray.from_arrays(
            encoded.indices.cast(to.index_type), encoded.dictionary, ordered=to.ordered
        ), inexact
    source, target = _kind(array.type), _kind(to)
    if _types.is_null(array.type):
        return pa.nulls(len(array), to), np.zeros(len(array), bool)
    cast = casts.get((source, target))
    return _refuse(array, to) if cast is None else cast(array, to)


def _kind(type_: pa.DataType) -> str:
    if is_json(type_):
        return "json"
    return next((kind for kind, is_kind in _KINDS if is_kind(type_)), "other")


_KINDS: tuple[tuple[str, Callable[[pa.DataType], bool]], ...] = (
    ("boolean", _types.is_boolean),
    ("integer", _types.is_integer),
    ("float", _types.is_floating),
    ("decimal", _types.is_decimal),
    ("text", is_text),
    ("fixed", _types.is_fixed_size_binary),
    ("binary", is_binary),
    ("naive", lambda type_: _types.is_date(type_) or (_types.is_timestamp(type_) and type_.tz is None)),
    ("zoned", _types.is_timestamp),
    ("time", _types.is_time),
    ("duration", _types.is_duration),
    ("list", _types.is_list),
)


def _refuse(array: pa.Array, to: pa.DataType) -> Cast:
    return pa.nulls(len(array), to), _valid(array)


def _valid(array: pa.Array) -> Mask:
    return _numpy(array.is_valid())


def _numbers(array: pa.Array) -> np.ndarray:
    """Return the values with 0 in place of nulls."""
    filled = pc.fill_null(array, pa.scalar(0, array.type)) if array.null_count else array
    return _numpy(filled)


def _numpy(array: pa.Array) -> np.ndarray:
    numbers: np.ndarray = array.to_numpy(zero_copy_only=False)
    return numbers


def _kept(array: pa.Array, numbers: np.ndarray, fits: np.ndarray, to: pa.DataType) -> Cast:
    valid = _valid(array)
    return pa.array(numbers, to, mask=~(fits & valid)), ~fits & valid


def nulled(array: pa.Array, mask: pa.Array) -> pa.Array:
    """Return the array with null where a mask without nulls is true."""
    if isinstance(array.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(array.type, nulled(array.storage, mask))
    return pc.if_else(mask, pa.scalar(None, array.type), array)


def _without(array: pa.Array, inexact: np.ndarray) -> pa.Array:
    return nulled(array, pa.array(inexact)) if inexact.any() else array


def _integer_to_integer(array: pa.Array, to: pa.DataType) -> Cast:
    values, bounds = _numbers(array), np.iinfo(to.to_pandas_dtype())
    fits = _at_least(values, int(bounds.min)) & _at_most(values, int(bounds.max))
    return _kept(array, np.where(fits, values, 0).astype(bounds.dtype), fits, to)


def _at_least(values: np.ndarray, bound: int) -> np.ndarray:
    return values >= bound if bound > np.iinfo(values.dtype).min else np.ones(len(values), bool)


def _at_most(values: np.ndarray, bound: int) -> np.ndarray:
    return values <= bound if bound < np.iinfo(values.dtype).max else np.ones(len(values), bool)


def _integer_to_float(array: pa.Array, to: pa.DataType) -> Cast:
    values = _numbers(array)
    with np.errstate(over="ignore"):
        floats = values.astype(to.to_pandas_dtype())
    wide = floats.astype(np.float64)
    below = wide < float(int(np.iinfo(values.dtype).max) + 1)
    fits = below & (np.where(below, wide, 0).astype(values.dtype) == values)
    return _kept(array, floats, fits, to)


def _float_to_integer(array: pa.Array, to: pa.DataType) -> Cast:
    values, bounds = _numbers(array).astype(np.float64), np.iinfo(to.to_pandas_dtype())
    fits = (values >= float(bounds.min)) & (values < float(int(bounds.max) + 1)) & (values == np.trunc(values))
    return _kept(array, np.where(fits, values, 0).astype(bounds.dtype), fits, to)


def _float_to_float(array: pa.Array, to: pa.DataType) -> Cast:
    values = _numbers(array)
    with np.errstate(over="ignore"):
        floats = values.astype(to.to_pandas_dtype())
    return _kept(array, floats, (floats == values) | np.isnan(values), to)


def _decimal_to_decimal(array: pa.Array, to: pa.DataType) -> Cast:
    try:
        return array.cast(to), np.zeros(len(array), bool)
    except pa.ArrowInvalid:
        inexact = _decimals_beyond(array, to.precision, to.scale)
        return _without(array, inexact).cast(to), inexact


def _decimals_beyond(array: pa.Array, precision: int, scale: int) -> np.ndarray:
    """Mark the decimals with too many digits before or after the point."""
    finest = max(scale, array.type.scale)
    if array.type.precision - array.type.scale + finest > _WIDEST_DIGITS:
        return np.array([is_decimal_beyond(value, precision, scale) for value in array.to_pylist()])
    wide = array.cast(pa.decimal256(_WIDEST_DIGITS, finest))
    cut = wide.cast(pa.decimal256(_WIDEST_DIGITS, scale), safe=False).cast(wide.type)
    most = _decimal(10**precision - 1, -scale)
    return _any(pc.not_equal(cut, wide), *_outside(wide, -most, most))


def _decimal(digits: int, exponent: int) -> Decimal:
    return Decimal((int(digits < 0), tuple(map(int, str(abs(digits)))), exponent))


def _outside(array: pa.Array, low: Decimal, high: Decimal) -> list[pa.Array]:
    """Mark the decimals beyond two bounds; a bound outside the array's type can't be exceeded."""
    type_ = array.type
    reachable = len(str(int(high))) <= type_.precision - type_.scale
    bounds = (pa.scalar(low, type_), pa.scalar(high, type_)) if reachable else None
    return [] if bounds is None else [pc.less(array, bounds[0]), pc.greater(array, bounds[1])]


def _any(*masks: pa.Array) -> np.ndarray:
    merged: Mask = np.logical_or.reduce([_numpy(mask.fill_null(False)) for mask in masks])
    return merged


def _integer_to_decimal(array: pa.Array, to: pa.DataType) -> Cast:
    return _decimal_to_decimal(array.cast(pa.decimal128(*decimal_digits(array.type))), to)


def _decimal_to_integer(array: pa.Array, to: pa.DataType) -> Cast:
    bounds = np.iinfo(to.to_pandas_dtype())
    whole, fractional = _decimal_to_decimal(array, pa.decimal128(*decimal_digits(to)))
    beyond = _any(*_outside(whole, Decimal(int(bounds.min)), Decimal(int(bounds.max))))
    return _without(whole, beyond).cast(to), fractional | beyond


def _float_to_decimal(array: pa.Array, to: pa.DataType) -> Cast:
    values = _numbers(array).astype(np.float64)
    # Half a step below the bound: a value above it would be rounded up to one digit too many.
    fits = np.abs(values) < float((10**to.precision - Fraction(1, 2)) / Fraction(10) ** to.scale)
    decimals = pa.array(np.where(fits, values, 0)).cast(to)
    fits &= _numpy(_floats_of(decimals, array.type)) == values
    valid = _valid(array)
    return pc.if_else(pa.array(fits & valid), decimals, pa.scalar(None, to)), ~fits & valid


def _floats_of(decimals: pa.Array, to: pa.DataType) -> pa.Array:
    # Arrow's own cast of decimals to floats is not rounded correctly; the cast through text is.
    return decimals.cast(pa.utf8()).cast(to)


def _decimal_to_float(array: pa.Array, to: pa.DataType) -> Cast:
    floats = _floats_of(array, to)
    back, inexact = _float_to_decimal(floats, array.type)
    inexact = inexact | _any(pc.not_equal(back, array))
    return _without(floats, inexact), inexact


def _text_to_text(array: pa.Array, to: pa.DataType) -> Cast:
    return array.cast(to), np.zeros(len(array), bool)


def _binary_to_fixed(array: pa.Array, to: pa.DataType) -> Cast:
    inexact = _any(pc.not_equal(pc.binary_length(array), to.byte_width))
    return _without(array, inexact).cast(to), inexact


def _read(array: pa.Array, to: pa.DataType) -> Cast:
    held = pa.nulls(len(array), to)
    for read in read_texts(array, to):
        held = pc.coalesce(held, _cast_from(read, to, _CASTS)[0])
    return held, _valid(array) & ~_valid(held)


def _json_to_text(array: pa.Array, to: pa.DataType) -> Cast:
    """Return a text as itself, without quotes, and a nested value as its JSON."""
    nested = pc.match_substring_regex(array.storage, r"^\s*[\[{]")
    if pc.all(nested).as_py() is not False:
        return _text_to_text(array.storage, to)
    single, inexact = _json_to_single(array, to, _CASTS)
    held = pc.if_else(nested, array.storage, single.cast(array.storage.type))
    return held.cast(to), inexact & ~_numpy(nested.fill_null(False))


def _json_to_single(array: pa.Array, to: pa.DataType, casts: Casts) -> Cast:
    """Cast the cells that are a single value, such as a text or a number: each class as a column of its own."""
    cells = [None if text is None else single_value(text) for text in array.storage.to_pylist()]
    held, inexact = pa.nulls(len(cells), to), np.array([cell is not None for cell in cells])
    for class_ in {_class_of(cell) for cell in cells} - {None}:
        values = array_of_objects([cell if _class_of(cell) == class_ else None for cell in cells], "")
        if is_json(values.type):  # such as more digits than any type has
            continue
        cast, beyond = _cast_from(values, to, casts)
        held = pc.coalesce(held, cast)
        inexact = np.where(_valid(values), beyond, inexact)
    return held, inexact


def _class_of(cell: object) -> object:
    """Return the class to group cells by, so that each group has one type, unlike JSON; None for nested cells."""
    if isinstance(cell, datetime.datetime):
        return datetime.datetime, cell.tzinfo is None
    if isinstance(cell, int) and not isinstance(cell, bool):
        return int, abs(cell) < _MOST_OF_38_DIGITS
    return type(cell) if isinstance(cell, _SINGLE) else None


_SINGLE = (bool, float, str, Decimal, bytes, datetime.date, datetime.time, datetime.timedelta)
_MOST_OF_38_DIGITS = 10**38


def _any_to_json(array: pa.Array, to: pa.DataType) -> Cast:
    infinite = (
        _numpy(pc.is_inf(array).fill_null(False)) if _types.is_floating(array.type) else np.zeros(len(array), bool)
    )
    missing = _numpy(pc.is_nan(array).fill_null(False)) if _types.is_floating(array.type) else infinite
    return json_array(python_values(_without(array, infinite | missing))).cast(to), infinite


def _lists(array: pa.Array, to: pa.DataType, casts: Casts) -> Cast:
    return lists_of_json(array, to, partial(_cast_from, casts=casts))


def _json_to_json(array: pa.Array, to: pa.DataType) -> Cast:
    return pa.ExtensionArray.from_storage(to, array.storage.cast(to.storage_type)), np.zeros(len(array), bool)


def _ticks_to_ticks(array: pa.Array, to: pa.DataType) -> Cast:
    """Cast between dates, times, timestamps or durations by their number of ticks."""
    if _types.is_timestamp(array.type) and _types.is_timestamp(to) and _tick_ns(array.type) >= _tick_ns(to):
        with suppress(pa.ArrowInvalid):  # one is out of range
            return array.cast(to), np.zeros(len(array), bool)
    ticks = _numbers(array.view(pa.int64() if array.type.bit_width == 64 else pa.int32())).astype(np.int64)
    source_ns, target_ns = _tick_ns(array.type), _tick_ns(to)
    bounds = np.iinfo(np.int64 if to.bit_width == 64 else np.int32)
    if source_ns >= target_ns:
        factor = source_ns // target_ns
        fits = (ticks >= -(-int(bounds.min) // factor)) & (ticks <= int(bounds.max) // factor)
        ticks = np.where(fits, ticks, 0) * factor
    else:
        whole, rest = np.divmod(ticks, target_ns // source_ns)
        ticks, fits = whole, (rest == 0) & (whole >= bounds.min) & (whole <= bounds.max)
    cast, inexact = _kept(array, np.where(fits, ticks, 0).astype(bounds.dtype), fits, pa.from_numpy_dtype(bounds.dtype))
    return cast.view(to), inexact


def _tick_ns(type_: pa.DataType) -> int:
    if _types.is_date(type_):
        return _DAY_NS if _types.is_date32(type_) else _TICK_NS["ms"]
    return _TICK_NS[type_.unit]


_SINGLE_KINDS = ("boolean", "integer", "float", "decimal", "binary", "naive", "zoned", "time", "duration")
_CASTS: Casts = {
    ("integer", "integer"): _integer_to_integer,
    ("integer", "float"): _integer_to_float,
    ("integer", "decimal"): _integer_to_decimal,
    ("float", "integer"): _float_to_integer,
    ("float", "float"): _float_to_float,
    ("float", "decimal"): _float_to_decimal,
    ("decimal", "integer"): _decimal_to_integer,
    ("decimal", "float"): _decimal_to_float,
    ("decimal", "decimal"): _decimal_to_decimal,
    ("text", "text"): _text_to_text,
    ("binary", "binary"): _text_to_text,
    ("fixed", "binary"): _text_to_text,
    ("binary", "fixed"): _binary_to_fixed,
    ("json", "text"): _json_to_text,
    **{("json", kind): lambda array, to: _json_to_single(array, to, _CASTS) for kind in _SINGLE_KINDS},
    **{(kind, "json"): _any_to_json for kind, _ in _KINDS},
    ("json", "json"): _json_to_json,
    ("json", "list"): lambda array, to: _lists(array, to, _CASTS),
    ("naive", "naive"): _ticks_to_ticks,
    ("zoned", "zoned"): _ticks_to_ticks,
    ("time", "time"): _ticks_to_ticks,
    ("duration", "duration"): _ticks_to_ticks,
}
_READING: Casts = {
    **_CASTS,
    **{("text", kind): _read for kind in ("boolean", "integer", "float", "decimal", "naive", "zoned", "time")},
    **{("json", kind): lambda array, to: _json_to_single(array, to, _READING) for kind in _SINGLE_KINDS},
    **{(kind, "list"): lambda array, to: _lists(array, to, _READING) for kind in ("json", "text")},
}
