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
from api2db.delivery.dtypes import Dtypes
from api2db.delivery.loader import Loader
from api2db.delivery.parking import ParkedBatches
from api2db.delivery.refusals import TooLargeError, TooManyRefusalsError
from api2db.delivery.transactional_loader import SMALL_ROWS
from api2db.errors import ConnectionBrokenError, JournalWriteError, TargetUnavailableError
from api2db.journal import ReadLimit, StreamReader
from api2db.redaction import redact
from api2db.targets.port import Target

__all__ = ["LIMIT", "RETRIES", "Worker"]

logger = logging.getLogger(__name__)
LIMIT = ReadLimit(rows=262_144, size_bytes=16 << 20)
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
        reader: The stream's view of its journal.
        target: Closed after any failure.
        loader: Delivers into it.
        parking: Takes a copy of the head batch when the tries ran out.
        limit: The largest batch.
        learn: Called with a batch's schema before it is delivered.
        keyed: Whether rows are replaced by key, as ``batch_of`` has it.
        dtypes: What rows become on their way into the target.

    Attributes:
        retries: How often a batch is tried again before it is parked; it is tried on all the same.
    """

    def __init__(
        self,
        reader: StreamReader,
        target: Target,
        loader: Loader,
        parking: ParkedBatches,
        limit: ReadLimit = LIMIT,
        learn: Callable[[pa.Schema], None] = lambda _: None,
        *,
        keyed: bool = False,
        dtypes: Dtypes | None = None,
    ) -> None:
        self._learn = learn
        self._dtypes = dtypes or Dtypes()
        self._keyed = keyed
        self._reader = reader
        self._target = target
        self._loader = loader
        self._parking = parking
        self._limit = self._full_limit = limit._replace(whole_frames=target.whole_frames)
        self._stopping = threading.Event()
        self._retry_requested = threading.Event()
        self.retries = RETRIES
        self._recovered = False
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
        self._target.end_waiting()
        self.retry_now()
        self._reader.wake()

    def retry_now(self) -> None:
        """Try again now, where it waits for its target."""
        self._retry_requested.set()

    @property
    def connected(self) -> bool | None:
        """Whether the target was reached when that was last tried; None before."""
        return self._recovered or (False if self._troubled else None)

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
            self._reader.set_error(redact(str(error)))

    def _try(self) -> None:
        if self._stopping.is_set():  # the wake may have gone to a look at the head batch, after a failure
            return
        batch = self._next(None)
        if batch is not None and not self._recovered:
            self._loader.recover()
            self._recovered = True
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
        if batch.frames >= _MANY_FRAMES and self._reader.unread_bytes < _SMALL_BYTES:
            self._stopping.wait(_REST_S)

    def _deliver(self, batch: Batch) -> None:
        if batch.refused is not None:
            self._loader.reject(batch, batch.refused)
            return
        self._learn(batch.schema)
        # While a target is busy with a batch this machine has time to read the next one.
        with nullcontext() if self._target.replaces_table else self._reader.prefetch(self._limit):
            self._loader.deliver(batch)

    def _next(self, timeout_s: float | None) -> Batch | None:
        start = self._reader.position
        if self._target.replaces_table:
            self._reader.read(self._limit._replace(rows=1), timeout_s)
            entries, superseded = self._reader.newest()
            if not entries:
                return None
            return batch_of(entries, start, superseded, whole_frames=True, dtypes=self._dtypes)
        entries = self._reader.read(self._limit, timeout_s)
        if not entries:
            return None
        whole_frames = self._limit.whole_frames
        return batch_of(entries, start, whole_frames=whole_frames, keyed=self._keyed, dtypes=self._dtypes)

    def _pause(self, seconds: float) -> None:
        self._retry_requested.wait(seconds)
        self._retry_requested.clear()

    def _succeeded(self) -> None:
        self._breaks = 0
        if self._limit.rows < self._full_limit.rows:
            rows = self._limit.rows + max(1, self._limit.rows // self._growth)
            self._limit = self._limit._replace(rows=min(self._full_limit.rows, rows))
        if self._troubled:
            self._troubled = False
            logger.info("the target is back")
        self._reader.set_error(None)

    def _failed(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        trouble = redact(str(error))  # it may be a driver's or a server's own
        if not self._troubled:
            logger.warning("not delivered, will be tried again: %s", trouble)
        self._troubled = True
        self._reader.set_error(trouble)
        if isinstance(error, ConnectionBrokenError) and self._recovered:
            self._breaks += 1
        self._recovered = False
        self._target.close()
        try:
            if self._breaks >= _BREAKS:
                self._make_smaller(trouble, state)
            elif state.attempt_number > self.retries:
                self._park()
        except _WAITABLE as failure:
            logger.warning("the head batch stays as it is: %s", redact(str(failure)))

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
            self._loader.recover()
            if self._reader.position == batch.start:  # else it was in, and only the answer was lost
                self._loader.reject(batch, reason)
