"""Collect one read's entries from records, up to a limit.

Consecutive records that are not large are decoded in one pass into one entry: an object for each of them would take ten
times the memory of small ones, and decoding each by itself ten times as long.
"""

import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import pyarrow as pa

from api2db.journal._gather import gathered
from api2db.journal._in_flight import InFlight, ReadEnd, Stretch
from api2db.journal._record import Flag, Headers, Mask, Want
from api2db.journal._rows import Counts, decode_rows, decode_streams, decode_together, rows_of, trace_of
from api2db.journal._scan import Block, Damage, Record
from api2db.journal._segment import Count, Location, counts_of
from api2db.journal._segment_set import SegmentSet
from api2db.journal.port import ENTRY_BYTES, Entry, Position, ReadLimit, WholeFrames

_SMALL_BYTES: Final = 16 * 1024
_LARGE_BYTES: Final = 256 * 1024  # as streams of their own
# How many times its size a small record counts towards a limit: once as it is read, once as it is decoded.
_TIMES_SIZE: Final = 2
_WITHOUT_LIMIT: Final = ReadLimit(sys.maxsize, sys.maxsize)
_ALONE: Final = Flag.RETRIED | Flag.REFUSED
_SAME: Final = Flag.STREAM | Flag.TRACED


@dataclass(slots=True)
class BatchReader:
    """Collects entries for one stream.

    Attributes:
        position: The stream's position; its ``skip`` applies to the record with the very next number, if there is one.
        in_flight: All records looked at, including damaged ones.
    """

    segment_set: SegmentSet
    position: Position
    limit: ReadLimit
    entries: list[Entry] = field(default_factory=list)
    in_flight: InFlight = field(default_factory=InFlight)
    _rows: int = 0
    _size_bytes: int = 0

    def read(self, at: Location, stop: Location, want: Want) -> ReadEnd:
        """Add the wanted records behind the position, between two locations; return where the next read starts."""

        def wanted(headers: Headers) -> Mask:
            # After a rewrite the location may be the start of a segment, or copies may follow.
            return want(headers) & (headers["sequence"] > self.position.sequence)

        is_full = any(map(self.add, self.segment_set.blocks(at, stop, wanted, payloads=True)))
        position = self.entries[-1].position if self.entries else self.position
        if not is_full:
            return ReadEnd(position, max(at, stop))
        return ReadEnd(position, self.in_flight.location_behind(position.sequence) or at)

    def add(self, block: Block) -> bool:
        """Add records within the limit; return True once no more may be added."""
        at = 0
        for end in self._ends_of_runs(block).tolist():
            while at < end:
                if self._is_complete or (self._is_full and self._is_of_another_frame(block, at)):
                    self._look_at(block, at)
                    return True
                count = self._within_limit(block, at, end)
                taken = self._take_together(block, at, at + count) if count > 1 else 0
                for number in range(at, at + (0 if taken else count)):
                    self._take_alone(block.record(number, payload=True))
                at += taken or count
        self._look_at(block, len(block))
        return self._is_complete

    def _look_at(self, block: Block, count: int) -> None:
        if count:
            self.in_flight.add(Stretch.of(block, 0, count))

    @property
    def _is_full(self) -> bool:
        return self._rows >= self.limit.rows or self._size_bytes >= self.limit.size_bytes

    @property
    def _is_complete(self) -> bool:
        return self._is_full and (self.entries[-1].frame_end or not self.limit.whole_frames)

    def _is_of_another_frame(self, block: Block, number: int) -> bool:
        """Whether a frame that must be read whole has a damaged end."""
        return bool(self.entries[-1].timestamp_ns != block.headers["timestamp_ns"][number])

    def _ends_of_runs(self, block: Block) -> Counts:
        """Where each run of records ends that may be decoded together: of one form, not large, each a whole frame."""
        joins, schemas, forms = self._joins(block), block.headers["schema"], block.headers["flags"] & _SAME
        is_begin = ~(joins[1:] & joins[:-1] & (schemas[1:] == schemas[:-1]) & (forms[1:] == forms[:-1]))
        return np.append(np.flatnonzero(is_begin) + 1, len(block))

    def _joins(self, block: Block) -> Mask:
        headers = block.headers
        is_cut = (headers["sequence"] == self.position.sequence + 1) if self.position.skip else np.False_
        is_whole = (headers["flags"] & (_ALONE | Flag.FRAME_END)) == Flag.FRAME_END
        most_bytes = np.where(headers["flags"] & Flag.STREAM, _LARGE_BYTES, _SMALL_BYTES)
        joins: Mask = (headers["length"] <= most_bytes) & is_whole & ~is_cut
        return joins

    def _within_limit(self, block: Block, begin: int, end: int) -> int:
        """How many records of a run fit, at least one; the record that reaches the limit of bytes still does."""
        if end - begin == 1:
            return 1
        rows = np.cumsum(block.headers["rows"][begin:end], dtype=np.int64)
        sizes = np.cumsum(block.headers["length"][begin:end], dtype=np.int64)
        in_rows = np.searchsorted(rows, self.limit.rows - self._rows, side="right")
        in_bytes = np.searchsorted(_TIMES_SIZE * sizes, self._left_bytes) + 1
        return max(1, min(end - begin, int(in_rows), int(in_bytes)))

    def _take_together(self, block: Block, begin: int, end: int) -> int:
        """Decode a run in one pass; return how many records fit the limit, or 0 if one of them is damaged."""
        payloads = block.payloads(begin, end)
        if payloads is None:
            return 0
        first = block.record(begin)
        is_stream, is_traced = first.header.flags & Flag.STREAM, first.header.flags & Flag.TRACED
        rows = block.headers["rows"][begin:end].astype(np.int64)
        bare = [rows_of(first.header, payload) for payload in payloads] if is_traced else payloads
        try:
            batches = decode_streams(rows, bare, self._left_bytes) if is_stream else [self._decoded(first, rows, bare)]
        except (KeyError, pa.ArrowInvalid, OSError):
            return 0
        taken = len(batches) if is_stream else end - begin
        headers, rows = block.headers[begin : begin + taken], rows[:taken]
        sequences, times_ns = headers["sequence"].astype(np.int64), headers["timestamp_ns"].copy()
        traces = (
            [trace for payload in payloads[:taken] if (trace := trace_of(first.header, payload))] if is_traced else []
        )
        earlier = WholeFrames(sequences[:-1], times_ns[:-1], rows[:-1], traces[:-1])
        position, trace = Position(int(sequences[-1])), traces[-1] if traces else None
        batch = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        self.entries.append(Entry(position, int(times_ns[-1]), batch, True, trace=trace, earlier=earlier))
        self._rows += batch.num_rows
        self._size_bytes += batch.nbytes if is_stream else _TIMES_SIZE * int(headers["length"].sum())
        return taken

    @property
    def _left_bytes(self) -> int:
        return self.limit.size_bytes - self._size_bytes

    def _decoded(self, record: Record, rows: Counts, payloads: Sequence[bytes | memoryview]) -> pa.RecordBatch:
        """Decode the payloads of a run of small records, of which the first is given."""
        schema = self.segment_set.schemas(record)[record.header.schema]
        found = gathered(schema, rows, payloads)
        return decode_together(schema, int(rows.sum()), payloads) if found is None else found

    def _take_alone(self, record: Record) -> None:
        batch = decode(self.segment_set, record)
        if batch is None:
            return
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
        self._size_bytes += max(ENTRY_BYTES, taken.nbytes if header.flags & Flag.STREAM else header.length)


def newest_frame(
    segment_set: SegmentSet, want: Want, at: Location, stop: Location
) -> tuple[Count, InFlight, list[Entry]] | None:
    """Find the newest frame of which something is readable.

    Returns:
        How much stands before it, the records up to its end, and its entries; None if there is no such frame.
    """
    while True:
        before, records = _last_frame(segment_set, want, at, stop)
        if not records:
            return None
        start, end = Location(records[0].segment.number, records[0].start), records[-1].after
        batch_reader = BatchReader(segment_set, Position(0), _WITHOUT_LIMIT)
        batch_reader.read(start, end, want)
        if batch_reader.entries:
            in_flight = InFlight()
            in_flight.add(Stretch.counted(records[0].header.sequence - 1, start, before))
            in_flight.extend(batch_reader.in_flight)
            return before, in_flight, batch_reader.entries
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
        if zlib.crc32(record.payload) == record.header.payload_crc:
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
