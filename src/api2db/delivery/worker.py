"""The loop of one stream: what the journal holds, up to a limit, is delivered; then what has come meanwhile.

So a batch is one frame when little comes and thousands under load; only where tiny frames come by the hundred a second
does it rest between two loads.
"""

import logging
import threading
from collections.abc import Callable
from contextlib import nullcontext

import pyarrow as pa
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)

from api2db.delivery.batch import Batch, batch_of
from api2db.delivery.courier import Courier
from api2db.delivery.ledger import SMALL_ROWS
from api2db.delivery.parking import ParkingPlace
from api2db.delivery.refusals import TooLargeError, TooManyRefusalsError
from api2db.errors import ConnectionBrokenError, JournalWriteError, TargetUnavailableError
from api2db.journal import Limit, StreamLog
from api2db.masking import masked
from api2db.targets.port import Target

__all__ = ["LIMIT", "RETRIES", "Worker"]

_log = logging.getLogger(__name__)
LIMIT = Limit(rows=262_144, size_bytes=16 << 20)
RETRIES = 5
# A rest as long as two or three loads of a nearby server, and a fifth of what a row may be under way.
_MANY_FRAMES, _SMALL_BYTES, _REST_S = 10, 1 << 16, 0.02
# A batch that was too large is nearly as large again soon, and each time it is read in vain.
_SLOWLY = 8
_BREAKS, _BREAKS_OF_ONE_ROW = 3, 8
_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _JITTER_S = 0.05, 5.0, 0.1
_WAITABLE = (TargetUnavailableError, JournalWriteError, OSError)


