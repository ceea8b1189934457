"""Arrow IPC messages: where the numbers of a record batch are in its message.

Messages of one schema differ only in their bodies and in some numbers at the same places: how many rows, nulls and
bytes there are. The metadata before the body is a flatbuffer; its fields are numbered as in Arrow's Message.fbs.
"""

import struct
from typing import Final, NamedTuple

_PREFIX: Final = struct.Struct("<II")  # before the metadata: a mark, and the size of the metadata
_MARK: Final = 0xFFFFFFFF
END_OF_STREAM: Final = _PREFIX.pack(_MARK, 0)
_UINT16, _INT32, _UINT32 = (struct.Struct(f"<{code}") for code in "HiI")
_RECORD_BATCH: Final = 3


class UnknownFormError(Exception):
    """Something has another form than those that are read and written here; it is left to Arrow."""


class Pairs(NamedTuple):
    """A vector of pairs of numbers, of eight bytes each.

    Attributes:
        at: The offset of the first pair.
        length: How many pairs there are.
    """

    at: int
    length: int


class NumberPlaces(NamedTuple):
    """Where the numbers of a record batch's message are, as offsets in bytes.

    Attributes:
        head_bytes: How many bytes precede the body.
        rows: The number of rows.
        body_bytes: The size of the body.
        nodes: The length and the number of nulls of each array.
        buffers: The offset in the body and the size of each buffer.
    """

    head_bytes: int
    rows: int
    body_bytes: int
    nodes: Pairs
    buffers: Pairs


def head_bytes(message: bytes | memoryview) -> int:
    """Return how many bytes of a message precede its body."""
    return _PREFIX.size + int(_PREFIX.unpack_from(message)[1])


def number_places(message: bytes) -> NumberPlaces:
    """Find the numbers in a message.

    Args:
        message: Of a record batch that is not empty and not compressed.

    Raises:
        UnknownFormError: It is another message, or not one at all.
    """
    try:
        return _number_places(message)
    except (struct.error, IndexError) as error:
        raise UnknownFormError from error


def _number_places(message: bytes) -> NumberPlaces:
    table = _Table(message, _PREFIX.size)
    if _PREFIX.unpack_from(message)[0] != _MARK or message[table.place(1)] != _RECORD_BATCH:
        raise UnknownFormError
    batch = _Table(message, table.place(2))
    is_compressed = batch.find(3)
    if is_compressed:
        raise UnknownFormError
    nodes, buffers = (_pairs(message, batch.place(field)) for field in (1, 2))
    return NumberPlaces(head_bytes(message), batch.place(0), table.place(3), nodes, buffers)


class _Table:
    """A table of a flatbuffer. It begins with the distance to the list of its fields.

    Args:
        data: What contains it.
        reference: Where the offset of the table is.
    """

    def __init__(self, data: bytes, reference: int) -> None:
        self._data = data
        self._at = _target(data, reference)
        self._fields = self._at - int(_INT32.unpack_from(data, self._at)[0])
        self._fields_bytes = int(_UINT16.unpack_from(data, self._fields)[0])

    def find(self, field: int) -> int:
        """Return where a field's value is; 0 if it is left out, as one that has the default is."""
        entry = 4 + 2 * field
        offset = int(_UINT16.unpack_from(self._data, self._fields + entry)[0]) if entry < self._fields_bytes else 0
        return self._at + offset if offset else 0

    def place(self, field: int) -> int:
        """Return where a field's value is.

        Raises:
            UnknownFormError: It is left out.
        """
        place = self.find(field)
        if not place:
            raise UnknownFormError
        return place


def _target(data: bytes, reference: int) -> int:
    return reference + int(_UINT32.unpack_from(data, reference)[0])


def _pairs(data: bytes, reference: int) -> Pairs:
    at = _target(data, reference)
    return Pairs(at + _UINT32.size, int(_UINT32.unpack_from(data, at)[0]))
