"""The delivery loop of one stream. Each step delivers what waits in the journal, up to a limit, as one batch.

So a batch is one frame under light load and thousands under heavy load. The worker rests between two loads only if
hundreds of tiny frames arrive each second.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import pyarrow as pa

from api2db import tracing
from api2db.backoff import BackOff
from api2db.cpu_time import counted_for
from api2db.delivery._activity import Activity
from api2db.delivery._batches import LIMIT, Batches
from api2db.delivery._dtypes import Dtypes
from api2db.delivery._loader import Loader
from api2db.delivery._parking import ParkedBatches
from api2db.delivery._refusals import TooLargeError, TooManyRefusalsError
from api2db.delivery.batch import Batch
from api2db.errors import ConnectionBrokenError, JournalWriteError, TargetUnavailableError
from api2db.free_memory import give_back
from api2db.journal import ReadLimit, StreamReader
from api2db.targets.port import Target
from api2db.texts import redact
from api2db.tracing import log_fields

logger = logging.getLogger(__name__)
RETRIES = 5
# The rest after a batch of frames that came fast, if few bytes wait: as long as ten loads of a nearby server. Without
# it, each load would slow down those who put so much that the next load finds few frames again.
_REST_S = 0.02
_MANY_FRAMES = 3
_FAST_NS = 2_000_000  # from frame to frame
# So many batches in a row are loaded ahead of their turn; then other streams have theirs.
_MOST_IN_A_ROW = 8
_MANY_BYTES = 2 << 20  # from which a batch leaves much free memory behind
_SMALL_BYTES = 1 << 16
# Broken connections in a row before the batch is halved, and before a single row is rejected.
_BREAKS = 3
_BREAKS_OF_ONE_ROW = 8
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_JITTER_S = 0.1
_WAITABLE = (TargetUnavailableError, JournalWriteError, OSError)


def _nobody(rows: int, size_bytes: int) -> None:
    """Nobody waits for news."""


class Named(NamedTuple):
    """Who a stream is: its collector's name, and its identity."""

    collector: str = ""
    stream: str = ""


_UNNAMED = Named()


