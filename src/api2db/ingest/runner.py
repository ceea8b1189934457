"""The runner of a collector in this process: its streams, its journal, its polls and its stores."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

from api2db.errors import ConfigurationError, PollError
from api2db.ingest._clock import Ticker, process_clock
from api2db.ingest._collector import Collector, RunnableStream, check_each, hand_cursor_column, hand_keys, home_of
from api2db.ingest._failure_log import FailureLog
from api2db.ingest._poll import Outcome, Poll
from api2db.ingest._preview import Preview
from api2db.ingest._slowdown import Slowdown
from api2db.ingest.backfill import LiveBackfill
from api2db.ingest.status import CollectorStatus, LiveStatus
from api2db.ingest.stores import StoreRounds
from api2db.journal import JournalHandle, journal_store
from api2db.texts import describe_error

_STOP_S: Final = 3.0


class Runner:
    """Polls one collector in this process.

    ``start`` starts its streams before the first poll, so that they get every frame. Use either ``start``, which polls
    at the collector's interval until ``stop``, or ``start(polling=False)`` and ``poll_once``.

    A collector that fails five times in a row is polled more rarely until a poll succeeds.

    It has no thread of its own: the process's clock starts its polls, and each has a thread while it runs.

    Args:
        collector: What to run.
    """

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.streams: list[RunnableStream] = []
        self._status = LiveStatus(collector.name, collector.seconds)
        self._stopping = threading.Event()
        self._handle: JournalHandle | None = None
        self._ticker: Ticker | None = None
        self._poll: Poll | Preview | None = None
        self._backfill: LiveBackfill | None = None
        self._stores: list[StoreRounds] = []
        self._slowdown = Slowdown(collector.seconds)
        self._lock = threading.Lock()
        self._failure_log = FailureLog(f"the poll of {collector.name}", self._advice(again=True))

    def _advice(self, *, again: bool) -> str:
        when = f"is tried again in {self.collector.seconds:g} s" if again else "is not tried again in this run"
        return f"it {when}; if this continues, fix its import_target or the API"

    @property
    def status(self) -> CollectorStatus:
        """The figures so far."""
        return self._status.figures

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do: it is disabled, or its one poll under debug has been shown."""
        with self._lock:
            will_poll = self._ticker is not None and not self._stopping.is_set()
            return not will_poll and (self._poll is None or self._poll.wait(0))

    def start(self, *, polling: bool = True) -> None:
        """Start the streams, and poll at the collector's interval.

        Raises:
            ConfigurationError: The streams or stores can't be used together.
            JournalBusyError: Another process runs this collector.
        """
        if self.collector.seconds == 0:
            return
        advice = self._advice(again=polling and not self.collector.debug)
        self._failure_log = FailureLog(f"the poll of {self.collector.name}", advice)
        if not self.collector.debug:
            try:
                self._open(polling=polling)
            except BaseException:  # the streams that were started must not go on
                self.stop(_STOP_S)
                raise
        if polling:
            self._start_polling()

    def poll_once(self) -> None:
        """Poll now and journal the rows; do nothing if the collector is disabled.

        Raises:
            PollError: The poll failed; rows that came before the error are journalled.
        """
        self.begin_poll().result()

    def begin_poll(self) -> "Future[None]":
        """Start a ``poll_once``, and return its future result."""
        result: Future[None] = Future()
        if self.collector.seconds == 0:
            result.set_result(None)
            return result

        def ended(outcome: Outcome) -> None:
            self._record(outcome)
            self._status.publish()
            if outcome.error is None:
                result.set_result(None)
                return
            error = PollError(f"the poll of {self.collector.name} failed: {describe_error(outcome.error)}")
            error.__cause__ = outcome.error
            result.set_exception(error)

        with self._lock:
            self._begin(ended)
        return result

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything journalled so far is in every target; return False after the timeout."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        flushed = [stream.flush(_left(deadline_s)) for stream in self.streams]
        return all(flushed)

    def stop_polling(self, timeout_s: float | None = 0) -> None:
        """Start no more polls, and wait for a poll that runs; it gets a few seconds at most."""
        with self._lock:
            self._stopping.set()
            process_clock().forget(self._tick)
            poll = self._poll
        if poll is not None:
            poll.stop()
            poll.wait(timeout_s)
        if self._backfill is not None:
            self._backfill.stop(timeout_s)

    def stop(self, timeout_s: float | None = None) -> None:
        """Stop polls and stores, then the streams; what is not delivered by then stays in the journal.

        After an error, too, everything is stopped and the journal is released.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s

        def stop(part: RunnableStream | StoreRounds) -> None:
            part.stop(_left(deadline_s))

        with ExitStack() as stack:  # its last part is the first to be called
            stack.callback(self._release)
            stack.callback(self._status.publish)
            for stream in reversed(self.streams):
                stack.callback(stop, stream)
            if self.status.pid == os.getpid():  # a forked child has no poll and no round of its parent
                for store in reversed(self._stores):
                    stack.callback(stop, store)
                self.stop_polling(_left(deadline_s))

    def _release(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.release()

    def _open(self, *, polling: bool) -> None:
        name = self.collector.name
        streams: list[RunnableStream] = resolved(name, "streams", self.collector.streams)
        if not streams:
            raise ConfigurationError(f"collector {name} has no streams: give it one, or debug=True to look at its rows")
        home = home_of(self.collector, streams)
        hand_keys(self.collector, streams)
        hand_cursor_column(self.collector, streams)
        for stream in streams:
            try:
                stream.start()
            except BaseException:  # it may have opened the journal
                stream.stop(_STOP_S)
                raise
            self.streams.append(stream)
        self._handle = journal_store(home).open(name, streams[0].durability)
        self._status.publish_in(home)
        self._backfill = LiveBackfill(self.collector, self._handle.journal, self._stopping, self._status)
        self._backfill.start(polling=polling)
        if polling and self.collector.stores is not None:
            found = resolved(name, "stores", self.collector.stores)
            failed = partial(self._status.note, stores_failed=1)
            self._stores = [StoreRounds(name, store, self._stopping, failed) for store in found]

    def _start_polling(self) -> None:
        with self._lock:
            if not self.collector.debug:
                self._ticker = Ticker(self.collector.seconds)
                process_clock().call_by(self._ticker.next_s, self._tick)
            self._begin(self._record)

    def _tick(self) -> None:
        """Start a poll, or count the ticks that come while one runs. The clock calls this."""
        with self._lock:
            if self._ticker is None or self._stopping.is_set():
                return
            passed, tick_s = self._ticker.passed(), time.monotonic()
            process_clock().call_by(self._ticker.next_s, self._tick)
            if self._poll is not None and self._poll.is_under_way:
                self._status.note(late=passed)
            elif passed and not self._slowdown.holds(tick_s):
                self._begin(self._record)

    def _begin(self, on_end: Callable[[Outcome], None]) -> None:
        """Start a poll; called with the lock held."""
        if self.collector.debug:
            self._poll = Preview(self.collector, on_end)
        elif self._backfill is not None:
            self._backfill.live_began()
            self._poll = Poll(self.collector, self._backfill.live_journal, self._stopping, on_end)
        else:
            raise ConfigurationError(f"collector {self.collector.name} is not started")
        self._status.note(polls=1, polled_at=time.time())
        self._poll.start()

    def _record(self, outcome: Outcome) -> None:
        self._status.note_figures(self.collector.import_target)
        said = None if outcome.error is None else describe_error(outcome.error)
        if said is None:
            self._slowdown.succeeded()
            self._status.poll_ended(outcome.rows, None)
            self._failure_log.went_well()
        else:
            self._slowdown.failed()
            self._status.poll_ended(outcome.rows, said, self._delayed_until())
            self._failure_log.failed(said)
        if self._backfill is not None:
            self._backfill.live_ended()

    def _delayed_until(self) -> float | None:
        """When the next poll begins, if that is later than the next tick."""
        if self._ticker is None:
            return None
        tick_s = self._slowdown.next_tick_s(self._ticker.next_s)
        return None if tick_s is None else time.time() + tick_s - time.monotonic()


def resolved(name: str, kind: str, given: Any) -> list[Any]:
    """Return the streams or stores of a collector, from a list or from the callable that returns one.

    Raises:
        ConfigurationError: They can't be used.
    """
    found = given() if callable(given) else given
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        raise ConfigurationError(
            f"the callable for {kind} of collector {name} returned a {type(found).__name__}; return a list"
        )
    check_each(name, kind, found)
    return list(found)


def _left(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
