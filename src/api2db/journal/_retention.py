"""What a journal keeps on disk: quotas, and the segments that no stream needs any more."""

import logging
import shlex
import time
from collections.abc import Iterable, Sequence

from api2db.errors import BacklogFullError, JournalWriteError
from api2db.interrupts import wait
from api2db.journal._core import Core
from api2db.journal._registered import RegisteredStream
from api2db.journal._segment import Location, Segment
from api2db.journal._state_connection import hold_reserve, release_reserve
from api2db.journal._synced import NOTHING_SYNCED, keep_synced, read_synced
from api2db.journal.port import ALL, StreamNo

logger = logging.getLogger(__name__)


class Retention:
    """Removes segments and applies quotas; called with the journal's lock held, unless a method says otherwise."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def take_finished(self) -> list[Segment]:
        """Remove the segments that every stream has passed from the set, and return them."""
        segment_set = self._core.segment_set
        behind = (stream.at for stream in self._core.streams.values() if stream.waiting.size_bytes > 0)
        return segment_set.remove_before(min(behind, default=segment_set.visible))

    def discard(self, finished: Sequence[Segment]) -> None:
        """Unlink finished segments; every later segment's preamble repeats the cursor. Called without the lock."""
        if not finished:
            return
        self._record_removal(finished)
        with self._core.changed:
            self._forget_synced(segment.number for segment in finished)
        _unlink(finished)

    def retire(self, number: int) -> None:
        """Save the summary of a segment to which nothing more is written."""
        segment = self._core.segment_set.segments.get(number)
        if segment is not None:
            try:
                self._core.state.keep_segment(number, {**segment.summary(), "cursor": self._core.durable_cursor})
            except JournalWriteError as error:
                logger.warning("segment %d will be scanned at the next open: %s", number, error)

    def reclaim(self) -> bool:
        """On a full disk remove all segments if every stream has passed them; the last one is truncated.

        Returns:
            Whether that freed anything.
        """
        core = self._core
        last = next(reversed(core.segment_set.segments.values()), None)
        freed = core.state.shrink()
        if last is None or any(stream.waiting.size_bytes > 0 for stream in core.streams.values()):
            return freed
        release_reserve(core.folder)
        try:
            finished = core.segment_set.remove_before(Location(last.number, 0))
            if finished:
                self._record_removal(finished)
                self._forget_synced(segment.number for segment in finished)
                _unlink(finished)
            emptied = last.end > last.begin and self._empty(last)
        finally:
            hold_reserve(core.folder)
        return freed or bool(finished) or emptied

    def wait_for_room(self, stream_no: StreamNo, size_bytes: int, timeout_s: float | None) -> None:
        """Wait until the quotas allow a group.

        Raises:
            BacklogFullError: They don't in time.
        """
        if self._has_room(stream_no, size_bytes):
            return
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        told = False
        while full := [stream for stream in self._receivers(stream_no) if not stream.has_room(size_bytes)]:
            self._core.lock.check()
            message = (
                f"{full[0].row.identity} has {full[0].stored_bytes} bytes on disk (waiting, parked, set aside); "
                f"{size_bytes} more would exceed its max_backlog_bytes of {full[0].row.quota_bytes}; "
                "fix its target, raise the quota, or drop the stream with: api2db forget "
                f"{shlex.quote(full[0].row.identity)}"
            )
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                for stream in full:
                    stream.refused_bytes = size_bytes
                raise BacklogFullError(message)
            if not told:
                logger.warning("put waits: %s", message)
                told = True
            wait(self._core.changed, remaining)

    def _has_room(self, stream_no: StreamNo, size_bytes: int) -> bool:
        for stream in self._receivers(stream_no):  # noqa: SIM110 - all() takes twice as long
            if not stream.has_room(size_bytes):
                return False
        return True

    def plain_bytes(self, stream_no: StreamNo, slice_bytes: int) -> int:
        """How many bytes may wait before frames are compressed; needs no lock. What exceeds a slice always is."""
        return min([slice_bytes, *(stream.plain_bytes for stream in self._receivers(stream_no))])

    def _receivers(self, stream_no: StreamNo) -> list[RegisteredStream]:
        if stream_no == ALL:
            return list(self._core.streams.values())
        stream = self._core.streams.get(stream_no)
        return [] if stream is None else [stream]

    def _record_removal(self, finished: Sequence[Segment]) -> None:
        try:
            self._core.state.keep_meta({"cursor": self._core.durable_cursor}, durable=False)
            self._core.state.drop_segments_until(finished[-1].number)
        except JournalWriteError as error:
            logger.warning("the state file can't be updated for removed segments: %s", error)

    def _forget_synced(self, numbers: Iterable[int]) -> None:
        """Forget the durable offset of segments that are removed on purpose."""
        if read_synced(self._core.folder).segment in numbers:
            keep_synced(self._core.folder, NOTHING_SYNCED)

    def _empty(self, last: Segment) -> bool:
        """Truncate the last segment, after saving what only it contains."""
        try:
            self._core.state.keep_meta({"cursor": self._core.durable_cursor})
            self._core.state.drop_segments([last.number])
            self._forget_synced([last.number])
            last.empty()
        except OSError as error:
            logger.warning("%s can't be truncated: %s", last.path, error)
            return False
        return True


def _unlink(finished: Sequence[Segment]) -> None:
    for segment in finished:
        try:
            segment.path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("%s can't be removed before the journal is opened again: %s", segment.path, error)
