"""Collect one read's entries from records, up to a limit.

Consecutive small records are decoded in one pass: each decoding releases the interpreter to the producers and waits
for it again, which takes ten times as long as the decoding itself.
"""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from api2db.journal._record import Flag
from api2db.journal._registered import InFlight, in_flight
from api2db.journal._rows import decode_rows, decode_together, rows_of, trace_of
from api2db.journal._scan import Damage, Record, Want
from api2db.journal._segment import Count, Location, counts_of
from api2db.journal._segment_set import SegmentSet
from api2db.journal.port import Entry, Position, ReadLimit

_SMALL_BYTES = 16 * 1024
_WITHOUT_LIMIT = ReadLimit(sys.maxsize, sys.maxsize)


@dataclass(slots=True)
class BatchReader:
    """Collects entries for one stream; ``finish`` completes the last of them.

    Attributes:
        position: The stream's position; its ``skip`` applies to the record with the very next number, if there is one.
        in_flight: All records looked at, including damaged ones.
    """

    segment_set: SegmentSet
    position: Position
    limit: ReadLimit
    entries: list[Entry] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    _rows: int = 0
    _size_bytes: int = 0
    _run: list[Record] = field(default_factory=list)
    _run_rows: int = 0
    _run_bytes: int = 0

    def add(self, record: Record) -> bool:
        """Add a record within the limit; return True once no more may be added."""
        if not self._joins(record):
            self.finish()
        if self._is_full and self.entries[-1].timestamp_ns != record.header.timestamp_ns:
            return True  # The end of the last frame is damaged.
        self.in_flight.append(in_flight(record))
        if self._joins(record):
            self._join(record)
        elif (batch := decode(self.segment_set, record)) is not None:
            self._take(record, batch)
        return self._is_full and (self.entries[-1].frame_end or not self.limit.whole_frames)

    def finish(self) -> None:
        """Decode the records collected for one pass."""
        run, self._run, self._run_rows, self._run_bytes = self._run, [], 0, 0
        for record, batch in zip(run, decode_run(self.segment_set, run), strict=True):
            if batch is not None:
                self._take(record, batch)

    @property
    def _is_full(self) -> bool:
        return self._rows >= self.limit.rows or self._size_bytes >= self.limit.size_bytes

    def _joins(self, record: Record) -> bool:
        """Whether a record is small, has the schema of those before it, and will not be sliced."""
        header, first = record.header, self._run[0] if self._run else record
        return (
            header.length <= _SMALL_BYTES
            and not header.flags & Flag.STREAM
            and (header.schema, record.segment.number) == (first.header.schema, first.segment.number)
            and self._rows + self._run_rows + header.rows <= self.limit.rows
            and not (self.position.skip and header.sequence == self.position.sequence + 1)
        )

    def _join(self, record: Record) -> None:
        self._run.append(record)
        self._run_rows += record.header.rows
        self._run_bytes += record.header.length
        is_last = self._rows + self._run_rows >= self.limit.rows
        if is_last or self._size_bytes + self._run_bytes >= self.limit.size_bytes:
            self.finish()

    def _take(self, record: Record, batch: pa.RecordBatch) -> None:
        header = record.header
        skip = self.position.skip if header.sequence == self.position.sequence + 1 else 0
        room = batch.num_rows if self.limit.whole_frames else max(1, self.limit.rows - self._rows)
        taken = batch if not skip and batch.num_rows <= room else batch.slice(skip, room)
        reached = skip + taken.num_rows
        is_whole = reached >= batch.num_rows
        position = Position(header.sequence) if is_whole else Position(header.sequence - 1, reached)
        frame_end = is_whole and bool(header.flags & Flag.FRAME_END)
        retried = bool(header.flags & Flag.RETRIED)
        refused = bool(header.flags & Flag.REFUSED)
        trace = trace_of(header, record.payload)
        self.entries.append(Entry(position, header.timestamp_ns, taken, frame_end, retried, refused, trace))
        self._rows += taken.num_rows
        self._size_bytes += taken.nbytes if header.flags & Flag.STREAM else header.length


def newest_frame(
    segment_set: SegmentSet, want: Want, at: Location, stop: Location
) -> tuple[Count, list[Record], list[Entry]] | None:
    """Find the newest frame of which something is readable, and how much stands before it."""
    while True:
        before, records = _last_frame(segment_set, want, at, stop)
        if not records:
            return None
        start, end = Location(records[0].segment.number, records[0].start), records[-1].after
        batch_reader = BatchReader(segment_set, Position(0), _WITHOUT_LIMIT)
        for record in segment_set.records(start, end, want, payloads=True):
            batch_reader.add(record)
        batch_reader.finish()
        if batch_reader.entries:
            return before, records, batch_reader.entries
        stop = start


def _last_frame(segment_set: SegmentSet, want: Want, at: Location, stop: Location) -> tuple[Count, list[Record]]:
    frame: list[Record] = []
    before, total = Count(), Count()
    for record in segment_set.records(at, stop, want):
        if record.header.rows or not (frame and frame[0].header.rows):  # An empty frame replaces nothing.
            if not frame or frame[0].header.timestamp_ns != record.header.timestamp_ns:
                frame, before = [], replace(total)
            frame.append(record)
        total.add(*counts_of(record.header))
    return before, frame


def decode(segment_set: SegmentSet, record: Record) -> pa.RecordBatch | None:
    """Decode the rows of a record; set a damaged one aside and return None.

    Raises:
        OSError: Its schema can't be read.
    """
    try:
        if _is_sound(record):
            return decode_rows(record.header, rows_of(record.header, record.payload), segment_set.schemas(record))
    except (KeyError, pa.ArrowInvalid):
        pass
    except OSError as error:
        if (
            error.errno is not None
        ):  # Not Arrow's own: the schema can't be read now, for example without a free file descriptor.
            raise
    segment_set.set_aside(record.segment, Damage(record.start, record.end))
    return None


def decode_run(segment_set: SegmentSet, records: Sequence[Record]) -> list[pa.RecordBatch | None]:
    """Like ``decode``, for small records of one schema; if one is damaged, decode each by itself."""
    if len(records) > 1 and all(map(_is_sound, records)):
        try:
            schema = segment_set.schemas(records[0])[records[0].header.schema]
            payloads = [(record.header.rows, rows_of(record.header, record.payload)) for record in records]
            return [*decode_together(schema, payloads)]
        except (KeyError, pa.ArrowInvalid, OSError):
            pass
    return [decode(segment_set, record) for record in records]


def _is_sound(record: Record) -> bool:
    return zlib.crc32(record.payload) == record.header.payload_crc
