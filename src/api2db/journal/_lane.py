"""One stream's view of the journal: where it stands, what waits, reading and acknowledging."""

import logging
import time
import zlib
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from api2db.errors import JournalWriteError
from api2db.journal._record import Flag, Header, Kind, decode_rows
from api2db.journal._segment import Count, Damage, Location, figures
from api2db.journal._shelf import Found
from api2db.journal._state import StreamRow
from api2db.journal.port import ALL, Backlog, Delivered, Entry, Limit, Note, NoteKind, Position, Superseded

if TYPE_CHECKING:
    from api2db.journal._log import SegmentedJournal

_log = logging.getLogger(__name__)


class _Handed(NamedTuple):
    """A record that the worker has been given, until it is acknowledged."""

    sequence: int
    after: Location
    frames: int
    rows: int
    size_bytes: int


@dataclass(slots=True)
class LaneLog:
    """See ``StreamLog`` in ``port``; every method may be called from any thread."""

    journal: "SegmentedJournal"
    row: StreamRow
    position: Position
    delivered: Delivered
    at: Location = Location(0, 0)
    waiting: Count = field(default_factory=Count)
    attached: bool = False
    extra_bytes: int = 0
    _handed: deque[_Handed] = field(default_factory=deque)
    _woken: bool = False
    _enqueued_bytes: int = 0

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
        """Whether a record is a row of this stream that has not been acknowledged."""
        return (
            header.kind == Kind.ROWS and header.lane in {ALL, self.row.lane} and header.sequence > self.position.sequence
        )

    def read(self, limit: Limit, timeout_s: float | None = None) -> list[Entry]:
        if not self._wait_for_rows(timeout_s):
            return []
        at, stop = self._durable_part()
        entries: list[Entry] = []
        rows = size_bytes = 0
        position, skip = self.position.sequence, self.position.skip
        handed: deque[_Handed] = deque()
        for found in self.journal.shelf.records(at, self.owns, stop):
            if not self.owns(found.header):
                continue
            batch = self._decode(found)
            frames, length, stored = figures(found.header)
            handed.append(_Handed(found.header.sequence, found.after, frames, length, stored))
            if batch is None:
                continue
            taken = batch.slice(skip, max(1, limit.rows - rows))
            whole = skip + taken.num_rows >= batch.num_rows
            reached = Position(found.header.sequence) if whole else Position(position, skip + taken.num_rows)
            ends = whole and bool(found.header.flags & Flag.FRAME_END)
            entries.append(Entry(reached, found.header.timestamp_ns, taken, ends))
            rows, size_bytes = rows + taken.num_rows, size_bytes + taken.nbytes
            position, skip = found.header.sequence, 0
            full = rows >= limit.rows or size_bytes >= limit.size_bytes
            if full and (ends or not limit.whole_frames):
                break
        self._hand_over(handed, nothing=not entries)
        return entries

    def newest(self) -> tuple[list[Entry], Superseded]:
        if not self._wait_for_rows(0):
            return [], Superseded()
        at, stop = self._durable_part()
        frame: list[Found] = []
        before, total, after = Count(), Count(), at
        for found in self.journal.shelf.records(at, stop=stop):
            if self.owns(found.header):
                if not frame or frame[0].header.timestamp_ns != found.header.timestamp_ns:
                    frame, before = [], replace(total)
                frame.append(found)
                total.add(*figures(found.header))
                after = found.after
        entries = [entry for found in frame if (entry := self._whole(found))]
        sequence = frame[-1].header.sequence if frame else self.position.sequence
        handed = deque([_Handed(sequence, after, total.frames, total.rows, total.size_bytes)])
        self._hand_over(handed, nothing=not entries)
        return entries, Superseded(before.frames, before.rows)

    def _whole(self, header_only: Found) -> Entry | None:
        found = next(self.journal.shelf.records(header_only.at, self.owns, header_only.after))
        batch = self._decode(found)
        if batch is None:
            return None
        ends = bool(found.header.flags & Flag.FRAME_END)
        return Entry(Position(found.header.sequence), found.header.timestamp_ns, batch, ends)

    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[NoteKind] = ()) -> None:
        with self.journal.changed:
            self._record(position, delivered, clear)
            while self._handed and self._handed[0].sequence <= position.sequence:
                record = self._handed.popleft()
                self.at = record.after
                self.waiting.add(-record.frames, self._skipped - record.rows, -record.size_bytes)
                self.position = Position(record.sequence)
            self.waiting.add(0, self.position.skip - position.skip, 0)
            moved_elsewhere = self.position.sequence != position.sequence
            self.position = position
            if moved_elsewhere:
                self.place()
            self.delivered = _sum(self.delivered, delivered)
            self.extra_bytes += delivered.rejected_bytes
            self.journal.free()
            self.journal.changed.notify_all()

    @property
    def _skipped(self) -> int:
        return self.position.skip

    def seek(self, position: Position) -> None:
        with self.journal.changed:
            if position == self.position:
                return
            self.journal.state.move(self.row.lane, position, Delivered(), (), durable=False)
            self.position = position
            self.place()
            self.journal.changed.notify_all()

    def backlog(self) -> Backlog:
        with self.journal.changed:
            count = replace(self.waiting)
            at = self.at
        oldest = None
        if count.frames:
            owned = (found.header.timestamp_ns for found in self.journal.shelf.records(at) if self.owns(found.header))
            oldest = next(owned, None)
        return Backlog(count.frames, count.rows, count.size_bytes, oldest)

    def mark(self) -> int:
        with self.journal.changed:
            return self._enqueued_bytes

    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        with self.journal.changed:
            return self.journal.changed.wait_for(lambda: self._passed(mark), timeout_s)

    def _passed(self, mark: int) -> bool:
        return self._enqueued_bytes - self.waiting.size_bytes >= mark

    def note(self, kind: NoteKind) -> Note | None:
        return self.journal.state.note(self.row.lane, kind)

    def keep(self, kind: NoteKind, note: Note) -> None:
        self.journal.state.keep_note(self.row.lane, kind, note)

    def say(self, error: str | None) -> None:
        with self.journal.changed:
            self.row = replace(self.row, error=error, error_at=time.time() if error else None)
        try:
            self.journal.state.say(self.row.lane, error)
        except JournalWriteError as failure:
            _log.warning("%s", failure)

    def wake(self) -> None:
        with self.journal.changed:
            self._woken = True
            self.journal.changed.notify_all()

    def current_row(self) -> StreamRow:
        """The stream with its figures as they stand."""
        return replace(self.row, position=self.position, delivered=self.delivered)

    @property
    def stored_bytes(self) -> int:
        """What stands on disk for this stream: waiting, parked and set aside."""
        return self.waiting.size_bytes + self.extra_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether the quota lets more in; with nothing waiting a single group always may."""
        quota = self.row.quota_bytes
        return quota is None or not self.waiting.size_bytes or self.stored_bytes + size_bytes <= quota

    def limit_backlog(self, quota_bytes: int | None) -> None:
        """Take over the quota that a stream was started with."""
        self.row = replace(self.row, quota_bytes=quota_bytes)

    def restore(self) -> None:
        """Find the place after an open."""
        parked = self.note("parked") or {}
        self.extra_bytes = self.row.delivered.rejected_bytes + int(parked.get("size_bytes", 0))
        self.place()
        self._enqueued_bytes = self.waiting.size_bytes

    def publish(self, header: Header) -> None:
        """Count a record that has become visible; called with the journal's lock."""
        if self.owns(header):
            frames, rows, size_bytes = figures(header)
            self.waiting.add(frames, rows, size_bytes)
            self._enqueued_bytes += size_bytes

    def place(self) -> None:
        """Find the position in the segments, and count what waits behind it; called with the journal's lock."""
        self.waiting, self._handed, self.at = Count(), deque(), self.journal.shelf.visible
        found_first = False
        for segment in self.journal.shelf.segments.values():
            if segment.last_sequence <= self.position.sequence:
                continue
            if not found_first:
                self.at, found_first = Location(segment.number, segment.begin), True
            if segment.first_sequence > self.position.sequence:
                for lane in (ALL, self.row.lane):
                    count = segment.lanes.get(lane, Count())
                    self.waiting.add(count.frames, count.rows, count.size_bytes)
            else:
                self._count_part(segment.number)
        self.waiting.add(0, -self.position.skip if self.waiting.frames else 0, 0)

    def _count_part(self, number: int) -> None:
        for found in self.journal.shelf.records(Location(number, self.journal.shelf.segments[number].begin)):
            if found.segment.number != number:
                return
            if self.owns(found.header):
                self.waiting.add(*figures(found.header))

    def _durable_part(self) -> tuple[Location, Location]:
        with self.journal.changed:
            self.journal.appender.sync()
            return self.at, self.journal.appender.durable

    def _wait_for_rows(self, timeout_s: float | None) -> bool:
        with self.journal.changed:
            self.journal.changed.wait_for(lambda: self.waiting.size_bytes or self._woken, timeout_s)
            self._woken = False
            return bool(self.waiting.size_bytes)

    def _decode(self, found: Found) -> pa.RecordBatch | None:
        """The rows of a record; None, once they are set aside, where they are damaged."""
        try:
            if found.payload is None or zlib.crc32(found.payload) != found.header.payload_crc:
                raise ValueError
            schemas = self.journal.shelf.schemas(found.segment, found.header.schema)
            return decode_rows(found.header, found.payload, schemas)
        except (ValueError, KeyError, pa.ArrowInvalid, OSError):
            self.journal.shelf.set_aside(found.segment, Damage(found.at.offset, found.after.offset))
            return None

    def _hand_over(self, handed: deque[_Handed], *, nothing: bool) -> None:
        with self.journal.changed:
            self._handed = handed
            if nothing and handed:
                self.position = Position(handed[-1].sequence)
                self.place()
            elif nothing and self.at == self.journal.shelf.visible:
                self.waiting = Count()

    def _record(self, position: Position, delivered: Delivered, clear: Collection[NoteKind]) -> None:
        try:
            self.journal.state.move(self.row.lane, position, delivered, clear, durable=bool(clear))
        except JournalWriteError as error:
            if clear:
                raise
            _log.warning("a position is kept in memory only, the target's ledger has it: %s", error)


def _sum(one: Delivered, other: Delivered) -> Delivered:
    return Delivered(
        one.frames + other.frames,
        one.rows + other.rows,
        one.rejected + other.rejected,
        one.rejected_bytes + other.rejected_bytes,
        one.superseded + other.superseded,
        one.duplicates + other.duplicates,
    )
