"""The records of one append, and how they are written into a segment."""

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from api2db.journal._record import Flag, Header, RecordKind, pack
from api2db.journal._rows import Part
from api2db.journal._segment import BEGINNING, Location, Placed, SegmentWriter

_COPIES = 2
_REPEAT_BYTES = 1 << 20


@dataclass(slots=True)
class Group:
    """The records of one append, from their numbering until they are durable.

    Attributes:
        headers: The records' headers, as last written.
        end: The location behind them.
        error: Why their durability is unknown.
    """

    parts: Sequence[Part]
    stream_no: int
    first_sequence: int
    times_ns: list[int]
    size_bytes: int
    headers: list[Header] = field(default_factory=list)
    end: Location = BEGINNING
    durable: bool = False
    error: OSError | None = None

    @property
    def last_sequence(self) -> int:
        """The sequence number of its last record."""
        return self.first_sequence + len(self.parts) - 1

    def write(self, writer: SegmentWriter) -> None:
        """Write the records, with the schemas that the segment lacks.

        Raises:
            OSError: The disk refuses; what was written is truncated, if the disk allows that.
        """
        buffers: list[Any] = []
        begun: dict[bytes, Placed] = {}
        last = len(self.parts) - 1
        self.headers = []
        for index, part in enumerate(self.parts):
            schema = 0
            if part.schema is not None:
                schema, copies = _place_schema(part.schema, writer, begun)
                if copies:
                    buffers += copies * _schema_record(schema, part.schema, writer.synced_end)
            header = Header(
                part.kind,
                part.flags | (index == 0 and Flag.FIRST) | (index == last and Flag.LAST),
                self.stream_no,
                schema,
                part.rows,
                self.first_sequence + index,
                self.times_ns[index],
                part.size_bytes,
                part.crc,
                writer.synced_end,
            )
            self.headers.append(header)
            buffers += (pack(header), part.payload, part.trace) if part.trace else (pack(header), part.payload)
        _write(writer, buffers)
        self.end = Location(writer.segment.number, writer.segment.end)
        writer.schemas.update(begun)


def _write(writer: SegmentWriter, buffers: list[Any]) -> None:
    before = writer.segment.end
    try:
        writer.write(buffers)
    except OSError:
        with suppress(OSError):
            writer.cut(before)
        raise


def _place_schema(schema: bytes, writer: SegmentWriter, begun: dict[bytes, Placed]) -> tuple[int, int]:
    """Return a schema's number, and how many copies to write now: one damaged copy must not cost all its rows."""
    known, end = begun.get(schema) or writer.schemas.get(schema), writer.segment.end
    if known is None:
        begun[schema] = Placed(len(writer.schemas.keys() | begun.keys()) + 1, end)
        return begun[schema].number, _COPIES
    if end - known.at < _REPEAT_BYTES:
        return known.number, 0
    begun[schema] = Placed(known.number, end)
    return known.number, 1


def _schema_record(number: int, schema: bytes, synced_end: int) -> tuple[bytes, bytes]:
    header = Header(RecordKind.SCHEMA, 0, 0, number, 0, 0, 0, len(schema), zlib.crc32(schema), synced_end)
    return pack(header), schema