class Worker:
    """Delivers one stream until it is told to stop.

    Args:
        log: The stream's view of its journal.
        target: Closed after any failure.
        courier: Delivers into it.
        parking: Takes a copy of the head batch when the tries ran out.
        limit: The largest batch.
        learn: Called with a batch's schema before it is delivered.
        keyed: Whether rows are replaced by key, as ``batch_of`` has it.

    Attributes:
        retries: How often a batch is tried again before it is parked; it is tried on all the same.
    """

    def __init__(
        self,
        log: StreamLog,
        target: Target,
        courier: Courier,
        parking: ParkingPlace,
        limit: Limit = LIMIT,
        learn: Callable[[pa.Schema], None] = lambda _: None,
        *,
        keyed: bool = False,
    ) -> None:
        self._learn = learn
        self._keyed = keyed
        self._log = log
        self._target = target
        self._courier = courier
        self._parking = parking
        self._limit = self._full_limit = limit._replace(whole_frames=target.whole_frames)
        self._stopping = threading.Event()
        self._nudged = threading.Event()
        self.retries = RETRIES
        self._settled = False
        self._troubled = False
        self._breaks = 0
        self._growth = 1

    def run(self) -> None:
        """Deliver until ``stop``; what is left then stays in the journal.

        Raises:
            ForeignLedgerError: Somebody else writes into the target under our name.
        """
        try:
            while not self._stopping.is_set():
                self._deliver_next()
        finally:
            self._target.close()

    def stop(self) -> None:
        """End ``run`` after the batch that it is at, or at once when it waits."""
        self._stopping.set()
        self.nudge()
        self._log.wake()

    def nudge(self) -> None:
        """Try again now, where it waits for its target."""
        self._nudged.set()

    @property
    def reached(self) -> bool | None:
        """Whether the target was reached when that was last tried; None before."""
        return self._settled or (False if self._troubled else None)

    def _deliver_next(self) -> None:
        retrying = Retrying(
            retry=retry_if_exception_type(_WAITABLE),
            wait=wait_exponential(_FIRST_PAUSE_S, _LONGEST_PAUSE_S) + wait_random(0, _JITTER_S),
            stop=stop_when_event_set(self._stopping),
            sleep=self._pause,
            before_sleep=self._failed,
            reraise=True,
        )
        try:
            retrying(self._try)
        except _WAITABLE as error:
            self._log.say(masked(str(error)))

    def _try(self) -> None:
        if self._stopping.is_set():  # the wake may have gone to a look at the head batch, after a failure
            return
        batch = self._next(None)
        if batch is not None and not self._settled:
            self._courier.settle()
            self._settled = True
            batch = self._next(0)
            if batch is None:  # all was in, and only the answer was lost
                self._succeeded()
        if batch is None:
            return
        try:
            self._deliver(batch)
        except TooLargeError as error:
            self._limit, self._growth = self._limit._replace(rows=error.rows), _SLOWLY
            return
        except TooManyRefusalsError:
            self._limit, self._growth = self._limit._replace(rows=max(1, min(SMALL_ROWS, batch.num_rows // 2))), 1
            return
        self._succeeded()
        self._rest(batch)

    def _rest(self, batch: Batch) -> None:
        """Let small frames gather where they come fast: each load takes time from those who put, however few it has."""
        if batch.frames >= _MANY_FRAMES and self._log.unread_bytes < _SMALL_BYTES:
            self._stopping.wait(_REST_S)

    def _deliver(self, batch: Batch) -> None:
        if batch.refused is not None:
            self._courier.reject(batch, batch.refused)
            return
        self._learn(batch.schema)
        # While a target is busy with a batch this machine has time to read the next one.
        with nullcontext() if self._target.takes_newest else self._log.reading_ahead(self._limit):
            self._courier.deliver(batch)

    def _next(self, timeout_s: float | None) -> Batch | None:
        start = self._log.position
        if self._target.takes_newest:
            self._log.read(self._limit._replace(rows=1), timeout_s)
            entries, superseded = self._log.newest()
            return batch_of(entries, start, superseded, whole_frames=True) if entries else None
        entries = self._log.read(self._limit, timeout_s)
        if not entries:
            return None
        return batch_of(entries, start, whole_frames=self._limit.whole_frames, keyed=self._keyed)

    def _pause(self, seconds: float) -> None:
        self._nudged.wait(seconds)
        self._nudged.clear()

    def _succeeded(self) -> None:
        self._breaks = 0
        if self._limit.rows < self._full_limit.rows:
            rows = self._limit.rows + max(1, self._limit.rows // self._growth)
            self._limit = self._limit._replace(rows=min(self._full_limit.rows, rows))
        if self._troubled:
            self._troubled = False
            _log.info("the target is back")
        self._log.say(None)

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        trouble = masked(str(error))  # it may be a driver's or a server's own
        if not self._troubled:
            _log.warning("not delivered, will be tried again: %s", trouble)
        self._troubled = True
        self._log.say(trouble)
        if isinstance(error, ConnectionBrokenError) and self._settled:
            self._breaks += 1
        self._settled = False
        self._target.close()
        try:
            if self._breaks >= _BREAKS:
                self._make_smaller(trouble, state)
            elif state.attempt_number > self.retries:
                self._park()
        except _WAITABLE as failure:
            _log.warning("the head batch stays as it is: %s", masked(str(failure)))

    def _park(self) -> None:
        batch = None if self._parking.occupied else self._next(0)
        if batch is not None:
            self._parking.park(batch)

    def _make_smaller(self, reason: str, state: RetryCallState) -> None:
        """A batch that breaks every connection, while the target itself is well, is halved down to the row at fault."""
        batch = self._next(0)
        if batch is not None and batch.num_rows > 1:
            self._breaks = 0
            self._limit = self._limit._replace(rows=max(1, batch.num_rows // 2))
            state.attempt_number = 0  # another batch, with tries and pauses of its own
        elif batch is not None and self._breaks >= _BREAKS_OF_ONE_ROW:
            self._breaks = 0
            self._courier.settle()
            if self._log.position == batch.start:  # else it was in, and only the answer was lost
                self._courier.reject(batch, reason)
