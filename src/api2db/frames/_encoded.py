"""A small frame as an Arrow IPC message, and the body and metadata that such a message consists of.

``RecordBatch.serialize`` makes the same message from Arrow arrays. Making the arrays and the batch first takes five
times as long as the message does, so ``_shapes`` copies the values of a DataFrame straight into the body of a message.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from api2db.frames._from_arrow import Rows
from api2db.frames._kinds import JSON
from api2db.frames._messages import UnknownFormError, number_places

_types = pa.types
_JSON_ID = JSON.id
_ALIGNMENT = 8
_PADDING = [bytes(size) for size in range(_ALIGNMENT)]
_INT32, _INT64 = struct.Struct("<i"), struct.Struct("<q")


@dataclass(slots=True)
class EncodedRows:
    """The rows of a small frame, encoded.

    Attributes:
        schema: Their schema; it holds no dictionaries.
        serialized_schema: The schema as an Arrow IPC message.
        message: One record batch as an Arrow IPC message, without the schema.
    """

    schema: pa.Schema
    serialized_schema: bytes
    num_rows: int
    message: bytes

    @property
    def nbytes(self) -> int:
        """Their size in memory."""
        return len(self.message)

    def batch(self) -> pa.RecordBatch:
        """Decode them."""
        return pa.ipc.read_record_batch(pa.py_buffer(self.message), self.schema)


Frame: TypeAlias = Rows | EncodedRows
"""The rows of a frame in a form that can be stored."""


class Body:
    """The body of a message while columns are added to it, in any order.

    Args:
        height: The number of rows; at least one.
        width: The number of columns.

    Attributes:
        size: Its size in bytes.
        odd: Place and type of each column whose type its dtype does not tell.
    """

    __slots__ = ("_chunks", "height", "nulls", "odd", "places", "size")

    def __init__(self, height: int, width: int) -> None:
        self.height = height
        self.size = 0
        self.odd: list[tuple[int, pa.DataType]] = []
        self.nulls = [0] * width
        self.places: list[tuple[int, ...]] = [()] * width
        self._chunks: list[Any] = []

    def content(self) -> bytes:
        """Return the bytes."""
        return b"".join(self._chunks)

    def add_values(self, values: np.ndarray, columns: Sequence[int], missing: bytes) -> None:
        """Add columns of fixed-size values.

        Args:
            values: Of one column, or of one column in each row.
            columns: The places of the columns.
            missing: One byte for each value, 1 if it is missing; empty if no value can be missing.

        Raises:
            UnknownFormError: There are more or fewer values.
        """
        data, size = values.tobytes(), self.height * values.itemsize
        if len(data) != size * len(columns):
            raise UnknownFormError
        if 1 not in missing and (len(columns) == 1 or not size % _ALIGNMENT):
            at = self._add(data)
            for column in columns:
                self.places[column] = (0, 0, at, size)
                at += size
            return
        for row, column in enumerate(columns):
            places = self._validity(missing[row * self.height : (row + 1) * self.height], column)
            if self.nulls[column] == self.height and values.dtype == np.float64:
                self._add_nulls(column)
            else:
                self.places[column] = (*places, self._add(data[row * size : (row + 1) * size]), size)

    def add_booleans(self, values: np.ndarray, columns: Sequence[int]) -> None:
        """Add columns of booleans, as ``add_values`` does."""
        if values.size != self.height * len(columns):
            raise UnknownFormError
        bits, size = np.packbits(values, -1, "little").tobytes(), (self.height + 7) // 8
        for row, column in enumerate(columns):
            self.places[column] = (0, 0, self._add(bits[row * size : (row + 1) * size]), size)

    def add_array(self, array: pa.Array, column: int) -> None:
        """Add an Arrow array of a plain type.

        Raises:
            UnknownFormError: It is of another type, or a slice of another array.
        """
        type_, nulls = array.type, array.null_count
        self.odd.append((column, type_))
        self.nulls[column] = nulls
        if type_.id == _JSON_ID and type_ == JSON:
            array, type_ = array.storage, type_.storage_type
        if array.offset or len(array) != self.height:
            raise UnknownFormError
        if not _types.is_null(type_):
            self.places[column] = self._array_places(array.buffers(), type_, nulls)

    def _array_places(self, buffers: list[pa.Buffer | None], type_: pa.DataType, nulls: int) -> tuple[int, ...]:
        validity = self._add_buffer(buffers[0], (self.height + 7) // 8) if nulls else (0, 0)
        if (offset := _OFFSETS.get(type_.id)) is not None and (offsets := buffers[1]) is not None:
            (begin,), (end,) = offset.unpack_from(offsets), offset.unpack_from(offsets, self.height * offset.size)
            if begin:
                raise UnknownFormError
            text = self._add_buffer(buffers[2], end) if end else (0, 0)
            return (*validity, *self._add_buffer(offsets, (self.height + 1) * offset.size), *text)
        if _types.is_boolean(type_):
            return (*validity, *self._add_buffer(buffers[1], (self.height + 7) // 8))
        if type_.id in _FIXED and not (_types.is_decimal(type_) and type_.scale < 0):
            return (*validity, *self._add_buffer(buffers[1], self.height * type_.bit_width // 8))
        raise UnknownFormError

    def _add_buffer(self, buffer: pa.Buffer | None, size: int) -> tuple[int, int]:
        if buffer is None or buffer.size < size:
            raise UnknownFormError
        return self._add(buffer if buffer.size == size else buffer.slice(0, size)), size

    def _validity(self, missing: bytes, column: int) -> tuple[int, int]:
        self.nulls[column] = missing.count(1)
        if not self.nulls[column]:
            return 0, 0
        bits = np.packbits(np.frombuffer(missing, np.uint8) ^ 1, bitorder="little").tobytes()
        return self._add(bits), len(bits)

    def _add_nulls(self, column: int) -> None:
        """Add a column of floats that are all missing: its dtype says nothing about later values."""
        self.odd.append((column, pa.null()))

    def _add(self, data: Any) -> int:
        at, size = self.size, len(data)
        self._chunks.append(data)
        if padding := -size % _ALIGNMENT:
            self._chunks.append(_PADDING[padding])
        self.size = at + size + padding
        return at


class Metadata:
    """The metadata of a record batch of one schema, in which only numbers differ from batch to batch.

    Args:
        message: Of such a record batch that is not empty.

    Raises:
        UnknownFormError: It does not have the form that is expected.
    """

    def __init__(self, message: bytes) -> None:
        self._places = places = number_places(message)
        self._head = message[: places.head_bytes]
        self._nodes, self._buffers = (
            struct.Struct(f"<{2 * pairs.length}q") for pairs in (places.nodes, places.buffers)
        )

    def message(self, body: Body) -> bytes:
        """Return a body as a whole message.

        Raises:
            UnknownFormError: It has columns of other types.
        """
        head, height, places = bytearray(self._head), body.height, self._places
        nodes, buffers = (
            chain.from_iterable([(height, count) for count in body.nulls]),
            chain.from_iterable(body.places),
        )
        try:
            self._nodes.pack_into(head, places.nodes.at, *nodes)
            self._buffers.pack_into(head, places.buffers.at, *buffers)
        except struct.error as error:
            raise UnknownFormError from error
        _INT64.pack_into(head, places.rows, height)
        _INT64.pack_into(head, places.body_bytes, body.size)
        return bytes(head) + body.content()


_OFFSETS = {
    pa.utf8().id: _INT32,
    pa.binary().id: _INT32,
    pa.large_utf8().id: _INT64,
    pa.large_binary().id: _INT64,
}
_FIXED = frozenset(
    type_.id
    for type_ in (
        *(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(pa.float32(), pa.float64(), pa.decimal128(1), pa.decimal256(1)),
        *(pa.date32(), pa.time32("s"), pa.time64("us"), pa.timestamp("us"), pa.duration("us")),
    )
)
