"""One record of a segment: its header, and how a payload becomes bytes and back."""

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

import pyarrow as pa

MAGIC = b"\xa2DB1"
_FIELDS = struct.Struct("<4sHHIIIQqQI")
_CHECKSUM = struct.Struct("<I")
_PADDING = b"\0" * 12
HEADER_BYTES = _FIELDS.size + len(_PADDING) + _CHECKSUM.size
LARGE_BYTES = 32 * 1024
_LZ4 = pa.ipc.IpcWriteOptions(compression="lz4")


class Kind(IntEnum):
    """What the payload of a record is."""

    SCHEMA = 1
    ROWS = 2
    CURSOR = 3
    REMOVAL = 4


class Flag(IntFlag):
    """Marks of a record within its group, and of its payload's form."""

    FIRST = 1
    LAST = 2
    FRAME_END = 4
    STREAM = 8


class Header(NamedTuple):
    """The fixed part of a record, as read and checked."""

    kind: int
    flags: int
    lane: int
    schema: int
    rows: int
    sequence: int
    timestamp_ns: int
    length: int
    payload_crc: int


@dataclass(slots=True)
class Part:
    """A record that has no place in a segment yet."""

    kind: Kind
    payload: bytes | memoryview | pa.Buffer
    crc: int
    flags: int = 0
    rows: int = 0
    frame: int = 0
    schema: bytes | None = None


def pack(header: Header) -> bytes:
    """The 64 bytes that stand before a payload."""
    fields = _FIELDS.pack(MAGIC, *header) + _PADDING
    return fields + _CHECKSUM.pack(zlib.crc32(fields))


def unpack(buffer: bytes | memoryview, offset: int = 0) -> Header | None:
    """The header at an offset; None where there is none, or a damaged one."""
    if len(buffer) - offset < HEADER_BYTES or buffer[offset : offset + 4] != MAGIC:
        return None
    end = offset + HEADER_BYTES - _CHECKSUM.size
    if zlib.crc32(buffer[offset:end]) != _CHECKSUM.unpack_from(buffer, end)[0]:
        return None
    return Header._make(_FIELDS.unpack_from(buffer, offset)[1:])


def part(kind: Kind, payload: bytes, *, flags: int = 0) -> Part:
    """A record of bytes that are ready as they stand."""
    return Part(kind, payload, zlib.crc32(payload), flags)


def encode_rows(batch: pa.RecordBatch, frame: int) -> Part:
    """A record batch as a record: a small one without its schema, a large or dictionary-encoded one on its own."""
    if batch.nbytes > LARGE_BYTES or _has_dictionary(batch.schema):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=_LZ4) as writer:
            writer.write_batch(batch)
        payload, flags, schema = sink.getvalue(), int(Flag.STREAM), None
    else:
        payload, flags, schema = batch.serialize(), 0, batch.schema.serialize().to_pybytes()
    return Part(Kind.ROWS, payload, zlib.crc32(payload), flags, batch.num_rows, frame, schema)


def decode_rows(header: Header, payload: bytes | memoryview, schemas: Mapping[int, pa.Schema]) -> pa.RecordBatch:
    """The record batch of a ``ROWS`` record.

    Raises:
        KeyError: The schema's record has been damaged.
        pyarrow.ArrowInvalid: The payload is no Arrow data.
    """
    if header.flags & Flag.STREAM:
        with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
            return reader.read_next_batch()
    return pa.ipc.read_record_batch(pa.py_buffer(payload), schemas[header.schema])


def _has_dictionary(schema: pa.Schema) -> bool:
    return any(pa.types.is_dictionary(type_) for type_ in schema.types)
