"""The segment that is open for writing, and a dead one until its records are durable elsewhere."""

import errno
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from api2db.journal._core import Core
from api2db.journal._group import Group
from api2db.journal._retention import Retention
from api2db.journal._segment import SegmentWriter

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class OpenSegment:
    """The newest segment, while it is written to; every method is called with the journal's lock held.

    Each segment has a higher number than all before it. A segment whose fsync failed is dead: nothing more is written
    to it, and its unsynced records stay in the file until they are durable in a later segment.

    Attributes:
        writer: Appends to it; None before the first write, after an error, and once it is sealed.
    """

    core: Core
    retention: Retention
    writer: SegmentWriter | None = None
    _dead: SegmentWriter | None = None
    _last_number: int = field(init=False)

    def __post_init__(self) -> None:
        self._last_number = max(self.core.segment_set.segments, default=0)

    def begin(self, groups: Collection[Group]) -> SegmentWriter:
        """Start a new segment, and write the groups that have lost theirs into it.

        Raises:
            OSError: The disk refuses. What was begun is the open segment all the same; see ``drop``.
        """
        writer = self._new_segment(may_reclaim=not groups)
        self.core.segment_set.segments[writer.segment.number] = writer.segment
        self.writer = writer
        for group in groups:
            group.write(writer)
        return writer

    def _new_segment(self, *, may_reclaim: bool) -> SegmentWriter:
        self._last_number += 1
        try:
            return SegmentWriter(self.core.folder, self._last_number, self.core.preamble())
        except OSError as error:
            if not (is_full(error) and may_reclaim and self.retention.reclaim()):
                raise
        self._last_number += 1
        return SegmentWriter(self.core.folder, self._last_number, self.core.preamble())

    def seal(self) -> None:
        """Write nothing more to the segment, all of which is durable."""
        if self.writer is not None:
            self.writer.close()
            number, self.writer = self.writer.segment.number, None
            self.retention.retire(number)

    def die(self) -> None:
        """Write nothing more to the segment, whose fsync failed."""
        self.discard_dead()
        self._dead, self.writer = self.writer, None

    def discard_dead(self) -> None:
        """Truncate what is durable elsewhere. If the disk refuses, its sequence numbers reveal the copy."""
        dead, self._dead = self._dead, None
        if dead is None:
            return
        try:
            dead.cut(dead.synced_end)
        except OSError as error:
            logger.warning("%s can't be truncated: %s", dead.segment.path, error)
        dead.close()

    def drop(self) -> None:
        """Remove the segment: it was begun for groups that could not be written into it."""
        if self.writer is not None:
            with suppress(OSError):
                self.writer.segment.path.unlink()
            self.writer.close()
            del self.core.segment_set.segments[self.writer.segment.number]
            self.writer = None

    def close(self) -> None:
        """Close the files as they are."""
        for writer in (self.writer, self._dead):
            if writer is not None:
                writer.close()
        self.writer = self._dead = None


def is_full(error: OSError) -> bool:
    """Whether an error says that the disk is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}
