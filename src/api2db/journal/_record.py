"""The 64-byte record header and its checksum."""

import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

MAGIC = b"\xa2DB1"
_FIELDS = struct.Struct("<4sHHIIIQqQIQ4x")
_WHOLE = struct.Struct("<4sHHIIIQqQIQ4xI")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _WHOLE.size


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
