"""Write groups into segments: sequence numbers, times, the shared fsync, and recovery from a failed one."""

import errno
import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from api2db.errors import JournalWriteError
from api2db.journal._record import HEADER_BYTES, Flag, Header, RecordKind, pack
from api2db.journal._rows import Part
from api2db.journal._segment import BEGINNING, Location, Placed, SegmentWriter
from api2db.journal._segment_set import SegmentSet
from api2db.journal._synced import Synced
from api2db.journal.port import Durability

logger = logging.getLogger(__name__)
_UNSYNCED_BYTES = 8 << 20
_COPIES = 2
_REPEAT_BYTES = 1 << 20
COUNTER_BITS = 32
_LAST_NUMBER = (1 << COUNTER_BITS) - 1


@dataclass(slots=True)
class Group:
    """The records of one append, from their numbering until they are durable.

    Attributes:
        headers: The records' headers, as last written.
        segment: The number of the segment that holds them.
        end: The offset behind them.
        error: Why their durability is unknown.
    """

    parts: Sequence[Part]
    stream_no: int
    first_sequence: int
    times_ns: list[int]
    size_bytes: int
    headers: list[Header] = field(default_factory=list)
    segment: int = 0
    end: int = 0
    durable: bool = False
    error: OSError | None = None

    @property
    def last_sequence(self) -> int:
        """The sequence number of its last record."""
        return self.first_sequence + len(self.parts) - 1


