"""Reads CSV cells as values of a known type: all cells exactly, or the column not at all."""

import base64
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import JSON, cast_exactly, decode_cell, is_bytes, is_json, is_text, times_of

_types = pa.types
_LONGEST_WHOLE = 15  # digits that every float holds
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_SPAN = re.compile(r"(-?[0-9]{1,19}(?:\.[0-9]{1,9})?) seconds")
_INT64 = 2**63


def candidates(known: pa.Schema | None, name: str, quoted: bool) -> list[pa.DataType]:  # noqa: FBT001 - what a column is
    """Return the known types for a column, quoted or not. If text is one of them, quoted cells are text."""
    if known is None:
        return []
    types = [known.field(place).type for place in known.get_all_field_indices(name)]
    if quoted:
        return [] if any(map(is_text, types)) else list(filter(_may_be_quoted, types))
    return [type_ for type_ in types if not (is_text(type_) or is_json(type_) or _is_only_quoted(type_))]


def are_alike(types: Sequence[pa.DataType]) -> bool:
    """Whether cells of some of these types can't be told apart: bytes beside other quoted cells, durations beside text.

    Text beside JSON or decimals is alike too, but is allowed: all of it is read as text.
    """
    quoted = list(filter(_may_be_quoted, types))
    has_text = any(map(is_text, types))
    has_bytes, has_durations = any(map(is_bytes, quoted)), any(map(_types.is_duration, quoted))
    has_others = has_text or not all(is_bytes(type_) or _types.is_duration(type_) for type_ in quoted)
    return (has_bytes and has_others) or (has_durations and has_text)


def told(column: pa.ChunkedArray, types: Sequence[pa.DataType]) -> pa.ChunkedArray | None:
    """Read the cells as the one type that holds them all exactly; None if no type or several types do."""
    texts = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.utf8())
    found = []
    for type_ in types:
        with suppress(ValueError, pa.ArrowException):
            found.append(_decoded(texts, type_))
    if len(found) > 1:
        found = [array for array in found if _is_written_as(array, texts)]
    return pa.chunked_array(found) if len(found) == 1 else None


def far_moments(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Read timestamps out of the range of nanoseconds, which Arrow reads as text, as microseconds, if all cells are."""
    for type_ in (pa.timestamp("us"), pa.timestamp("us", "UTC")):
        with suppress(pa.ArrowInvalid):
            return column.cast(type_)
    return column


def _may_be_quoted(type_: pa.DataType) -> bool:
    return bool(is_json(type_) or _is_only_quoted(type_) or _types.is_decimal(type_) or _types.is_uint64(type_))


def _is_only_quoted(type_: pa.DataType) -> bool:
    return is_bytes(type_) or bool(_types.is_duration(type_))


def _is_written_as(array: pa.Array, texts: pa.Array) -> bool:
    """Whether the values would be written as these cells: not a date that is read as a timestamp, nor 1 as true."""
    return bool(array.cast(pa.utf8()).equals(texts)) if not is_json(array.type) and not is_bytes(array.type) else True


def _decoded(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    for is_kind, decode in _KINDS:
        if is_kind(type_):
            return decode(texts, type_)
    return texts.cast(type_)


def _cells(texts: pa.Array, _type: pa.DataType) -> pa.Array:
    for text in texts.to_pylist():
        if text is not None:
            decode_cell(text)
    return pa.ExtensionArray.from_storage(JSON, texts)


def _bytes(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    values = [None if text is None else base64.b64decode(text, validate=True) for text in texts.to_pylist()]
    return pa.array(values, type_)


def _booleans(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    if not pc.all(pc.is_in(texts.drop_null(), pa.array(["true", "false"]))).as_py():
        raise ValueError("texts other than true and false")
    return texts.cast(type_)


def _floats(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    """Read floats; a float must hold a long whole number, as other shards may have, exactly."""
    whole = pc.match_substring_regex(texts, rf"^-?\d{{{_LONGEST_WHOLE},}}$")
    if pc.any(whole).as_py():
        _, inexact = cast_exactly(texts.filter(whole).cast(pa.decimal128(38, 0)), type_)
        if inexact is not None:
            raise ValueError("a whole number that no float holds")
    return texts.cast(type_)


def duration_texts(array: pa.Array) -> pa.Array:
    """Write durations as seconds, which tells them from ints and does not depend on a unit."""
    digits = _DIGITS[array.type.unit]
    counts = array.cast(pa.int64()).to_pylist()
    texts = (None if count is None else f"{Decimal(count).scaleb(-digits):f} seconds" for count in counts)
    return pa.array(texts, pa.utf8())


def _durations(texts: pa.Array, type_: pa.DataType) -> pa.Array:
    """Read durations; if one is out of the range of the unit, as durations of the coarser unit that holds them all."""
    spans = [None if text is None else _span(text) for text in texts.to_pylist()]
    for unit in reversed(list(_DIGITS)[: list(_DIGITS).index(type_.unit) + 1]):
        counts = [None if span is None else span.scaleb(_DIGITS[unit]) for span in spans]
        if all(count is None or (count == int(count) and abs(count) < _INT64) for count in counts):
            return pa.array([None if count is None else int(count) for count in counts], pa.int64()).view(
                pa.duration(unit)
            )
    raise ValueError("durations that no unit holds")


def _span(text: str) -> Decimal:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ValueError("a text that is no duration")
    return Decimal(found[1])


_KINDS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[pa.Array, pa.DataType], pa.Array]], ...] = (
    (is_json, _cells),
    (is_bytes, _bytes),
    (_types.is_boolean, _booleans),
    (_types.is_floating, _floats),
    (_types.is_time, times_of),
    (_types.is_duration, _durations),
)
