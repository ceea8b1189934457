"""One stream's end of the journal: its position, what waits, reading and acknowledging."""

import logging
import operator
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from api2db.errors import JournalError, JournalWriteError
from api2db.journal._batch_reader import BatchReader, InFlight, in_flight
from api2db.journal._prefetch import PrefetchedRead, Start
from api2db.journal._record import Header, RecordKind
from api2db.journal._scan import Record
from api2db.journal._segment import BEGINNING, Count, Location, counts_of
from api2db.journal._state_file import StreamRow
from api2db.journal.port import (
    ALL,
    Backlog,
    Checkpoint,
    CheckpointKind,
    Delivered,
    Entry,
    Position,
    ReadLimit,
    Superseded,
)
from api2db.redaction import redact

if TYPE_CHECKING:
    from api2db.journal._journal import SegmentedJournal

logger = logging.getLogger(__name__)
_PAUSE_S = 1.0
_RACES = 5
# A smaller load ends before a prefetch pays.
_AHEAD_BYTES = 1 << 18
_PLAIN_BYTES = 64 << 20
_NOWHERE = Position(0)
_WITHOUT_LIMIT = ReadLimit(sys.maxsize, sys.maxsize)
_values = operator.attrgetter(*(field.name for field in fields(Delivered)))


def _nobody() -> None:
    """Nobody waits for news."""


