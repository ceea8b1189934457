"""What waits for a stream, and whether its quota allows more."""

import shlex

from api2db.cluster._log import Log
from api2db.cluster._message import Counts, LogEnd, minus
from api2db.cluster._saved_state import SavedState


class Quota:
    """A stream's quota: waiting, parked and rejected bytes together stay within it, but for a single group.

    Its methods are called with the journal's lock held.

    Args:
        log: The journal's log.
        saved: The stream's state.
    """

    def __init__(self, log: Log, saved: SavedState) -> None:
        self._log = log
        self._saved = saved
        self._refused_bytes = 0

    @property
    def waiting(self) -> Counts:
        """What is visible and not acknowledged: frames, rows, bytes."""
        return self.waiting_before(self._log.end)

    def waiting_before(self, end: LogEnd) -> Counts:
        """What of that is before an end of the log."""
        return minus(end.total(self._saved.now.stream_no), self._saved.now.passed)

    @property
    def is_spent(self) -> bool:
        """Whether a put like the last refused one, or the smallest one, would have to wait."""
        return not self.has_room(max(1, self._refused_bytes))

    def has_room(self, size_bytes: int) -> bool:
        """Whether the quota allows more; if nothing waits, a single group is always allowed."""
        state, waiting = self._saved.now, max(0, self.waiting[2])
        quota = state.identity.quota_bytes
        return quota is None or not waiting or state.stored_bytes(waiting) + size_bytes <= quota

    def refuse(self, size_bytes: int) -> str:
        """Remember a group that was refused, and say why."""
        self._refused_bytes = size_bytes
        identity, held = self._saved.now.identity, self._saved.now.stored_bytes(max(0, self.waiting[2]))
        return (
            f"{identity.name} has {held} bytes in the cluster (waiting, parked, set aside); {size_bytes} more would "
            f"exceed its max_backlog_bytes of {identity.quota_bytes}; fix its target, raise the quota, or drop the "
            f"stream with: api2db forget {shlex.quote(identity.name)}"
        )

    def accept(self) -> None:
        """Take note that a group was stored."""
        self._refused_bytes = 0
