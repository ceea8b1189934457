"""The 64-byte record header and its checksum."""

import struct
import zlib
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

MAGIC = b"\xa2DB1"
_FIELDS = struct.Struct("<4sHHIIIQqQIQ4x")
_WHOLE = struct.Struct("<4sHHIIIQqQIQ4xI")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _WHOLE.size
_CHECKED_BYTES = _FIELDS.size
_FRAME = struct.Struct("<4s32xQ16xI")  # what leads to the next record, and the checksum


class RecordKind(IntEnum):
    """The kind of a record's payload."""

    SCHEMA = 1
    ROWS = 2
    CURSOR = 3
    REMOVAL = 4


class Flag(IntEnum):
    """Flags of a record. Not an IntFlag, whose operators are slow."""

    FIRST = 1
    LAST = 2
    FRAME_END = 4
    STREAM = 8
    RETRIED = 16
    REFUSED = 32
    TRACED = 64


class Header(NamedTuple):
    """A record's header, as read and checked.

    Attributes:
        synced_end: Offset up to which the segment was known to be on disk when this header was written.
    """

    kind: int
    flags: int
    stream_no: int
    schema: int
    rows: int
    sequence: int
    timestamp_ns: int
    length: int
    payload_crc: int
    synced_end: int


# The fields of many headers as columns of one array, named as in ``Header``.
COLUMNS = np.dtype(
    {
        "names": list(Header._fields),
        "formats": ["<u2", "<u2", "<u4", "<u4", "<u4", "<u8", "<i8", "<u8", "<u4", "<u8"],
        "offsets": [4, 6, 8, 12, 16, 20, 28, 36, 44, 48],
        "itemsize": HEADER_BYTES,
    }
)
Headers = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]
Want = Callable[[Headers], Mask]


def pack(header: Header) -> bytes:
    """Encode a header."""
    fields = _FIELDS.pack(MAGIC, *header)
    return fields + _CHECKSUM.pack(zlib.crc32(fields))


def unpack(buffer: bytes | memoryview, offset: int = 0) -> Header | None:
    """Decode the header at an offset; None if there is none, or it is damaged."""
    if len(buffer) - offset < HEADER_BYTES:
        return None
    fields = _WHOLE.unpack_from(buffer, offset)
    if fields[0] != MAGIC or zlib.crc32(buffer[offset : offset + _FIELDS.size]) != fields[-1]:
        return None
    return Header._make(fields[1:-1])


def records_in(data: bytes, limit: int) -> tuple[list[int], int]:
    """Find the records that some bytes begin with. Their headers are valid; the last payload may be missing.

    Args:
        data: Headers with the payloads between them.
        limit: The offset at which the last record must end, or before.

    Returns:
        Where each record begins, and the offset behind the last one.
    """
    starts: list[int] = []
    at, last = 0, len(data) - HEADER_BYTES
    while at <= last:  # Nothing is called that can be avoided: a journal may have millions of records.
        magic, length, checksum = _FRAME.unpack_from(data, at)
        end = at + HEADER_BYTES + length
        if magic != MAGIC or end > limit or zlib.crc32(data[at : at + _CHECKED_BYTES]) != checksum:
            break
        starts.append(at)
        at = end
    return starts, at


def packed(headers: Iterable[Header]) -> Headers:
    """Return headers as columns."""
    found: Headers = np.frombuffer(b"".join(map(pack, headers)), COLUMNS)
    return found


def columns_of(data: bytes, offsets: npt.NDArray[np.int64]) -> Headers:
    """Return the headers at some offsets, checked before, as columns."""
    places = offsets[:, np.newaxis] + np.arange(HEADER_BYTES)
    headers: Headers = np.frombuffer(data, np.uint8)[places].view(COLUMNS)[:, 0]
    return headers
