"""How much a journal in a cluster holds: quotas, the limit of its stream, and the removal of what is delivered."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from api2db.cluster._core import Core
from api2db.cluster._jetstream import FullError, until_answered
from api2db.errors import BacklogFullError
from api2db.interrupts import wait
from api2db.journal import StreamNo

if TYPE_CHECKING:
    from api2db.cluster._reader import ClusterReader

logger = logging.getLogger(__name__)
_FULL_PAUSE_S: Final = 0.5
_WAIT_S: Final = 20.0
_RESERVE_BYTES: Final = 16 << 20


class Retention:
    """Keeps a journal within its quotas. Only what the saved places of all streams have passed is ever removed.

    The owner applies each stream's quota itself. The servers have a limit too, which a put can't exceed whatever the
    owner believes: twice the sum of all quotas, because messages have heads, and a reserve. What must be written for
    deliveries to go on may raise the limit by that reserve.

    Args:
        core: The journal.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._purged = 0
        self._limit_bytes: int | None = None  # unknown: an earlier owner may have left one

    def wait_for_room(self, stream_no: StreamNo, size_bytes: int, deadline_s: float | None) -> None:
        """Wait until each receiver's quota allows more; called with the lock held.

        Args:
            stream_no: All streams, or one.
            size_bytes: How much more.
            deadline_s: When to give up, on the monotonic clock.

        Raises:
            BacklogFullError: There was no room in time.
        """
        told = False
        while full := [each for each in self._core.receivers(stream_no) if not each.quota.has_room(size_bytes)]:
            self._core.check()
            remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
            if remaining_s is not None and remaining_s <= 0:
                raise BacklogFullError("; ".join(each.quota.refuse(size_bytes) for each in full))
            if not told:
                logger.warning("put waits: %s", full[0].quota.refuse(size_bytes))
                told = True
            wait(self._core.changed, remaining_s)

    def wait_for_space(self, stream_no: StreamNo, size_bytes: int, error: FullError, deadline_s: float | None) -> None:
        """Wait a moment before what the servers had no space for is tried again.

        A group for which nothing has to wait, or one without rows, is always allowed, as by quotas.

        Raises:
            BacklogFullError: There is no time left.
        """
        receivers = self._core.receivers(stream_no)
        is_allowed = not size_bytes or not any(each.waiting_bytes > 0 for each in receivers)
        if is_allowed and self.raise_limit(2 * size_bytes):
            return
        if deadline_s is not None and time.monotonic() >= deadline_s:
            for each in receivers:
                each.quota.refuse(size_bytes)
            raise BacklogFullError(f"the cluster has no space for the rows of {self._core.name}: {error}") from error
        with self._core.changed:
            # Deliveries notify; the servers do not tell when they have removed what was delivered.
            wait(self._core.changed, _FULL_PAUSE_S)

    def limit(self) -> None:
        """Have the servers limit the stream by the quotas of all streams, but to no less than it has now.

        Nothing waits for this: without the limit, the owner's own one counts.
        """
        quotas = [each.state.identity.quota_bytes for each in list(self._core.readers.values())]
        known = [quota for quota in quotas if quota is not None]
        wanted = 2 * sum(known) + _RESERVE_BYTES if quotas and len(known) == len(quotas) else -1
        if wanted != self._limit_bytes:
            self._set_limit(wanted, 0)

    def take(self, open_count: int) -> None:
        """Become the owner of the log, however full it is."""
        self.making_room(lambda: self._core.log.take(open_count))

    def making_room(self, publish: Callable[[], None], size_bytes: int = 0) -> None:
        """Publish what must be stored for deliveries to go on, if need be above the limit of the stream.

        Args:
            publish: Publishes it.
            size_bytes: Its size.

        Raises:
            FullError: The servers have no space.
        """
        try:
            publish()
        except FullError:
            if not self.raise_limit(size_bytes):
                raise
            publish()

    def raise_limit(self, size_bytes: int) -> bool:
        """Make room above the limit of the stream; return whether that was what stood in the way."""
        info = self._core.jetstream.stream(self._core.log.messages.stream)
        limit = -1 if info is None else int(info["config"].get("max_bytes", -1))
        if info is None or limit < 0 or limit >= int(info["state"]["bytes"]) + size_bytes + _RESERVE_BYTES:
            return False
        self._set_limit(limit, size_bytes + _RESERVE_BYTES)
        return True

    def _set_limit(self, wanted: int, more: int) -> None:
        jetstream, stream = self._core.jetstream, self._core.log.messages.stream

        def attempt() -> int:
            info = jetstream.stream(stream)
            has = 0 if info is None else int(info["state"]["bytes"])
            limit = wanted if wanted < 0 else max(wanted, has + more)
            if info is not None and info["config"].get("max_bytes") != limit:
                jetstream.api(f"STREAM.UPDATE.{stream}", {**info["config"], "max_bytes": limit})
            return limit

        try:
            self._limit_bytes = until_answered(attempt, _WAIT_S)
        except FullError as error:
            logger.warning(
                "the servers can't reserve the quota of %s, so only its owner applies it: %s", self._core.name, error
            )

    def purge(self) -> None:
        """Remove what every stream has passed; the last message stays.

        Only saved places count: the next owner reads on from there, whatever this one has acknowledged since.
        """
        readers: Sequence[ClusterReader] = list(self._core.readers.values())
        before = min([self._core.log.end.rows, *(each.saved_place.number for each in readers)])
        if before > self._purged:
            self._core.log.purge(before)
            self._purged = before
            self.limit()