@dataclass(slots=True)
class Appender:
    """The writing end of a journal; every method is called with ``changed`` held.

    Attributes:
        segment_set: The journal's segments.
        changed: The journal's one lock; notified when something becomes visible or durable.
        preamble: Returns the preamble of a new segment.
        publish: Called with a group once readers may see it.
        retire: Called with a segment's number once nothing more will be written to it.
        relocate: Called after visible groups were rewritten from one segment into another.
        reclaim: Called when the disk is full; returns whether it freed anything.
        renew_counter: Records another open, durably, and returns its counter.
        record_synced: Called with what an fsync made durable.
        sequence: The last sequence number given.
        timestamp_ns: The last timestamp given.
        needs_new_segment: Whether the next group starts a new segment.
        durable: The location up to which a worker may read.
    """

    segment_set: SegmentSet
    changed: threading.Condition
    durability: Durability
    clock: Callable[[], int]
    segment_bytes: int
    preamble: Callable[[], Mapping[str, Any]]
    publish: Callable[[Group], None]
    retire: Callable[[int], None]
    relocate: Callable[[], None]
    reclaim: Callable[[], bool]
    renew_counter: Callable[[], int]
    record_synced: Callable[[Synced], None]
    sequence: int = 0
    timestamp_ns: int = 0
    needs_new_segment: bool = False
    durable: Location = BEGINNING
    last_segment: int = 0
    _writer: SegmentWriter | None = None
    _dead: SegmentWriter | None = None
    _syncing: bool = False
    _unsynced: deque[Group] = field(default_factory=deque)
    _unsynced_bytes: int = 0

    def append(self, parts: Sequence[Part], stream_no: int) -> Group:
        """Number and write a group; with ``process`` it is visible at once.

        Once the segment is ready the lock is held throughout, so that the order of numbers is the order of bytes.

        Raises:
            JournalWriteError: Nothing of the group is in the journal.
        """
        try:
            group = self._write_down(parts, stream_no)
        except OSError as error:
            self.needs_new_segment = True
            message = (
                f"the journal in {self.segment_set.folder} can't be written ({error}); free disk space and put again"
            )
            raise JournalWriteError(message) from error
        self._unsynced.append(group)
        self._unsynced_bytes += group.size_bytes
        if self.durability == "process":
            self.publish(group)
            self.changed.notify_all()
        return group

    def wait_durable(self, group: Group) -> None:
        """Wait until a group is durable or, with ``process``, until few enough bytes wait for an fsync.

        Raises:
            JournalWriteError: The fsync failed, and so did rewriting the group.
        """
        if self.durability == "full" or self._unsynced_bytes > _UNSYNCED_BYTES:
            self.sync(group)

    def sync(self, group: Group | None = None) -> None:
        """Wait until a group, by default the last one, is durable; concurrent callers share one fsync.

        Raises:
            JournalWriteError: The disk refuses.
        """
        group = group or (self._unsynced[-1] if self._unsynced else None)
        while group and not group.durable:
            if group.error:
                raise self._unsure(group.error) from group.error
            if self._syncing:
                self.changed.wait()
            else:
                self._lead()

    def close(self) -> None:
        """Sync and release the segment.

        Raises:
            JournalWriteError: The disk refuses; the segment is released all the same.
        """
        try:
            self.sync()
            self._seal()
        finally:
            self.release()

    def release(self) -> None:
        """Close the segment without a sync."""
        for writer in (self._writer, self._dead):
            if writer is not None:
                writer.close()
        self._writer = self._dead = None

    def _write_down(self, parts: Sequence[Part], stream_no: int) -> Group:
        try:
            return self._write_group(parts, stream_no)
        except OSError as error:
            self.needs_new_segment = True
            if not _is_full(error) or self._unsynced:
                raise
            self._seal()
            if not self.reclaim():
                raise
        return self._write_group(parts, stream_no)

    def _write_group(self, parts: Sequence[Part], stream_no: int) -> Group:
        writer = self._ready()
        group = self._number(parts, stream_no)
        self._put_down(writer, group)
        return group

    def _number(self, parts: Sequence[Part], stream_no: int) -> Group:
        if (self.sequence & _LAST_NUMBER) + len(parts) > _LAST_NUMBER:
            self.sequence = self.renew_counter() << COUNTER_BITS
        times: list[int] = []
        frame = -1
        for part in parts:
            if part.frame != frame:
                frame, self.timestamp_ns = part.frame, max(self.clock(), self.timestamp_ns + 1)
            times.append(self.timestamp_ns)
        size_bytes = sum(HEADER_BYTES + part.size_bytes for part in parts)
        group = Group(parts, stream_no, self.sequence + 1, times, size_bytes)
        self.sequence += len(parts)
        return group

    def _lead(self) -> None:
        """Run one fsync for everything written so far; the lock is released meanwhile."""
        writer, groups = self._writer, list(self._unsynced)
        if writer is None:
            self._rewrite_unsynced()
            return
        error = self._sync_unlocked(writer)
        if error is None:
            writer.synced_end = groups[-1].end
            self._discard_dead()
            self._done(groups)
        else:
            logger.error(
                "fsync of %s failed (%s): its unsynced records are written again into a new segment",
                writer.segment.path,
                error,
            )
            self._mark_dead(writer)
            self._rewrite_unsynced()

    def _sync_unlocked(self, writer: SegmentWriter) -> OSError | None:
        self._syncing = True
        self.changed.release()
        try:
            writer.sync()
        except OSError as failure:
            return failure
        finally:
            self.changed.acquire()
            self._syncing = False
            self.changed.notify_all()
        return None

    def _done(self, groups: Sequence[Group]) -> None:
        for group in groups:
            self._unsynced.popleft()
            self._unsynced_bytes -= group.size_bytes
            self.durable = Location(group.segment, group.end)
            group.durable = True
            if self.durability == "full":
                self.publish(group)
        if groups:
            self.record_synced(Synced(*self.durable, groups[-1].last_sequence))
        self.changed.notify_all()

    def _mark_dead(self, writer: SegmentWriter) -> None:
        """Stop using a segment; its unsynced records stay in the file until they are durable elsewhere."""
        self._discard_dead()
        self._writer, self._dead = None, writer

    def _rewrite_unsynced(self) -> None:
        """Write the unsynced groups into a new segment. If that fails too, unacknowledged groups end there."""
        groups = list(self._unsynced)
        try:
            writer = self._begin()
            writer.sync()
        except OSError as error:
            self._give_up(groups, error)
        else:
            writer.synced_end = writer.segment.end
            self._discard_dead()
            if self.durability == "process":
                self.segment_set.visible = Location(writer.segment.number, writer.segment.end)
                self.relocate()
            self._done(groups)

    def _give_up(self, groups: Sequence[Group], error: OSError) -> None:
        """With ``full`` raise for those who wait; with ``process`` keep the groups for the next attempt."""
        self._drop_begun()
        self.changed.notify_all()
        if self.durability == "process":
            raise self._unsure(error) from error
        self._discard_dead()
        for group in groups:
            group.error = error
        self._unsynced.clear()
        self._unsynced_bytes = 0

    def _discard_dead(self) -> None:
        """Truncate what is durable elsewhere. If the disk refuses, its sequence numbers reveal the copy."""
        dead, self._dead = self._dead, None
        if dead is None:
            return
        try:
            dead.cut(dead.synced_end)
        except OSError as error:
            logger.warning("%s can't be truncated: %s", dead.segment.path, error)
        dead.close()

    def _drop_begun(self) -> None:
        """Remove a segment into which nothing could be rewritten."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.segment.path.unlink()
            self._writer.close()
            del self.segment_set.segments[self._writer.segment.number]
            self._writer = None

    def _ready(self) -> SegmentWriter:
        """Return the segment to write to: a new one at first, at the size limit, on request, and after an error."""
        while self._writer is not None:
            if not self.needs_new_segment and self._writer.segment.end < self.segment_bytes:
                return self._writer
            if self._syncing:
                self.changed.wait()
            elif self._unsynced:
                self.sync()
            else:
                self._seal()
        if self._unsynced:
            self._rewrite_unsynced()
        return self._current() or self._begin()

    def _current(self) -> SegmentWriter | None:
        return self._writer

    def _begin(self) -> SegmentWriter:
        """Start a new segment, and write the groups that have lost theirs into it."""
        writer = self._open_segment()
        self.segment_set.segments[self.last_segment] = writer.segment
        self._writer, self.needs_new_segment = writer, False
        for group in self._unsynced:
            self._put_down(writer, group)
        return writer

    def _open_segment(self) -> SegmentWriter:
        self.last_segment += 1
        try:
            return SegmentWriter(self.segment_set.folder, self.last_segment, self.preamble())
        except OSError as error:
            if not _is_full(error) or self._unsynced or not self.reclaim():
                raise
        self.last_segment += 1
        return SegmentWriter(self.segment_set.folder, self.last_segment, self.preamble())

    def _seal(self) -> None:
        if self._writer is not None:
            self._writer.close()
            number, self._writer = self._writer.segment.number, None
            self.retire(number)

    def _put_down(self, writer: SegmentWriter, group: Group) -> None:
        buffers: list[Any] = []
        begun: dict[bytes, Placed] = {}
        last = len(group.parts) - 1
        group.headers = []
        for index, part in enumerate(group.parts):
            schema = 0
            if part.schema is not None:
                schema, copies = _place_schema(part.schema, writer, begun)
                if copies:
                    buffers += copies * _schema_record(schema, part.schema, writer.synced_end)
            header = Header(
                part.kind,
                part.flags | (index == 0 and Flag.FIRST) | (index == last and Flag.LAST),
                group.stream_no,
                schema,
                part.rows,
                group.first_sequence + index,
                group.times_ns[index],
                part.size_bytes,
                part.crc,
                writer.synced_end,
            )
            group.headers.append(header)
            buffers += (pack(header), part.payload)
        self._write(writer, buffers)
        group.segment, group.end = writer.segment.number, writer.segment.end
        writer.schemas.update(begun)

    def _write(self, writer: SegmentWriter, buffers: list[Any]) -> None:
        before = writer.segment.end
        try:
            writer.write(buffers)
        except OSError:
            with suppress(OSError):
                writer.cut(before)
            raise

    def _unsure(self, error: OSError) -> JournalWriteError:
        return JournalWriteError(
            f"the journal in {self.segment_set.folder} could not be synced ({error}): "
            "it is unknown whether this put counts; mend the disk, then check the target before putting the rows again"
        )


def _is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


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