@dataclass(slots=True)
class SegmentedReader:
    """See ``StreamReader`` in ``port``; every method may be called from any thread of the owning process.

    Attributes:
        at: The location behind which everything waiting is found.
        waiting: What is visible and not acknowledged; a record acknowledged in part counts whole.
        refused_bytes: The size of the group that the quota refused last; 0 once a group was accepted.
    """

    journal: "SegmentedJournal"
    row: StreamRow
    position: Position
    delivered: Delivered
    at: Location = BEGINNING
    waiting: Count = field(default_factory=Count)
    attached: bool = False
    refused_bytes: int = 0
    _parked_bytes: int = 0
    _in_flight: deque[InFlight] = field(default_factory=deque)
    _reached: Position = _NOWHERE
    _prefetched: PrefetchedRead | None = None
    _woken: bool = False
    _tell_news: Callable[[], None] = _nobody
    _warning: str | None = None
    _recorded_error: str | None = field(init=False)
    _enqueued_bytes: int = 0
    _oldest: tuple[Position, int | None] | None = None

    def __post_init__(self) -> None:
        self._recorded_error = self.row.error

    @property
    def key(self) -> str:
        return self.row.key

    @property
    def epoch(self) -> str:
        return self.journal.epoch

    @property
    def journal_id(self) -> str:
        return self.journal.journal_id

    def knows_epoch(self, epoch: str) -> bool:
        return epoch in self.journal.epochs

    def owns(self, header: Header) -> bool:
        """Whether a record holds rows of this stream that have not been acknowledged."""
        return (
            header.kind == RecordKind.ROWS
            and header.stream_no in {ALL, self.row.stream_no}
            and header.sequence > self.position.sequence
        )

    def read(self, limit: ReadLimit, timeout_s: float | None = None) -> list[Entry]:
        self.journal.lock.check()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._wait_for_rows(deadline):
            entries = self._take(limit)
            if entries or self._was_woken() or (deadline is not None and time.monotonic() >= deadline):
                return entries
        self._was_woken()
        return []

    @property
    def unread_bytes(self) -> int:
        with self.journal.changed:
            return self.waiting.size_bytes - sum(record.size_bytes for record in self._in_flight)

    @contextmanager
    def prefetch(self, limit: ReadLimit) -> Iterator[None]:
        if self.waiting.size_bytes < _AHEAD_BYTES:
            yield
            return
        ended = threading.Event()
        reader = threading.Thread(target=self._read_until, args=(ended, limit), daemon=True)
        reader.start()
        try:
            yield
        finally:
            with self.journal.changed:
                ended.set()
                self.journal.changed.notify_all()
            reader.join()

    def _read_until(self, ended: threading.Event, limit: ReadLimit) -> None:
        while self.prefetch_more(limit):
            with self.journal.changed:
                self.journal.changed.wait_for(lambda: ended.is_set() or self._has_more_to_prefetch())
                if ended.is_set():
                    return

    def _has_more_to_prefetch(self) -> bool:
        ahead, visible = self._prefetched, self.journal.segment_set.visible
        is_far = ahead is None or visible.segment > ahead.at.segment or visible.offset - ahead.at.offset >= _AHEAD_BYTES
        return is_far or not self.journal.lock.is_held

    def prefetch_more(self, limit: ReadLimit) -> bool:
        """Continue the prefetch; return False if there is nothing more to do."""
        with suppress(JournalError, OSError):  # the next read meets it again
            self.journal.lock.check()
            with self.journal.changed:
                stop = self._synced()
                passed = [record for record in self._in_flight if record.sequence <= self._reached.sequence]
                at = Location(passed[-1].segment, passed[-1].end) if passed else self.at
            ahead = self._take_prefetched(Start(at, self._reached, limit))
            self._prefetched = ahead.go_on(self._rows_between, stop)
            return not ahead.is_full
        return False

    def _take_prefetched(self, start: Start) -> PrefetchedRead:
        """Take the entries prefetched for this start; an error while continuing discards them."""
        ahead, self._prefetched = self._prefetched, None
        fits = ahead is not None and ahead.start == start
        return (
            ahead
            if ahead and fits
            else PrefetchedRead(start, BatchReader(self.journal.segment_set, *start[1:]), start.at)
        )

    def newest(self) -> tuple[list[Entry], Superseded]:
        self.journal.lock.check()
        if not self._wait_for_rows(time.monotonic()):
            return [], Superseded()
        at, stop = self._durable_part()
        found = self._last_sound_frame(at, stop)
        if found is None:
            self._hand_over((), empty_until=stop)
            return [], Superseded()
        before, records, entries = found
        first = records[0]
        start = Location(first.segment.number, first.start)
        passed = InFlight(first.header.sequence - 1, *start, before.frames, before.rows, before.size_bytes)
        self._hand_over((passed, *map(in_flight, records)))
        return entries, Superseded(before.frames, before.rows)

    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        self.journal.lock.check()
        self._record(position, delivered, clear)
        with self.journal.changed:
            if position != self.position:
                self._record_error(
                    self._warning
                )  # With the move: a caller of flush must not find an error that is over.
            self._move(position)
            self.delivered = _sum(self.delivered, delivered)
            if "parked" in clear:
                self._parked_bytes = 0
            finished = self.journal.take_finished()
            self.journal.on_change()
            self.journal.changed.notify_all()
        self.journal.discard(finished)

    def seek(self, position: Position) -> Backlog:
        self.journal.lock.check()
        if position == self.position:
            return Backlog(0, 0, 0, None)
        self._record(position, Delivered(), ())
        with self.journal.changed:
            before, skipped = replace(self.waiting), position.skip - self.position.skip
            self.position = position
            self.place()
            self.journal.on_change()
            self.journal.changed.notify_all()
            before.add(-self.waiting.frames, skipped - self.waiting.rows, -self.waiting.size_bytes)
            return Backlog(max(0, before.frames), max(0, before.rows), max(0, before.size_bytes), None)

    def backlog(self) -> Backlog:
        self.journal.lock.check_process()
        with self.journal.changed:
            count, skip = replace(self.waiting), self.position.skip
        if count.size_bytes <= 0:
            return Backlog(0, 0, 0, None)
        return Backlog(count.frames, max(0, count.rows - skip), count.size_bytes, self._oldest_ns())

    def mark(self) -> int:
        self.journal.lock.check_process()
        with self.journal.changed:
            return self._enqueued_bytes

    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        self.journal.lock.check_process()
        with self.journal.changed:
            return self.journal.changed.wait_for(lambda: self._passed(mark), timeout_s)

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        self.journal.lock.check_process()
        return self.journal.state.checkpoint(self.row.stream_no, kind)

    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        self.journal.lock.check()
        self.journal.state.save_checkpoint(self.row.stream_no, kind, checkpoint)
        self.journal.on_change()
        if kind == "parked":
            with self.journal.changed:
                self._parked_bytes = _parked_bytes(checkpoint)

    def set_error(self, trouble: str | None) -> None:
        self.journal.lock.check_process()
        error = redact(trouble) if trouble else self._warning  # Whoever sets it: a status shows no secret.
        with self.journal.changed:
            self._record_error(error)
            if error == self._recorded_error:
                return
            self._recorded_error = error
        try:
            self.journal.state.set_error(self.row.stream_no, error)
        except JournalWriteError as failure:
            logger.warning("%s", failure)

    def add_warning(self, warning: str) -> None:
        self._warning = redact(warning)
        self.set_error(None)

    def _record_error(self, error: str | None) -> None:
        if error != self.row.error:
            self.row = replace(self.row, error=error, error_at=time.time() if error else None)
            self.journal.on_change()

    def wake(self) -> None:
        self.journal.lock.check_process()
        with self.journal.changed:
            self._woken = True
            self.journal.changed.notify_all()
            self.tell_news()

    def on_news(self, tell: Callable[[], None]) -> None:
        self.journal.lock.check_process()
        with self.journal.changed:
            self._tell_news = tell

    def tell_news(self) -> None:
        """A read that waits would end; called with the journal's lock."""
        self._tell_news()

    def current_row(self) -> StreamRow:
        """The stream's row with its current counts."""
        return replace(self.row, position=self.position, delivered=self.delivered)

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk for this stream: waiting, parked and rejected."""
        return self.waiting.size_bytes + self._parked_bytes + self.delivered.rejected_bytes

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

    def limit_backlog(self, quota_bytes: int | None) -> None:
        """Set the quota that a stream was started with."""
        if quota_bytes != self.row.quota_bytes:
            self.journal.state.set_quota(self.row.stream_no, quota_bytes)
            self.row = replace(self.row, quota_bytes=quota_bytes)

    def take_back_rejected(self, rows: int, size_bytes: int) -> None:
        """Subtract rejected rows that are put again; called with the lock held."""
        rejected = max(0, self.delivered.rejected - rows)
        rejected_bytes = max(0, self.delivered.rejected_bytes - size_bytes)
        self.delivered = replace(self.delivered, rejected=rejected, rejected_bytes=rejected_bytes)
        self.journal.state.set_rejected(self.row.stream_no, rejected, rejected_bytes)
        self.journal.on_change()

    def restore(self) -> None:
        """Find the location of the position after an open."""
        self._parked_bytes = _parked_bytes(self.checkpoint("parked") or {})
        self.place()
        self._enqueued_bytes = self.waiting.size_bytes

    def publish(self, header: Header) -> None:
        """Count a record that has become visible; called with the lock held."""
        if self.owns(header):
            frames, rows, size_bytes = counts_of(header)
            self.waiting.add(frames, rows, size_bytes)
            self._enqueued_bytes += size_bytes
            self.refused_bytes = 0
            self.tell_news()

    def place(self) -> None:
        """Find the position in the segments, and count what waits behind it; called with the lock held."""
        segment_set = self.journal.segment_set
        behind = [
            segment for segment in segment_set.segments.values() if segment.last_sequence > self.position.sequence
        ]
        self.waiting, self._in_flight = Count(), deque()
        self.at = Location(behind[0].number, behind[0].begin) if behind else segment_set.visible
        for segment in behind:
            if segment.first_sequence <= self.position.sequence:
                stop = min(Location(segment.number, segment.end), segment_set.visible)
                self._count(Location(segment.number, segment.begin), stop)
            else:
                for stream_no in (ALL, self.row.stream_no):
                    count = segment.counts.get(stream_no, Count())
                    self.waiting.add(count.frames, count.rows, count.size_bytes)

    def _count(self, start: Location, stop: Location) -> None:
        for record in self.journal.segment_set.records(start, stop, self.owns):
            self.waiting.add(*counts_of(record.header))

    def _wait_for_rows(self, deadline: float | None) -> bool:
        with self.journal.changed:
            self.journal.changed.wait_for(self._has_news, None if deadline is None else deadline - time.monotonic())
            self.journal.lock.check()
            return self.waiting.size_bytes > 0

    def _was_woken(self) -> bool:
        with self.journal.changed:
            woken, self._woken = self._woken, False
            return woken

    def _has_news(self) -> bool:
        return self.waiting.size_bytes > 0 or self._woken or not self.journal.lock.is_held

    def _durable_part(self) -> tuple[Location, Location]:
        """Return where to read. If the disk fails, retry at most once a second; those who put get the error."""
        with self.journal.changed:
            try:
                self._synced()
            except JournalWriteError as error:
                logger.warning("only what is on disk is delivered for now: %s", error)
                durable = self.journal.appender.durable
                self.journal.changed.wait_for(lambda: self._may_go_on(durable), _PAUSE_S)
            return self.at, self.journal.appender.durable

    def _synced(self) -> Location:
        """Return the location up to which records are durable; called with the lock held."""
        if self.journal.durability == "process":
            self.journal.appender.sync()
        return self.journal.appender.durable

    def _may_go_on(self, durable: Location) -> bool:
        """Whether more has become durable, or the wait must end. Another stream's attempt notifies too."""
        return self.journal.appender.durable != durable or self._woken or not self.journal.lock.is_held

    def _take(self, limit: ReadLimit) -> list[Entry]:
        at, stop = self._durable_part()
        reading = self._take_prefetched(Start(at, self.position, limit))
        batch_reader = (
            reading if reading.batch_reader.entries else reading.go_on(self._rows_between, stop)
        ).batch_reader
        self._hand_over(batch_reader.in_flight, empty_until=None if batch_reader.entries else stop)
        if batch_reader.entries:
            self._reached = batch_reader.entries[-1].position
        return batch_reader.entries

    def _rows_between(self, at: Location, stop: Location) -> Iterator[Record]:
        return self.journal.segment_set.records(at, stop, self.owns, payloads=True)

    def _last_sound_frame(self, at: Location, stop: Location) -> tuple[Count, list[Record], list[Entry]] | None:
        """Find the newest frame of which something is readable, and how much stands before it."""
        while True:
            before, records = self._last_frame(at, stop)
            if not records:
                return None
            start, end = Location(records[0].segment.number, records[0].start), records[-1].after
            again = self._rows_between(start, end)
            batch_reader = BatchReader(self.journal.segment_set, Position(0), _WITHOUT_LIMIT)
            for record in again:
                batch_reader.add(record)
            batch_reader.finish()
            if batch_reader.entries:
                return before, records, batch_reader.entries
            stop = start

    def _last_frame(self, at: Location, stop: Location) -> tuple[Count, list[Record]]:
        frame: list[Record] = []
        before, total = Count(), Count()
        for record in self.journal.segment_set.records(at, stop, self.owns):
            if record.header.rows or not (frame and frame[0].header.rows):  # An empty frame replaces nothing.
                if not frame or frame[0].header.timestamp_ns != record.header.timestamp_ns:
                    frame, before = [], replace(total)
                frame.append(record)
            total.add(*counts_of(record.header))
        return before, frame

    def _hand_over(self, in_flight: Iterable[InFlight], *, empty_until: Location | None = None) -> None:
        """Remember what the worker holds. If everything up to a location is damaged, nothing waits before it."""
        with self.journal.changed:
            self._in_flight = deque(in_flight)
            if empty_until is None:
                return
            if self._in_flight:
                self.position = Position(self._in_flight.pop().sequence)
                self._in_flight.clear()
            self.at, self.waiting = max(self.at, empty_until), Count()
            self._count(self.at, self.journal.segment_set.visible)
            self.journal.on_change()
            self.journal.changed.notify_all()

    def _move(self, position: Position) -> None:
        reach = self._in_flight[-1].sequence if self._in_flight else self.position.sequence
        if not self.position.sequence <= position.sequence <= reach:
            self.position = position
            self.place()
            return
        self.position = position
        while self._in_flight and self._in_flight[0].sequence <= position.sequence:
            passed = self._in_flight.popleft()
            self.at = Location(passed.segment, passed.end)
            self.waiting.add(-passed.frames, -passed.rows, -passed.size_bytes)
        if self.at == self.journal.segment_set.visible:
            self.waiting = Count()

    def _passed(self, mark: int) -> bool:
        return self._enqueued_bytes - self.waiting.size_bytes >= mark

    def _oldest_ns(self) -> int | None:
        """The time of the first waiting record, looked up once for each position."""
        for _ in range(_RACES):
            at, position = self.at, self.position
            if self._oldest is not None and self._oldest[0] == position:
                return self._oldest[1]
            try:
                first = next(self.journal.segment_set.records(at, self.journal.segment_set.visible, self.owns), None)
            except FileNotFoundError:
                continue  # It was acknowledged and removed meanwhile.
            if first is not None:
                self._oldest = position, first.header.timestamp_ns
                return first.header.timestamp_ns
        return None

    def _record(self, position: Position, delivered: Delivered, clear: Collection[CheckpointKind]) -> None:
        move = partial(self.journal.state.move, self.row.stream_no, position, delivered, clear, durable=bool(clear))
        try:
            with suppress(JournalWriteError):
                move()
                return
            move()  # On a full disk the first attempt has made room.
        except JournalWriteError as error:
            if clear:
                raise
            logger.warning("a position is kept in memory only, the target's ledger has it: %s", error)


def _parked_bytes(checkpoint: Mapping[str, Any]) -> int:
    return int(checkpoint.get("size_bytes", 0))


def _sum(one: Delivered, other: Delivered) -> Delivered:
    return Delivered(*map(operator.add, _values(one), _values(other)))