class Worker:
    """Delivers one stream until it is stopped.

    Args:
        reader: The stream's end of the journal.
        target: Closed after any failure.
        loader: Delivers into the target.
        parking: Stores a copy of the head batch when its retries ran out.
        limit: The largest batch.
        learn: Called with a batch's schema before it is delivered.
        keyed: Whether rows are replaced by key; see ``batch_of``.
        dtypes: The types that rows are cast to.
        named: Who the stream is, in log lines and traces.
    """

    def __init__(  # noqa: PLR0913 - only build_worker of stream calls it, and the tests of delivery
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
        named: Named = _UNNAMED,
    ) -> None:
        self._learn = learn
        self._named = named
        self._reader = reader
        self._target = target
        self._loader = loader
        self._parking = parking
        self._batches = Batches(reader, target, limit, keyed=keyed, dtypes=dtypes)
        self._stopping = threading.Event()
        self._retry_requested = threading.Event()
        self._retries: list[int] = []  # of the calls of ``retrying`` that have not ended
        self._hurries: list[None] = []  # of the calls of ``hurrying`` that have not ended
        self._full = limit
        self._is_resting = False
        self._recovered = False
        self._troubled = False
        self._breaks = 0
        self._in_a_row = 0
        self._back_off = BackOff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter_s=_JITTER_S)
        self._activity = Activity()
        self._activity.resume(reader.on_details(self._activity.as_json))
        self._ready: Callable[[], None] = lambda: None
        self._ready_now: Callable[[], None] = lambda: None
        reader.on_news(self._tell_news)

    def run(self) -> None:
        """Deliver until ``stop``; the rest stays in the journal.

        Raises:
            ForeignLedgerError: A copy of this project writes into the target under this stream's name.
        """
        try:
            while not self._stopping.is_set():
                wait_s = self.step(None)
                if wait_s:
                    self._retry_requested.wait(wait_s)
        finally:
            self.close()

    def step(self, timeout_s: float | None = 0) -> float | None:
        """Deliver one batch.

        Args:
            timeout_s: How long to wait for one; None for no limit.

        Returns:
            After how many seconds to run the next step; None if nothing waits.

        Raises:
            ForeignLedgerError: A copy of this project writes into the target under this stream's name.
        """
        self._retry_requested.clear()
        self._is_resting = False
        fields = log_fields(collector=self._named.collector, stream=self._named.stream)
        with fields, counted_for(self._named.collector):
            try:
                self._in_a_row = 0
                wait_s = self._try(timeout_s)
                while self._batches.has_begun and not self._stopping.is_set():
                    self._in_a_row += 1
                    wait_s = self._try(0)
            except _WAITABLE as error:
                return self._failed(error)
        self._back_off.reset()
        return wait_s

    def call_when_ready(self, ready: Callable[[], None], ready_now: Callable[[], None]) -> None:
        """Set the functions that schedule a step.

        Args:
            ready: Called when a step may find a batch; by any thread, with the journal's lock held.
            ready_now: Called when a step is due at once, even if the last one asked for a pause.
        """
        self._ready, self._ready_now = ready, ready_now

    def close(self) -> None:
        """Close the target and take no more news, after the last step."""
        self._reader.on_news(_nobody)
        self._target.close()

    def stop(self) -> None:
        """End ``run`` after the current batch, or at once if it waits."""
        self._stopping.set()
        self._target.end_waiting()
        self.retry_now()
        self._reader.wake()

    @property
    def is_stopping(self) -> bool:
        """Whether ``stop`` was called, so that no further step runs."""
        return self._stopping.is_set()

    def retry_now(self) -> None:
        """Retry now instead of after the pause."""
        self._retry_requested.set()
        self._ready_now()

    @contextmanager
    def retrying(self, times: int) -> Iterator[None]:
        """Within the block, park a batch after this number of retries; a parked batch is retried all the same."""
        self._retries.append(times)
        try:
            yield
        finally:
            self._retries.remove(times)

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """Within the block, rest between loads as little as for a target without ``rest_s``."""
        self._hurries.append(None)
        if self._is_resting:
            self.retry_now()
        try:
            yield
        finally:
            self._hurries.pop()

    @property
    def connected(self) -> bool | None:
        """Whether the last attempt reached the target; None before the first."""
        return self._recovered or (False if self._troubled else None)

    def _tell_news(self, rows: int, size_bytes: int) -> None:
        self._batches.tell_news()
        if self._is_resting and self._is_full(rows, size_bytes):
            self.retry_now()
        else:
            self._ready()

    def _try(self, timeout_s: float | None) -> float | None:
        if self._stopping.is_set():  # after a failure, reading the head batch may have consumed the wake-up
            return None
        batch = self._batches.next(timeout_s) if self._recovered else self._first(timeout_s)
        if batch is None:
            return 0 if self._reader.waiting_bytes else None  # if the disk failed to return it now, read it later
        try:
            batch = self._load(batch)
        except TooLargeError as error:
            self._batches.fit(error.rows)
            return 0
        except TooManyRefusalsError:
            self._batches.search(batch)
            return 0
        self._succeeded()
        # First, so that neither a put nor a call of ``hurrying`` at this moment is missed.
        self._is_resting = self._target.rest_s > 0
        waiting_bytes = self._reader.waiting_bytes
        self._activity.delivered(batch, self._reader.position, self._loader.columns, more_waits=waiting_bytes > 0)
        size_bytes, rest_s = batch.size_bytes, self._rest_s(batch, waiting_bytes)
        del batch  # otherwise its memory is not free yet
        if size_bytes >= _MANY_BYTES:
            give_back()
        return rest_s

    def _rest_s(self, batch: Batch, waiting_bytes: int) -> float:
        """How long to rest after a batch."""
        if self._is_resting and not self._hurries and not self._is_full(self._reader.waiting_rows, waiting_bytes):
            return self._target.rest_s
        return _REST_S if waiting_bytes < _SMALL_BYTES and _came_fast(batch) else 0

    def _is_full(self, rows: int, size_bytes: int) -> bool:
        """Whether so much is a full batch."""
        return rows >= self._full.rows or size_bytes >= self._full.size_bytes

    def _load(self, batch: Batch) -> Batch:
        """Deliver a batch in a span that has a link to each put whose frames it carries; return what was delivered."""
        collector, target = self._named
        traces = chain.from_iterable(entry.traces for entry in batch.entries)
        with tracing.begin("load", "consumer", traces, collector=collector, target=target) as span:
            before = self._reader.delivered
            delivered = self._deliver(batch)
            after = self._reader.delivered
            span.set(
                rows=after.rows - before.rows,
                frames=after.frames - before.frames,
                rejected=after.rejected - before.rejected,
                position=list(self._reader.position),
            )
        return delivered

    def _deliver(self, batch: Batch) -> Batch:
        if batch.refused is not None:
            self._loader.reject(batch, batch.refused)
            return batch
        self._learn(batch.schema)
        can_begin = self._loader.can_begin and self._in_a_row < _MOST_IN_A_ROW
        with self._batches.reading_ahead(self._loader.begin if can_begin else None):
            delivered = self._loader.deliver(batch)
        if len(delivered.entries) > len(batch.entries):
            for part in delivered.by_schema():
                self._learn(part.schema)
        return delivered

    def _first(self, timeout_s: float | None) -> Batch | None:
        """Connect when something waits; a batch is only read for a target that can be reached."""
        if not self._batches.wait(timeout_s):
            return None
        self._loader.recover()
        self._recovered = True
        batch = self._batches.next(0)
        if batch is None:  # everything was committed, and only the answer was lost
            self._succeeded()
        return batch

    def _succeeded(self) -> None:
        self._breaks = 0
        self._batches.grow()
        if self._troubled:
            self._troubled = False
            logger.info("the target is back")
        self._reader.set_error(None)

    def _failed(self, error: Exception) -> float:
        """Record a failure; returns how many seconds to wait before the batch is retried."""
        trouble = redact(str(error))  # a driver or a server may have put a secret into it
        if self._stopping.is_set():
            self._reader.set_error(trouble)
            return 0
        pause_s = self._back_off.failed()
        self._step_back(error, trouble)
        return 0 if self._retry_requested.is_set() else pause_s

    def _step_back(self, error: Exception, trouble: str) -> None:
        if not self._troubled:
            logger.warning("not delivered, will be retried: %s", trouble)
        self._troubled = True
        self._reader.set_error(trouble)
        if isinstance(error, ConnectionBrokenError) and self._recovered:
            self._breaks += 1
        self._recovered = False
        self._target.close()
        try:
            if self._breaks >= _BREAKS:
                self._make_smaller(trouble)
            elif self._back_off.failures > min(self._retries, default=RETRIES):
                self._park()
        except _WAITABLE as failure:
            logger.warning("the head batch stays in the journal: %s", redact(str(failure)))

    def _park(self) -> None:
        batch = None if self._parking.occupied else self._batches.next(0)
        if batch is not None:
            self._parking.park(batch)

    def _make_smaller(self, reason: str) -> None:
        """Halve a batch that breaks every connection to a healthy target, until only the row at fault is left."""
        batch = self._batches.next(0)
        if batch is not None and batch.num_rows > 1:
            self._breaks = 0
            self._batches.halve(batch)
            self._back_off.reset()  # another batch, with its own retries and pauses
        elif batch is not None and self._breaks >= _BREAKS_OF_ONE_ROW:
            self._breaks = 0
            self._loader.recover()
            if self._reader.position == batch.start:  # otherwise it was committed, and only the answer was lost
                self._loader.reject(batch, reason)


def _came_fast(batch: Batch) -> bool:
    """Whether small frames should accumulate: each load delays those who put, even if it has few rows."""
    took_ns = batch.entries[-1].timestamp_ns - batch.first_time_ns
    return batch.frames >= _MANY_FRAMES and took_ns < batch.frames * _FAST_NS
