"""One registered stream: its position, what waits behind it, and its quota."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from api2db.journal._in_flight import InFlight, ReadEnd
from api2db.journal._record import Header, Headers, Mask, RecordKind
from api2db.journal._segment import BEGINNING, Count, Location, Segment, counts_of, rows_for, sums_of
from api2db.journal._segment_set import SegmentSet
from api2db.journal._state_file import StreamRow
from api2db.journal.port import ALL, Delivered, Position, Tell

_RACES = 5
_PLAIN_BYTES = 64 << 20


def parked_bytes(checkpoint: Mapping[str, Any] | None) -> int:
    """The size of a parked batch's file."""
    return int((checkpoint or {}).get("size_bytes", 0))


def _nobody(rows: int, size_bytes: int) -> None:
    """Nobody waits for news."""


def _no_details() -> Mapping[str, Any]:
    """Nothing is known but what the journal knows."""
    return {}


@dataclass(slots=True)
class RegisteredStream:
    """A stream as its journal knows it; its methods are called with the journal's lock held, unless they say otherwise.

    Attributes:
        at: The location behind which everything waiting is found.
        waiting: What is visible and not acknowledged; a record acknowledged in part counts whole.
        in_flight: The records from ``at`` on that were read.
        read_end: Where the last of these reads has ended; None if nothing is known of that.
        attached: Whether a stream of this process uses it.
        refused_bytes: The size of the group that the quota refused last; 0 once a group was accepted.
        newest_sequence: The number of its newest visible record, or a higher one that no later record has.
        tell_news: Called when a waiting read would end.
        details: Returns what else there is to see of the stream.
    """

    segment_set: SegmentSet
    row: StreamRow
    parked_bytes: int = 0
    position: Position = field(init=False)
    delivered: Delivered = field(init=False)
    at: Location = BEGINNING
    waiting: Count = field(default_factory=Count)
    in_flight: InFlight = field(default_factory=InFlight)
    read_end: ReadEnd | None = None
    attached: bool = False
    refused_bytes: int = 0
    newest_sequence: int = 0
    tell_news: Tell = _nobody
    details: Callable[[], Mapping[str, Any]] = _no_details
    _oldest: tuple[Position, int | None] | None = None

    def __post_init__(self) -> None:
        self.position, self.delivered = self.row.position, self.row.delivered
        self.place()
        numbers = (segment.last_sequence for segment in self.segment_set.segments.values())
        self.newest_sequence = max(numbers, default=0)

    @property
    def stream_no(self) -> int:
        """The number that marks its own records."""
        return self.row.stream_no

    def owns(self, header: Header) -> bool:
        """Whether a record holds rows of this stream that have not been acknowledged; needs no lock."""
        return (
            header.kind == RecordKind.ROWS
            and header.stream_no in {ALL, self.row.stream_no}
            and header.sequence > self.position.sequence
        )

    def wants(self, headers: Headers) -> Mask:
        """Like ``owns``, for many records."""
        return rows_for(headers, self.row.stream_no) & (headers["sequence"] > self.position.sequence)

    def publish(self, header: Header) -> None:
        """Count a record that has become visible."""
        if self.owns(header):
            frames, rows, size_bytes = counts_of(header)
            self.waiting.add(frames, rows, size_bytes)
            self.newest_sequence = header.sequence
            self.refused_bytes = 0
            self.tell()

    def tell(self) -> None:
        """Say that a waiting read would end."""
        self.tell_news(self.waiting.rows, self.waiting.size_bytes)

    def place(self) -> None:
        """Find the position in the segments, and count what waits behind it."""
        visible = self.segment_set.visible
        behind = [
            segment for segment in self.segment_set.segments.values() if segment.last_sequence > self.position.sequence
        ]
        self.waiting, self.in_flight, self.read_end = Count(), InFlight(), None
        self.at = visible
        for segment in reversed(behind):
            counted = segment.count_behind(self.position.sequence, self.row.stream_no, self._scanned(segment))
            self.waiting.add(counted.frames, counted.rows, counted.size_bytes)
            self.at = Location(segment.number, segment.steps_around(self.position.sequence)[0].offset)

    def _scanned(self, segment: Segment) -> Callable[[int, int], Iterator[Headers]]:
        def scanned(begin: int, end: int) -> Iterator[Headers]:
            start, stop = Location(segment.number, begin), min(Location(segment.number, end), self.segment_set.visible)
            return (block.headers for block in self.segment_set.blocks(start, stop, self.wants))

        return scanned

    def move(self, position: Position) -> None:
        """Move the position, by preference along the records in flight."""
        reach = self.in_flight.last_sequence or self.position.sequence
        is_within_reach = self.position.sequence <= position.sequence <= reach
        self.position = position
        if not is_within_reach:
            self.place()
            return
        at, passed = self.in_flight.pass_to(position.sequence)
        self.at = at or self.at
        self.waiting.add(-passed.frames, -passed.rows, -passed.size_bytes)
        if self.at == self.segment_set.visible:
            self.waiting = Count()

    def hand_over(self, records: InFlight, end: ReadEnd | None = None) -> None:
        """Remember what was read from the position on."""
        self.in_flight, self.read_end = records, end

    def hand_over_more(self, records: InFlight, end: ReadEnd) -> None:
        """Remember what was read where the last read has ended."""
        if self.read_end is not None:
            self.in_flight.cut(self.read_end.location)  # A record that was read in part has been read again.
        self.in_flight.extend(records)
        self.read_end = end

    def pass_damaged(self, records: InFlight, stop: Location) -> None:
        """Move the position behind damaged records: nothing else waits before a location."""
        self.in_flight, self.read_end = InFlight(), None
        if (last := records.last_sequence) is not None:
            self.position = Position(last)
        self.at, self.waiting = max(self.at, stop), Count()
        self._count(self.at, self.segment_set.visible)

    def current_row(self) -> StreamRow:
        """The stream's row with its current counts; needs no lock."""
        return replace(self.row, position=self.position, delivered=self.delivered)

    def has_passed(self, sequence: int) -> bool:
        """Whether everything up to a record is acknowledged. Damaged records are passed without a position."""
        return self.position.sequence >= sequence or self.waiting.size_bytes <= 0

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk for this stream: waiting, parked and rejected."""
        return self.waiting.size_bytes + self.parked_bytes + max(0, self.delivered.rejected_bytes)

    def has_room(self, size_bytes: int) -> bool:
        """Whether the quota allows more; if nothing waits, a single group is always allowed."""
        quota = self.row.quota_bytes
        return quota is None or self.waiting.size_bytes <= 0 or self.stored_bytes + size_bytes <= quota

    @property
    def plain_bytes(self) -> int:
        """How many more bytes may wait uncompressed. What a target keeps up with leaves the disk at once."""
        quota = self.row.quota_bytes
        left = _PLAIN_BYTES - self.waiting.size_bytes
        return left if quota is None else min(left, quota // 4 - self.stored_bytes)

    @property
    def is_full(self) -> bool:
        """Whether a put like the last refused one, or the smallest one, would have to wait."""
        return not self.has_room(max(1, self.refused_bytes))

    def oldest_ns(self) -> int | None:
        """The time of the first waiting record, looked up once for each position; called without the lock."""
        for _ in range(_RACES):
            at, position = self.at, self.position
            if self._oldest is not None and self._oldest[0] == position:
                return self._oldest[1]
            try:
                first = next(self.segment_set.records(at, self.segment_set.visible, self.wants), None)
            except FileNotFoundError:
                continue  # It was acknowledged and removed meanwhile.
            if first is not None:
                self._oldest = position, first.header.timestamp_ns
                return first.header.timestamp_ns
        return None

    def _count(self, start: Location, stop: Location) -> None:
        for block in self.segment_set.blocks(start, stop, self.wants):
            self.waiting.add(*sums_of(block.headers))
