"""Writing groups into segments: numbers, times, the shared fsync, and what happens when it fails."""

import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from api2db.errors import JournalWriteError
from api2db.journal._record import HEADER_BYTES, Flag, Header, Kind, Part, pack
from api2db.journal._segment import Location, SegmentWriter
from api2db.journal._shelf import Shelf
from api2db.journal.port import Durability

_log = logging.getLogger(__name__)
_UNSYNCED_BYTES = 8 << 20


@dataclass(slots=True)
class Group:
    """Records of one append, from their numbering until they are durable."""

    records: list[tuple[Header, Part]]
    size_bytes: int
    segment: int = 0
    end: int = 0
    durable: bool = False
    error: OSError | None = None


@dataclass(slots=True)
class Appender:
    """The writing end of a journal.

    All methods are called with ``changed`` held, but ``encode``.

    Attributes:
        shelf: Where segments are known.
        changed: The journal's one lock; notified when something becomes visible or durable.
        preamble: What a new segment's header says.
        publish: Called with a group once readers may see it.
        retire: Called with a segment's number when nothing more will be written to it.
        relocate: Called when a rescue has moved records.
        sequence: The last one given.
        timestamp_ns: The last one given.
        fresh: Whether the next group begins a new segment.
        durable: Up to where a worker may read.
    """

    shelf: Shelf
    changed: threading.Condition
    durability: Durability
    clock: Callable[[], int]
    segment_bytes: int
    preamble: Callable[[], Mapping[str, Any]]
    publish: Callable[[Group], None]
    retire: Callable[[int], None]
    relocate: Callable[[], None]
    sequence: int = 0
    timestamp_ns: int = 0
    fresh: bool = False
    durable: Location = Location(0, 0)
    _writer: SegmentWriter | None = None
    _synced_end: int = 0
    _syncing: bool = False
    _unsynced: deque[Group] = field(default_factory=deque)
    _unsynced_bytes: int = 0
    _schema_ids: dict[bytes, int] = field(default_factory=dict)

    def number(self, parts: Sequence[Part], lane: int) -> Group:
        """Give each record its sequence number, and each frame its time."""
        records: list[tuple[Header, Part]] = []
        frame, last = -1, len(parts) - 1
        for index, part in enumerate(parts):
            if part.frame != frame or index == 0:
                frame, self.timestamp_ns = part.frame, max(self.clock(), self.timestamp_ns + 1)
            self.sequence += 1
            flags = part.flags | (Flag.FIRST if index == 0 else 0) | (Flag.LAST if index == last else 0)
            schema = self._schema_ids.setdefault(part.schema, len(self._schema_ids) + 1) if part.schema else 0
            header = Header(
                part.kind, flags, lane, schema, part.rows, self.sequence, self.timestamp_ns, len(part.payload), part.crc
            )
            records.append((header, part))
        return Group(records, sum(HEADER_BYTES + header.length for header, _ in records))

    def write(self, group: Group) -> None:
        """Append a group; visible at once where the durability allows that.

        Raises:
            JournalWriteError: Nothing of the group is in the journal.
        """
        try:
            writer = self._ready()
            self._put_down(writer, group)
        except OSError as error:
            self._abandon()
            message = f"the journal in {self.shelf.folder} can't be written ({error}); free disk space and put again"
            raise JournalWriteError(message) from error
        self._unsynced.append(group)
        self._unsynced_bytes += group.size_bytes
        if self.durability == "process":
            self.publish(group)
            self.changed.notify_all()

    def settle(self, group: Group) -> None:
        """Return when a group is durable, or, for ``process``, when not too much waits for an fsync.

        Raises:
            JournalWriteError: The fsync failed, and so did writing the group anew.
        """
        if self.durability == "full" or self._unsynced_bytes > _UNSYNCED_BYTES:
            self.sync(group)

    def sync(self, group: Group | None = None) -> None:
        """Return when a group, by default the last one written, is durable; concurrent callers share one fsync.

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
        """Sync and let the segment go."""
        self.sync()
        self._seal()

    def _sync_or_wait(self) -> None:
        if self._syncing:
            self.changed.wait()
        else:
            self.sync()

    def _lead(self) -> None:
        """One fsync for all that has been written, with the lock released meanwhile."""
        if self._writer is None:
            self._rescue(None)
            return
        writer, groups = self._writer, list(self._unsynced)
        self._syncing = True
        self.changed.release()
        error: OSError | None = None
        try:
            writer.sync()
        except OSError as failure:
            error = failure
        finally:
            self.changed.acquire()
            self._syncing = False
        if error is None:
            self._done(groups)
        else:
            _log.error("fsync of %s failed (%s): what it held unsynced is written anew", writer.segment.path, error)
            self._rescue(writer)

    def _done(self, groups: Sequence[Group]) -> None:
        for group in groups:
            self._unsynced.popleft()
            self._unsynced_bytes -= group.size_bytes
            self._synced_end = group.end
            self.durable = Location(group.segment, group.end)
            group.durable = True
            if self.durability == "full":
                self.publish(group)
        self.changed.notify_all()

    def _rescue(self, dead: SegmentWriter | None) -> None:
        """Write the unsynced groups into a new segment; where that fails too, those that nobody was promised end."""
        self._writer = None
        if dead is not None:
            self._bury(dead)
        groups = list(self._unsynced)
        try:
            writer = self._ready()
            for group in groups:
                self._put_down(writer, group)
            writer.sync()
        except OSError as error:
            self._give_up(groups, error)
            return
        self._done(groups)
        self.relocate()

    def _give_up(self, groups: Sequence[Group], error: OSError) -> None:
        if self._writer is not None:
            self._bury(self._writer)
            self._writer = None
        self.changed.notify_all()
        if self.durability == "full":
            for group in groups:
                group.error = error
            self._unsynced.clear()
            self._unsynced_bytes = 0
            return
        raise self._unsure(error) from error

    def _bury(self, dead: SegmentWriter) -> None:
        try:
            dead.cut(self._synced_end)
        except OSError as error:
            _log.warning("%s can't be cut: %s", dead.segment.path, error)
            dead.segment.end = self._synced_end
        dead.close()

    def _ready(self) -> SegmentWriter:
        """The segment to write to: a new one at first, at the size, when asked for, after an error."""
        while self._writer is not None:
            if not self.fresh and self._writer.segment.end < self.segment_bytes:
                return self._writer
            if self._unsynced or self._syncing:
                self._sync_or_wait()
            else:
                self._seal()
        number = max(self.shelf.segments, default=0) + 1
        writer = SegmentWriter(self.shelf.folder, number, self.preamble())
        self.shelf.segments[number] = writer.segment
        self._writer, self._synced_end, self.fresh = writer, writer.segment.end, False
        return writer

    def _seal(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self.retire(self._writer.segment.number)
            self._writer = None

    def _put_down(self, writer: SegmentWriter, group: Group) -> None:
        buffers: list[bytes | memoryview] = []
        schemas = set(writer.schemas)
        for header, part in group.records:
            if part.schema is not None and header.schema not in schemas:
                schemas.add(header.schema)
                buffers += _schema_record(header.schema, part.schema)
            buffers += [pack(header), memoryview(part.payload)]
        before = writer.segment.end
        try:
            group.end = writer.write(buffers)
        except OSError:
            writer.cut(before)
            raise
        group.segment = writer.segment.number
        writer.schemas = schemas

    def _abandon(self) -> None:
        """After a failed write nothing more goes into the segment; what it holds is synced by those who wait."""
        self.fresh = True

    def _unsure(self, error: OSError) -> JournalWriteError:
        return JournalWriteError(
            f"the journal in {self.shelf.folder} could not be synced ({error}): whether this put counts is unknown; "
            "mend the disk, then look at the target before putting the rows again"
        )


def _schema_record(number: int, schema: bytes) -> list[bytes | memoryview]:
    header = Header(Kind.SCHEMA, 0, 0, number, 0, 0, 0, len(schema), zlib.crc32(schema))
    return [pack(header), schema]
