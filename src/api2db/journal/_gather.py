"""Decode many small messages of one schema by gathering each column from all of them at once.

Arrow reads each message into an array for each column, which for a frame of a few rows costs ten times as much as its
values. Messages of one schema have their numbers at the same places. These numbers, and then the values of all
messages, are read with a few operations of NumPy. Messages of another form are left to Arrow.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from api2db.frames import NumberPlaces, Pairs, UnknownFormError, number_places

_WORD_BYTES: Final = 8  # Arrow aligns metadata, body and buffers to as many bytes.
_LARGEST_OFFSET: Final = 2**31 - 1
_types = pa.types
_Integers = npt.NDArray[np.int64]


def gathered(schema: pa.Schema, rows: _Integers, payloads: Sequence[bytes | memoryview]) -> pa.RecordBatch | None:
    """Decode several messages as one batch.

    Args:
        schema: The schema of all of them.
        rows: How many rows each has.
        payloads: Record batches as Arrow serializes them.

    Returns:
        Their rows; None if Arrow must read them, which also tells whether one is damaged.
    """
    try:
        columns = _Columns(_Messages(rows, payloads))
        return pa.RecordBatch.from_arrays([columns.next(field.type) for field in schema], schema=schema)
    except (UnknownFormError, IndexError, ValueError):
        return None


class _Words(NamedTuple):
    """Where the numbers of a message are, in words of 8 bytes; see ``NumberPlaces``."""

    head: int
    rows: int
    body: int
    nodes: slice
    buffers: slice


def _words(places: NumberPlaces) -> _Words:
    head, rows, body = map(_word, (places.head_bytes, places.rows, places.body_bytes))
    return _Words(head, rows, body, _slice(places.nodes), _slice(places.buffers))


def _slice(pairs: Pairs) -> slice:
    begin = _word(pairs.at)
    return slice(begin, begin + 2 * pairs.length)


def _word(at: int) -> int:
    if at % _WORD_BYTES:
        raise UnknownFormError
    return at // _WORD_BYTES


class _Messages:
    """Messages in one piece of memory, and their numbers.

    Attributes:
        data: One message behind the other.
        rows: How many rows each has.
        total: How many rows all have.
        nodes: Of each message and array: its length, and its number of nulls.
        starts: Of each message and buffer: where it begins in ``data``.
        sizes: Of each message and buffer: its size in bytes.
    """

    def __init__(self, rows: _Integers, payloads: Sequence[bytes | memoryview]) -> None:
        places = _words(number_places(bytes(payloads[0])))
        lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
        if (lengths % _WORD_BYTES).any() or lengths.min() < _WORD_BYTES * places.head:
            raise UnknownFormError
        self.data = b"".join(payloads)
        self.rows, self.total = rows, int(rows.sum())
        begins = np.cumsum(lengths) - lengths
        words = np.frombuffer(self.data, np.int64)
        heads = words[(begins // _WORD_BYTES)[:, np.newaxis] + np.arange(places.head)]
        self.nodes = heads[:, places.nodes].reshape(len(rows), -1, 2)
        buffers = heads[:, places.buffers].reshape(len(rows), -1, 2)
        offsets, self.sizes = buffers[:, :, 0], buffers[:, :, 1]
        bodies = (lengths - _WORD_BYTES * places.head)[:, np.newaxis]
        self.starts = offsets + (begins + _WORD_BYTES * places.head)[:, np.newaxis]
        is_within = (offsets >= 0) & (offsets <= bodies) & (self.sizes >= 0) & (self.sizes <= bodies - offsets)
        is_alike = _same_but_for_numbers(heads, places) and (heads[:, places.rows] == rows).all()
        if not is_alike or not is_within.all() or (offsets % _WORD_BYTES).any() or not rows.all():
            raise UnknownFormError

    @cached_property
    def numbers(self) -> _Integers:
        """The number of each row within its message."""
        found: _Integers = np.arange(self.total) - self.for_rows(np.cumsum(self.rows) - self.rows)
        return found

    def for_rows(self, values: _Integers) -> _Integers:
        """Repeat a value of each message for each of its rows."""
        return np.repeat(values, self.rows)


def _same_but_for_numbers(heads: _Integers, places: _Words) -> bool:
    is_fixed = np.ones(places.head, np.bool_)
    is_fixed[[places.rows, places.body]] = False
    is_fixed[places.nodes] = is_fixed[places.buffers] = False
    return bool((heads[:, is_fixed] == heads[0, is_fixed]).all())


class _Columns:
    """Gathers one column after the other."""

    def __init__(self, messages: _Messages) -> None:
        self._messages = messages
        self._array = self._buffer = 0

    def next(self, type_: pa.DataType) -> pa.Array:
        """The next column, which has a type."""
        if isinstance(type_, pa.BaseExtensionType):
            return type_.wrap_array(self.next(type_.storage_type))
        node = self._messages.nodes[:, self._array]
        self._array += 1
        if (node[:, 0] != self._messages.rows).any():
            raise UnknownFormError
        if _types.is_null(type_):  # it has no buffers
            return pa.nulls(self._messages.total)
        validity = self._bits(is_validity=True)
        buffers = [validity if node[:, 1].any() else None, *self._values(type_)]
        return pa.Array.from_buffers(type_, self._messages.total, buffers)

    def _values(self, type_: pa.DataType) -> list[pa.Buffer]:
        if _types.is_string(type_) or _types.is_binary(type_):
            return self._texts(np.dtype(np.int32))
        if _types.is_large_string(type_) or _types.is_large_binary(type_):
            return self._texts(np.dtype(np.int64))
        if _types.is_boolean(type_):
            return [self._bits()]
        if _types.is_primitive(type_) or _types.is_decimal(type_):
            return [self._numbers(type_.bit_width // 8)]
        raise UnknownFormError

    def _next(self, needed: _Integers) -> _Integers:
        """Where the next buffer of each message begins, which has at least a number of bytes."""
        number, self._buffer = self._buffer, self._buffer + 1
        if (self._messages.sizes[:, number] < needed).any():
            raise UnknownFormError
        starts: _Integers = self._messages.starts[:, number]
        return starts

    def _numbers(self, width: int) -> pa.Buffer:
        part = min(width, _WORD_BYTES)
        starts = self._next(width * self._messages.rows) // part
        values = np.frombuffer(self._messages.data, f"u{part}")
        parts = width // part
        places = self._messages.for_rows(starts) + parts * self._messages.numbers
        return pa.py_buffer(values[places if parts == 1 else places[:, np.newaxis] + np.arange(parts)])

    def _bits(self, *, is_validity: bool = False) -> pa.Buffer:
        """Bits of each row. A message without nulls has no buffer for them."""
        messages, has_none = self._messages, self._messages.sizes[:, self._buffer] == 0
        if is_validity and has_none.all():
            self._buffer += 1
            return pa.py_buffer(b"")
        needed = (messages.rows + 7) // 8
        starts = self._next(np.where(has_none, 0, needed) if is_validity else needed)
        data, numbers = np.frombuffer(messages.data, np.uint8), messages.numbers
        places = np.minimum(messages.for_rows(starts) + (numbers >> 3), len(data) - 1)
        bits = (data[places] >> (numbers & 7).astype(np.uint8)) & 1
        if is_validity:
            bits |= messages.for_rows(has_none)
        return pa.py_buffer(np.packbits(bits, bitorder="little"))

    def _texts(self, offset: "np.dtype[Any]") -> list[pa.Buffer]:
        messages, width = self._messages, offset.itemsize
        starts = self._next(width * (messages.rows + 1)) // width
        offsets = np.frombuffer(messages.data, offset)
        places = messages.for_rows(starts) + messages.numbers
        lengths = offsets[places + 1].astype(np.int64) - offsets[places]
        ends = np.cumsum(lengths)
        begins, stops = offsets[starts].astype(np.int64), offsets[starts + messages.rows].astype(np.int64)
        if (lengths < 0).any() or (begins < 0).any() or ends[-1] > _LARGEST_OFFSET:
            raise UnknownFormError
        at = self._next(stops)
        view = memoryview(messages.data)
        pieces = map(view.__getitem__, map(slice, (at + begins).tolist(), (at + stops).tolist()))
        return [pa.py_buffer(np.concatenate([[0], ends]).astype(offset)), pa.py_buffer(b"".join(pieces))]
