"""Encode frames as records, in slices that bound memory, and decode records into rows."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from api2db.frames import END_OF_STREAM, EncodedRows, Frame, Refused, Rows, head_bytes, one_batch
from api2db.journal._record import Flag, Header, RecordKind
from api2db.journal.port import ReadLimit
from api2db.tracing import CONTEXT_BYTES

LARGE_BYTES = 32 * 1024
Counts = npt.NDArray[np.int64]
_IN_THIS_THREAD = pa.ipc.IpcReadOptions(use_threads=False)
# Compressing takes longer than the rest of a put, and pays only for what stays on disk.
# The most that LZ4 adds to what it can't compress: a share of it, and its frame with what Arrow puts around it.
_LZ4_GROWS, _LZ4_BUFFER_BYTES = 255, 64
_PLAIN, _LZ4 = pa.ipc.IpcWriteOptions(), pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(slots=True)
class Part:
    """A record that has no place in a segment yet.

    Attributes:
        frame: Number of the frame within its group.
        schema: The serialized schema, if the payload does not carry its own.
        trace: The context of the put's span; stored behind the payload, and counted in its size and checksum.
    """

    kind: RecordKind
    payload: bytes | memoryview | pa.Buffer
    size_bytes: int
    crc: int
    flags: int = 0
    rows: int = 0
    frame: int = 0
    schema: bytes | None = None
    trace: bytes = b""

    def add_trace(self, context: bytes) -> None:
        """Store the context of the put's span with the record."""
        self.trace, self.flags = context, self.flags | Flag.TRACED
        self.size_bytes, self.crc = self.size_bytes + len(context), zlib.crc32(context, self.crc)


@dataclass(frozen=True, slots=True)
class _Layout:
    """What must be known of a schema to store its batches."""

    schema: pa.Schema
    serialized: bytes
    has_dictionary: bool
    has_view: bool


