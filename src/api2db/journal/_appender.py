"""Write groups into segments: sequence numbers, times, the shared fsync, and recovery from a failed one."""

import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from api2db.errors import JournalError, JournalWriteError
from api2db.journal._core import Core
from api2db.journal._group import Group
from api2db.journal._open_segment import OpenSegment, is_full
from api2db.journal._record import HEADER_BYTES
from api2db.journal._retention import Retention
from api2db.journal._rows import Part
from api2db.journal._segment import Location, SegmentWriter
from api2db.journal.port import ALL, NotAttachedError

logger = logging.getLogger(__name__)
_UNSYNCED_BYTES = 8 << 20


@dataclass(slots=True)
class Appender:
    """The writing end of a journal; every method is called with the journal's lock held.

    Attributes:
        needs_new_segment: Whether the next group starts a new segment.
    """

    core: Core
    retention: Retention
    clock: Callable[[], int]
    segment_bytes: int
    needs_new_segment: bool = False
    _segment: OpenSegment = field(init=False)
    _syncing: bool = False
    _unsynced: deque[Group] = field(default_factory=deque)
    _unsynced_bytes: int = 0
    _closing: bool = False

    def __post_init__(self) -> None:
        self._segment = OpenSegment(self.core, self.retention)

    def append(self, parts: Sequence[Part], stream_no: int) -> Group:
        """Number and write a group; with ``process`` it is visible at once.

        Once the segment is ready the lock is held throughout, so that the order of numbers is the order of bytes.

        Raises:
            NotAttachedError: The journal is being closed, or the stream was forgotten; nothing of the group is in it.
            JournalWriteError: Nothing of the group is in the journal.
        """
        try:
            group = self._written(parts, stream_no)
            self._count(group)
        except (JournalError, OSError):
            raise
        except BaseException as error:
            self._close_after(error)
            raise
        return group

    def _written(self, parts: Sequence[Part], stream_no: int) -> Group:
        try:
            return self._write_down(parts, stream_no)
        except OSError as error:
            self.needs_new_segment = True
            message = f"the journal in {self.core.folder} can't be written ({error}); free disk space and put again"
            raise JournalWriteError(message) from error

    def _count(self, group: Group) -> None:
        self._unsynced.append(group)
        self._unsynced_bytes += group.size_bytes
        if self.core.durability == "process":
            self.core.publish(group)
            self.core.changed.notify_all()

    def wait_durable(self, group: Group) -> None:
        """Wait until a group is durable or, with ``process``, until few enough bytes wait for an fsync.

        Raises:
            JournalWriteError: The fsync failed, and so did rewriting the group.
        """
        if self.core.durability == "full" or self._unsynced_bytes > _UNSYNCED_BYTES:
            self.sync(group)

    def sync(self, group: Group | None = None) -> None:
        """Wait until a group, by default the last one, is durable; concurrent callers share one fsync.

        Raises:
            JournalWriteError: The disk refuses.
        """
        group = group or (self._unsynced[-1] if self._unsynced else None)
        while group and not group.durable:
            if group.error:
                raise _unsure(self.core.folder, group.error) from group.error
            if self._syncing:
                self.core.changed.wait()
            else:
                try:
                    self._lead()
                except (JournalError, OSError):
                    raise
                except BaseException as error:
                    self._close_after(error)
                    raise

    def close(self) -> None:
        """Sync and release the segment; nothing can be appended from now on.

        Raises:
            JournalWriteError: The disk refuses; the segment is released all the same.
        """
        self._closing = True  # a sync releases the lock, and what is appended meanwhile would not be synced
        try:
            self.sync()
            self._segment.seal()
        finally:
            self.release()

    def release(self) -> None:
        """Close the segment without a sync; those who wait for one get an error."""
        self._closing = True
        while self._syncing:
            self.core.changed.wait()
        for group in self._unsynced:
            group.error = OSError(errno.EBADF, "the journal was closed")
        self._unsynced.clear()
        self._unsynced_bytes = 0
        self._segment.close()

    def _close_after(self, fault: BaseException) -> None:
        """Close the journal after an unexpected error: its memory may differ from its files, which an open repairs."""
        logger.error("%s is closed; stop its streams and start them again", self.core.folder, exc_info=fault)
        self.release()
        self.core.release()

    def _write_down(self, parts: Sequence[Part], stream_no: int) -> Group:
        try:
            return self._write_group(parts, stream_no)
        except OSError as error:
            self.needs_new_segment = True
            if not is_full(error) or self._unsynced:
                raise
            self._segment.seal()
            if not self.retention.reclaim():
                raise
        return self._write_group(parts, stream_no)

    def _write_group(self, parts: Sequence[Part], stream_no: int) -> Group:
        writer = self._ready()
        if stream_no not in self.core.streams and stream_no != ALL:
            message = f"the stream was forgotten, nothing was stored in {self.core.folder}; stop it and start it again"
            raise NotAttachedError(message)
        group = self._number(parts, stream_no)
        group.write(writer)
        return group

    def _number(self, parts: Sequence[Part], stream_no: int) -> Group:
        times: list[int] = []
        frame = -1
        for part in parts:
            if part.frame != frame:
                frame, self.core.timestamp_ns = part.frame, max(self.clock(), self.core.timestamp_ns + 1)
            times.append(self.core.timestamp_ns)
        size_bytes = sum([HEADER_BYTES + part.size_bytes for part in parts])
        return Group(parts, stream_no, self.core.take_numbers(len(parts)), times, size_bytes)

    def _lead(self) -> None:
        """Run one fsync for everything written so far; the lock is released meanwhile."""
        writer, groups = self._segment.writer, list(self._unsynced)
        if writer is None:
            self._rewrite_unsynced()
            return
        error = self._sync_unlocked(writer)
        if error is None:
            self._note_synced(writer, groups[-1].end.offset)
            self._done(groups)
        else:
            logger.error(
                "fsync of %s failed (%s): its unsynced records are written again into a new segment",
                writer.segment.path,
                error,
            )
            self._segment.die()
            self._rewrite_unsynced()

    def _sync_unlocked(self, writer: SegmentWriter) -> OSError | None:
        self._syncing = True
        try:
            self.core.changed.release()
            try:
                writer.sync()
            finally:
                self.core.changed.acquire()
        except OSError as failure:
            return failure
        finally:
            self._syncing = False
            self.core.changed.notify_all()
        return None

    def _note_synced(self, writer: SegmentWriter, end: int) -> None:
        self.core.lock.check_not_lost()  # An fsync takes long enough for another owner to write files of its own.
        writer.synced_end = end
        self._segment.discard_dead()

    def _done(self, groups: Sequence[Group]) -> None:
        for group in groups:
            self._unsynced.popleft()
            self._unsynced_bytes -= group.size_bytes
            group.durable = True
            if self.core.durability == "full":
                self.core.publish(group)
        if groups:
            self.core.record_synced(groups[-1].end, groups[-1].last_sequence)
        self.core.changed.notify_all()

    def _rewrite_unsynced(self) -> SegmentWriter | None:
        """Write the unsynced groups into a new segment. If that fails too, unacknowledged groups end there."""
        groups = list(self._unsynced)
        try:
            writer = self._begin()
            writer.sync()
        except OSError as error:
            self._give_up(groups, error)
            return None
        self._note_synced(writer, writer.segment.end)
        if self.core.durability == "process":
            self.core.recount(Location(writer.segment.number, writer.segment.end))
        self._done(groups)
        return writer

    def _give_up(self, groups: Sequence[Group], error: OSError) -> None:
        """With ``full`` raise for those who wait; with ``process`` keep the groups for the next attempt."""
        self._segment.drop()
        self.core.changed.notify_all()
        if self.core.durability == "process":
            raise _unsure(self.core.folder, error) from error
        self._segment.discard_dead()
        for group in groups:
            group.error = error
        self._unsynced.clear()
        self._unsynced_bytes = 0

    def _ready(self) -> SegmentWriter:
        """Return the segment to write to: a new one at first, at the size limit, on request, and after an error."""
        self._check_open()
        while (writer := self._segment.writer) is not None:
            if not self.needs_new_segment and writer.segment.end < self.segment_bytes:
                return writer
            if self._syncing:
                self.core.changed.wait()
            elif self._unsynced:
                self.sync()
            else:
                self._segment.seal()
            self._check_open()  # It may have been closed during a wait.
        rewritten = self._rewrite_unsynced() if self._unsynced else None
        return rewritten or self._begin()

    def _check_open(self) -> None:
        if self._closing:
            raise self.core.lock.closed()

    def _begin(self) -> SegmentWriter:
        writer = self._segment.begin(self._unsynced)
        self.needs_new_segment = False
        return writer


def _unsure(folder: Path, error: OSError) -> JournalWriteError:
    return JournalWriteError(
        f"the journal in {folder} could not be synced ({error}): "
        "it is unknown whether this put counts; mend the disk, then check the target before putting the rows again"
    )
