"""A collector at work in this process: its streams, its journal, its polls and its stores."""

import dataclasses
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from api2db.disk.folders import project_home
from api2db.errors import ConfigurationError, PollError
from api2db.ingest._collector import Collector, RunnableStream, check_each, hand_keys
from api2db.ingest._failure_log import FailureLog
from api2db.ingest._poll import Outcome, Poll
from api2db.ingest._preview import preview
from api2db.ingest._ticker import Ticker
from api2db.ingest.error_text import describe_error
from api2db.ingest.status import CollectorStatus, publish_status
from api2db.ingest.stores import StoreClock
from api2db.journal import JournalHandle, open_shared

logger = logging.getLogger("api2db.ingest")
_PUBLISH_S: Final = 1.0
_GRACE_S: Final = 3.0


class Runner:
    """Polls one collector in this process.

    ``start`` starts its streams before the first poll, so that they are given every frame. Use either ``start``, which
    polls at the collector's pace until ``stop``, or ``start(polling=False)`` and ``poll_once``.

    Args:
        collector: What to run.
    """

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.streams: list[RunnableStream] = []
        self.status = CollectorStatus(collector.name, os.getpid())
        self._stopping = threading.Event()
        self._handle: JournalHandle | None = None
        self._home: Path | None = None
        self._poll: Poll | None = None
        self._thread: threading.Thread | None = None
        self._stores: list[StoreClock] = []
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._published_s = 0.0
        self._dirty = True
        self._failure_log = FailureLog(f"the poll of {collector.name}", self._advice(again=True))

    def _advice(self, *, again: bool) -> str:
        when = f"is tried again in {self.collector.seconds:g} s" if again else "is not tried again in this run"
        return f"it {when}; if it goes on, mend its import_target or the API"

    @property
    def done(self) -> bool:
        """Whether nothing is left to do: it is disabled, or its one poll under debug has been shown."""
        return self._thread is None or not self._thread.is_alive()

    def start(self, *, polling: bool = True) -> None:
        """Start the streams, and poll at the collector's pace.

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
                self._open(stores=polling)
            except BaseException:
                self.stop(_GRACE_S)
                raise
        if polling:
            work = self._debug if self.collector.debug else self._loop
            self._thread = threading.Thread(target=work, name=f"api2db-collector-{self.collector.name}", daemon=True)
            self._thread.start()

    def poll_once(self) -> None:
        """Poll now, and journal what comes; does nothing where the collector is disabled.

        Raises:
            PollError: The poll failed; what came before that is journalled.
        """
        if self.collector.seconds == 0:
            return
        error = self._preview_error() if self.collector.debug else self._one_poll(lambda: None).error
        self._publish(now=True)
        if error is not None:
            raise PollError(f"the poll of {self.collector.name} failed: {describe_error(error)}") from error

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything journalled so far is in every target; False after the timeout."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        flushed = [stream.flush(_left(deadline_s)) for stream in self.streams]
        return all(flushed)

    def stop_polling(self, timeout_s: float | None = 0) -> None:
        """Begin no poll any more, and wait for one that runs; it is given a few seconds at most."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def stop(self, timeout_s: float | None = None) -> None:
        """End polls and stores, then the streams; what is not delivered by then stays in the journal."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        self.stop_polling(_left(deadline_s))
        for store in self._stores:
            store.stop(_left(deadline_s))
        for stream in self.streams:
            stream.stop(_left(deadline_s))
        self._publish(now=True)
        if self._handle is not None:
            self._handle.release()
            self._handle = None

    def _open(self, *, stores: bool) -> None:
        name = self.collector.name
        streams: list[RunnableStream] = resolved(name, "streams", self.collector.streams)
        if not streams:
            raise ConfigurationError(f"collector {name} has no streams: give it one, or debug=True to look at its rows")
        home = home_of(self.collector, streams)
        hand_keys(self.collector, streams)
        for stream in streams:
            stream.start()
            self.streams.append(stream)
        self._handle = open_shared(home, name, streams[0].durability)
        self._home = home
        if stores and self.collector.stores is not None:
            found = resolved(name, "stores", self.collector.stores)
            self._stores = [StoreClock(name, store, self._stopping, self._store_failed) for store in found]

    def _loop(self) -> None:
        ticker = Ticker(self.collector.seconds)
        while not self._stopping.is_set():
            try:
                self._tick(ticker)
            except Exception as error:  # noqa: BLE001 - the edge of a worker's loop: recorded, and tried again
                self._record(Outcome(0, error))
            self._wait_for_tick(ticker)

    def _tick(self, ticker: Ticker) -> None:
        if self._poll is not None and self._poll.alive:
            self._note(late=1)
        else:
            self._one_poll(lambda: self._count_late(ticker))

    def _wait_for_tick(self, ticker: Ticker) -> None:
        while not self._stopping.wait(min(ticker.remaining_s(), _PUBLISH_S) if self._dirty else ticker.remaining_s()):
            self._publish()
            if ticker.passed():
                return

    def _one_poll(self, on_wake: Callable[[], None]) -> Outcome:
        if self._handle is None:
            raise ConfigurationError(f"collector {self.collector.name} is not started")
        self._note(polls=1, polled_at=time.time())
        self._poll = Poll(self.collector, self._handle.journal, self._stopping)
        outcome = self._poll.finish(on_wake, _GRACE_S)
        self._record(outcome)
        return outcome

    def _count_late(self, ticker: Ticker) -> None:
        if passed := ticker.passed():
            self._note(late=passed)
        self._publish()

    def _record(self, outcome: Outcome) -> None:
        figures = getattr(self.collector.import_target, "figures", None)
        if dataclasses.is_dataclass(figures) and not isinstance(figures, type):
            self._note(figures=dataclasses.asdict(figures))
        if outcome.error is None:
            self._note(rows=outcome.rows, last_error=None, error_at=None)
            self._failure_log.went_well()
        else:
            said = describe_error(outcome.error)
            self._note(rows=outcome.rows, failed=1, last_error=said, error_at=time.time())
            self._failure_log.failed(said)

    def _debug(self) -> None:
        if (error := self._preview_error()) is not None:
            self._failure_log.failed(describe_error(error))

    def _preview_error(self) -> BaseException | None:
        try:
            self._note(polls=1, rows=preview(self.collector))
        except Exception as error:  # noqa: BLE001 - the caller tells of it
            self._note(failed=1, last_error=describe_error(error), error_at=time.time())
            return error
        return None

    def _store_failed(self) -> None:
        self._note(stores_failed=1)
        self._publish(now=True)  # the thread that polls may wait for hours

    def _note(self, **figures: Any) -> None:
        """Add counts, and set what is no count."""
        with self._lock:
            counted = {
                key: getattr(self.status, key) + value if isinstance(value, int) else value
                for key, value in figures.items()
            }
            self.status = dataclasses.replace(self.status, **counted)
            self._dirty = True

    def _publish(self, *, now: bool = False) -> None:
        """Leave word for ``api2db status``, at most once a second."""
        with self._publishing:
            due = self._dirty and (now or time.monotonic() - self._published_s >= _PUBLISH_S)
            if not due or self._home is None:
                return
            self._published_s, self._dirty = time.monotonic(), False
            try:
                publish_status(self._home, self.status)
            except OSError as error:
                logger.debug("the figures of %s can't be written: %s", self.collector.name, error)


def home_of(collector: Collector, streams: Sequence[RunnableStream]) -> Path:
    """The project's folder, which a collector and its streams must agree on, as on their durability.

    Raises:
        ConfigurationError: They don't.
    """
    homes = {stream.home.resolve() for stream in streams}
    if collector.home is not None or not homes:
        homes.add(project_home(collector.home).resolve())
    if len(homes) > 1:
        raise ConfigurationError(
            f"collector {collector.name} and its streams have different homes: {', '.join(sorted(map(str, homes)))}"
        )
    if len({stream.durability for stream in streams}) > 1:
        raise ConfigurationError(f"give all streams of collector {collector.name} the same durability")
    return homes.pop()


def resolved(name: str, kind: str, given: Any) -> list[Any]:
    """The streams or stores of a collector, from a list or from the callable that gives it.

    Raises:
        ConfigurationError: They can't be used.
    """
    found = given() if callable(given) else given
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        raise ConfigurationError(f"the callable for {kind} of collector {name} gave a {type(found).__name__}, no list")
    check_each(name, kind, found)
    return list(found)


def _left(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