class _Layouts:
    """A cache of the last few layouts: serializing a schema for each tiny frame would cost more than the rest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: tuple[_Layout, ...] = ()

    def of(self, schema: pa.Schema) -> _Layout:
        for layout in self._recent:
            if schema.equals(layout.schema, check_metadata=True):
                return layout
        layout = _Layout(
            schema,
            schema.serialize().to_pybytes(),
            any(_has_dictionary(field.type) for field in schema),
            any(_is_view(field.type) for field in schema),
        )
        self._recent = (layout, *self._recent[: self._size - 1])
        return layout


_layouts = _Layouts(8)


def json_part(kind: RecordKind, payload: bytes) -> Part:
    """A record of bytes that need no encoding."""
    return Part(kind, payload, len(payload), zlib.crc32(payload))


def frame_parts(frame: Frame, number: int, limit: ReadLimit, plain_bytes: int) -> Iterator[Part]:
    """Yield a frame as records of at most ``limit`` rows and bytes, but of at least one row.

    Args:
        plain_bytes: The size from which a large frame is compressed.
    """
    if isinstance(frame, EncodedRows):
        if frame.num_rows <= limit.rows and frame.nbytes <= limit.size_bytes:
            yield _of_message(frame, number)
            return
        frame = frame.batch()
    layout = _layouts.of(frame.schema)
    if layout.has_view:
        frame = _without_views(one_batch(frame))
        layout = _layouts.of(frame.schema)
    rows = _rows_a_slice(frame, limit, layout)
    packed = frame.get_total_buffer_size() > LARGE_BYTES and frame.nbytes > max(LARGE_BYTES, plain_bytes)
    if frame.num_rows <= rows:
        yield _encode(frame, number, layout, Flag.FRAME_END, packed=packed)
        return
    for at in range(0, frame.num_rows, rows):
        flags = Flag.FRAME_END if at + rows >= frame.num_rows else 0
        yield _encode(frame.slice(at, rows), number, layout, flags, packed=packed)


def parts_of(frames: Sequence[Frame | Refused], limit: ReadLimit, plain_bytes: int) -> list[Part]:
    """Return frames as records; refused rows belong to the frame behind them, if there is one.

    Args:
        plain_bytes: As in ``frame_parts``.
    """
    parts: list[Part] = []
    number = 0
    for frame in frames:
        if isinstance(frame, Refused):
            refused = list(frame_parts(frame.rows, number, limit, plain_bytes))
            for part in refused:
                part.flags = (part.flags & ~Flag.FRAME_END) | Flag.REFUSED
            parts += refused
        else:
            parts += frame_parts(frame, number, limit, plain_bytes)
            number += 1
    if parts and isinstance(frames[-1], Refused):
        parts[-1].flags |= Flag.FRAME_END
    return parts


def rows_of(header: Header, payload: bytes | memoryview) -> bytes | memoryview:
    """Return the payload of a ``ROWS`` record without the context of a span."""
    return memoryview(payload)[:-CONTEXT_BYTES] if header.flags & Flag.TRACED else payload


def trace_of(header: Header, payload: bytes | memoryview) -> bytes | None:
    """Return the context of the span that put a ``ROWS`` record; None if none was stored."""
    return bytes(payload[-CONTEXT_BYTES:]) if header.flags & Flag.TRACED else None


def decode_rows(header: Header, payload: bytes | memoryview, schemas: Mapping[int, pa.Schema]) -> pa.RecordBatch:
    """Decode the record batch of a ``ROWS`` record, given without the context of a span.

    Raises:
        KeyError: The schema's record is damaged.
        pyarrow.ArrowInvalid: The payload is not Arrow data.
    """
    if header.flags & Flag.STREAM:
        with pa.ipc.open_stream(pa.py_buffer(payload), options=_IN_THIS_THREAD) as reader:
            return reader.read_next_batch()
    return pa.ipc.read_record_batch(pa.py_buffer(payload), schemas[header.schema])


def decode_together(schema: pa.Schema, rows: int, payloads: Sequence[bytes | memoryview]) -> pa.RecordBatch:
    """Decode several small ``ROWS`` records of one schema in one pass.

    Args:
        schema: Their schema.
        rows: How many rows they have together.
        payloads: Of each record.

    Raises:
        pyarrow.ArrowInvalid: One of them is not Arrow data, or has another number of rows.
    """
    stream = b"".join([schema.serialize().to_pybytes(), *payloads])
    with pa.ipc.open_stream(pa.py_buffer(stream), options=_IN_THIS_THREAD) as reader:
        table = reader.read_all().combine_chunks()  # of a column this would make an object for each chunk
    if table.num_rows != rows:
        raise pa.ArrowInvalid("a record does not have as many rows as its header says")
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)


def decode_streams(rows: Counts, payloads: Sequence[bytes | memoryview], size_bytes: int) -> list[pa.RecordBatch]:
    """Decode several ``ROWS`` records that are streams of one schema in one pass.

    Args:
        rows: How many rows each has.
        payloads: Of each record.
        size_bytes: The most that they may become together; the one that reaches it still counts.

    Raises:
        pyarrow.ArrowInvalid: They have different schemas, or dictionaries; or one of them is not Arrow data, or has
            another number of rows.
    """
    begin = head_bytes(payloads[0])
    schema, batches = bytes(payloads[0][:begin]), list[pa.RecordBatch]()
    if any(payload[:begin] != schema for payload in payloads):
        raise pa.ArrowInvalid("the streams have different schemas")
    stream = b"".join([schema, *(_without_end(payload[begin:]) for payload in payloads)])
    with pa.ipc.open_stream(pa.py_buffer(stream), options=_IN_THIS_THREAD) as reader:
        if any(_has_dictionary(field.type) for field in reader.schema):
            raise pa.ArrowInvalid("a dictionary belongs to its stream")
        for count in rows.tolist():
            batch = reader.read_next_batch()
            if batch.num_rows != count:
                raise pa.ArrowInvalid("a record does not have as many rows as its header says")
            batches.append(batch)
            size_bytes -= batch.nbytes
            if size_bytes <= 0:
                break
    return batches


def _without_end(stream: bytes | memoryview) -> bytes | memoryview:
    begin = -len(END_OF_STREAM)
    return stream[:begin] if stream[begin:] == END_OF_STREAM else stream


def _of_message(rows: EncodedRows, frame: int) -> Part:
    message = rows.message
    return Part(
        RecordKind.ROWS,
        message,
        len(message),
        zlib.crc32(message),
        int(Flag.FRAME_END),
        rows.num_rows,
        frame,
        rows.serialized_schema,
    )


def _rows_a_slice(frame: Rows, limit: ReadLimit, layout: _Layout) -> int:
    """The number of rows that fit. Each slice holds a whole dictionary, so dictionaries don't count."""
    if frame.get_total_buffer_size() <= limit.size_bytes:
        return limit.rows
    size_bytes = sum(column.nbytes for column in frame.columns if not pa.types.is_dictionary(column.type))
    if layout.has_dictionary:
        size_bytes += 8 * frame.num_rows
    rows: int = max(1, limit.size_bytes * frame.num_rows // max(1, size_bytes))
    return min(limit.rows, rows)


def _encode(rows: Rows, frame: int, layout: _Layout, flags: int, *, packed: bool) -> Part:
    """Encode a small batch without its schema; a large one, or one with dictionaries, as a stream of its own."""
    batch = one_batch(rows)
    if batch is not rows:
        layout = _layouts.of(batch.schema)
    if layout.has_dictionary or (batch.get_total_buffer_size() > LARGE_BYTES and batch.nbytes > LARGE_BYTES):
        payload, flags, schema = _stream_of(batch, layout, packed=packed), flags | Flag.STREAM, None
    else:
        payload, schema = batch.serialize(), layout.serialized
    return Part(RecordKind.ROWS, payload, payload.size, zlib.crc32(payload), int(flags), batch.num_rows, frame, schema)


def _stream_of(batch: pa.RecordBatch, layout: _Layout, *, packed: bool) -> pa.Buffer:
    """A stream of one batch. Its memory is large enough from the start, where that is known, and so never copied."""
    options = _LZ4 if packed else _PLAIN
    if layout.has_dictionary:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
            writer.write_batch(batch)
        return sink.getvalue()
    room = pa.ipc.get_record_batch_size(batch)
    room += room // _LZ4_GROWS + _LZ4_BUFFER_BYTES * sum(len(column.buffers()) for column in batch.columns)
    memory = pa.allocate_buffer(room + len(layout.serialized) + len(END_OF_STREAM))
    file = pa.FixedSizeBufferWriter(memory)
    with pa.ipc.new_stream(file, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return memory.slice(0, file.tell())


def _without_views(frame: pa.RecordBatch) -> pa.RecordBatch:
    """Replace view types: a view keeps its whole buffers alive, however few rows refer to them."""
    fields = [field.with_type(_viewless(field.type)) for field in frame.schema]
    columns = [column.cast(field.type) for column, field in zip(frame.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, frame.schema.metadata))


def _viewless(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(type_):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(type_) else type_


def _is_view(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string_view(type_) or pa.types.is_binary_view(type_))


def _has_dictionary(type_: pa.DataType) -> bool:
    """Whether a type is or contains a dictionary."""
    if isinstance(type_, pa.BaseExtensionType):
        return _has_dictionary(type_.storage_type)
    if pa.types.is_dictionary(type_):
        return True
    return any(_has_dictionary(type_.field(index).type) for index in range(type_.num_fields))
