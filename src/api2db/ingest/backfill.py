"""The backfill of a collector beside its live polls: windows of its history, page by page, in the same journal.

A request is stored in the collector's state before it is answered, and its progress together with the rows. So a run
that is started again continues it.

A backfill runs in slices. A slice ends at the first page after a live poll has begun, and the next one begins when that
poll has ended. So a live poll never waits for the backfill, and finds at most one call of it under way. After a failure
the next slice waits, longer each time.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from api2db.backoff import BackOff
from api2db.errors import ConfigurationError, JournalBusyError
from api2db.ingest._clock import process_clock
from api2db.ingest._collector import Collector, polling_instead
from api2db.ingest._failure_log import FailureLog
from api2db.ingest._poll import Outcome, Poll, PollJournal
from api2db.ingest._state_parts import BackfillEnd, LiveEnd, Part, StateParts
from api2db.ingest.status import BackfillStatus, LiveStatus
from api2db.journal import Journal, journal_store
from api2db.texts import describe_error

FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 300.0
_JITTER_SHARE: Final = 0.5
_ASK: Final = "backfill"
_CANCEL: Final = "cancel_backfill"
_WINDOW: Final = ("begin", "end", "step")


class Backfill(Protocol):
    """An import function that polls history.

    It has its part of the state in ``state["backfill"]``: in ``of`` the arguments that it was made with, in ``done``
    the number of windows that it has got through. It removes the part at its end.
    """

    @property
    def total(self) -> int:
        """The number of all windows."""

    def __call__(self, state: dict[str, Any]) -> Iterator[Any]:
        """Poll what is left, and change the state before each page."""


@runtime_checkable
class Backfillable(Protocol):
    """An import function whose history can be polled, such as a resource of ``api2db.rest``."""

    def backfill(self, begin: str, end: str, step: str) -> Backfill:
        """Return the import function for the history.

        Raises:
            ConfigurationError: The history can't be polled with these arguments.
        """


class LiveBackfill:
    """The backfill of a collector that is polled in this process, if somebody asks for one.

    Args:
        collector: The collector.
        journal: Its journal.
        stopping: Set when the process ends.
        status: Where progress and errors are shown.
    """

    def __init__(self, collector: Collector, journal: Journal, stopping: threading.Event, status: LiveStatus) -> None:
        self._collector = collector
        self._journal = journal
        self._parts = StateParts(journal)
        self._stopping = stopping
        self._status = status
        self._is_polling = False
        self._lock = threading.Lock()
        self._is_live = False
        self._function: Backfill | None = None
        self._end: BackfillEnd | None = None
        self._slice: Poll | None = None
        self._back_off = _new_back_off()
        self._due_s = 0.0
        self._failure_log = _new_failure_log(collector)

    @property
    def live_journal(self) -> PollJournal:
        """The journal for live polls, which leave the backfill's part of the state alone."""
        return self._journal if _backfillable(self._collector) is None else LiveEnd(self._parts)

    def start(self, *, polling: bool) -> None:
        """Answer requests; continue an unfinished backfill if the collector is polled at its interval."""
        self._journal.on_request(_ASK, self._requested)
        self._journal.on_request(_CANCEL, self._cancelled)
        self._is_polling = polling
        part = self._parts.backfill if polling and _backfillable(self._collector) is not None else None
        if part is None:
            return
        try:
            self._set(self._function_of(part["of"]), part)
        except ConfigurationError as error:
            self._status.note(backfill=_status_of(part))
            self._status.change_backfill(error=str(error), error_at=time.time())
            self._failure_log.failed(str(error))

    def live_began(self) -> None:
        """Pause at the next page: a live poll begins."""
        with self._lock:
            self._is_live = True

    def live_ended(self) -> None:
        """Go on: the live poll has ended."""
        with self._lock:
            self._is_live = False
        self._go_on()

    def stop(self, timeout_s: float | None) -> None:
        """Wait for the slice that runs; it gets a few seconds at most. ``stopping`` is set."""
        process_clock().forget(self._go_on)
        with self._lock:
            found = self._slice
        if found is not None:
            found.stop()
            found.wait(timeout_s)

    def _function_of(self, window: Sequence[str]) -> Backfill:
        target, (begin, end, step) = _backfillable(self._collector), window
        if target is None:
            raise ConfigurationError(f"collector {self._collector.name} polls a function whose history can't be polled")
        return target.backfill(begin, end, step)

    def _set(self, function: Backfill, part: Part) -> None:
        end = BackfillEnd(self._parts, lambda kept: self._progressed(end, kept))
        with self._lock:
            self._function, self._end = function, end
            self._back_off, self._due_s = _new_back_off(), 0.0
        self._status.note(backfill=_status_of(part, function.total))

    def _go_on(self) -> None:
        """Start a slice if one is due. The clock calls this, so it must not wait."""
        with self._lock:
            function, end = self._function, self._end
            may = not (self._stopping.is_set() or self._is_live) and self._slice is None
            if function is None or end is None or not may or time.monotonic() < self._due_s:
                return
            collector = polling_instead(self._collector, _Slice(function, self._is_interrupted))
            found = Poll(collector, end, self._stopping, lambda outcome: self._slice_ended(end, outcome))
            self._slice = found
        found.start()

    def _is_interrupted(self) -> bool:
        return self._is_live or self._stopping.is_set()

    def _slice_ended(self, end: BackfillEnd, outcome: Outcome) -> None:
        self._status.note(rows=outcome.rows)
        self._status.note_figures(self._collector.import_target)
        with self._lock:
            self._slice = None
            is_current = end is self._end
            pause_s = self._back_off.failed() if outcome.error is not None and is_current else 0.0
            self._due_s = time.monotonic() + pause_s
        if is_current and not self._stopping.is_set():
            self._tell(outcome, pause_s)
        if pause_s and not self._stopping.is_set():
            process_clock().call_by(self._due_s, self._go_on)
        else:
            self._go_on()

    def _tell(self, outcome: Outcome, pause_s: float) -> None:
        if outcome.error is None:
            self._failure_log.went_well()
            self._status.change_backfill(error=None, error_at=None)
        else:
            error = describe_error(outcome.error)
            self._failure_log.failed(error)
            self._status.change_backfill(error=f"{error}; trying again in {pause_s:.0f} s", error_at=time.time())

    def _progressed(self, end: BackfillEnd, part: Part | None) -> None:
        """Record what was stored together with rows."""
        with self._lock:
            if end is not self._end:
                return
            self._back_off.reset()
            if part is None:
                self._function = self._end = None
        status = self._status.figures.backfill
        if part is not None:
            self._status.change_backfill(done=part["done"])
        elif status is not None:
            self._failure_log.went_well()
            self._status.change_backfill(done=status.total, ended="done", error=None, error_at=None)

    def _requested(self, arguments: Mapping[str, Any]) -> dict[str, int]:
        """Store a request, and start; one that is under way is tried at once. Commands call this."""
        self._check_polls()
        window = (arguments["begin"], arguments["end"], arguments["step"])
        function = self._function_of(window)
        part = self._parts.backfill
        if part is not None and tuple(part["of"]) != window:
            raise ConfigurationError(
                f"another backfill of {self._collector.name} is under way, from {part['of'][0]} to {part['of'][1]}; "
                f"wait for it, or end it: api2db backfill {self._collector.name} --cancel"
            )
        if part is None:
            part = {"of": list(window), "done": 0, "poll": {}}
            self._parts.set_backfill(part)
            self._set(function, part)
        with self._lock:
            self._due_s = 0.0
        self._status.publish()
        self._go_on()
        return {"done": part["done"], "total": function.total}

    def _cancelled(self, _: Mapping[str, Any]) -> list[str]:
        """Forget the backfill, and return what it was asked for. Commands call this."""
        self._check_polls()
        window = cancelled(self._collector.name, self._parts)
        with self._lock:
            if self._end is not None:
                self._end.cancel()
            self._function = self._end = None
        self._status.change_backfill(ended="cancelled", error=None, error_at=None)
        self._status.publish()
        return window

    def _check_polls(self) -> None:
        if not self._is_polling or self._stopping.is_set():
            raise JournalBusyError(
                f"the process that has the journal of {self._collector.name} polls once, or is about to end; try again "
                "in a moment"
            )


class _Slice:
    """The import function of a slice: it ends at the page after which it is interrupted."""

    def __init__(self, function: Backfill, is_interrupted: Callable[[], bool]) -> None:
        self._function = function
        self._is_interrupted = is_interrupted
        self.commits_each_page = getattr(function, "commits_each_page", False)

    def __call__(self, state: dict[str, Any]) -> Iterator[Any]:
        for page in self._function(state):
            yield page
            if self._is_interrupted():
                return


def ask_for_backfill(home: Path, name: str, window: tuple[str, str, str]) -> tuple[int, int]:
    """Ask the run that polls a collector for a backfill; return how many windows are done, and how many there are.

    Args:
        home: The project's folder.
        name: The collector's name.
        window: Where to begin and to end, and the length of a window.

    Raises:
        ConfigurationError: The history can't be polled with these arguments, or another backfill is under way.
        JournalBusyError: The run does not answer.
    """
    said = journal_store(home).request(name, _ASK, dict(zip(_WINDOW, window, strict=True)))
    return said["done"], said["total"]


def cancel_backfill(home: Path, name: str) -> tuple[str, str, str]:
    """End the backfill of a collector, with or without a run, and return its window; rows that it has loaded stay.

    Raises:
        ConfigurationError: None is under way.
        JournalBusyError: The run does not answer.
    """
    store = journal_store(home)
    if name not in store.names():
        raise _no_backfill(name)
    try:
        store.check_free(name)
        handle = store.open(name)
    except JournalBusyError:
        begin, end, step = store.request(name, _CANCEL, {})
    else:
        try:
            begin, end, step = cancelled(name, StateParts(handle.journal))
        finally:
            handle.release()
    return begin, end, step


def cancelled(name: str, parts: StateParts) -> list[str]:
    """Remove a backfill from the state, and return what it was asked for.

    Raises:
        ConfigurationError: There is none.
    """
    part = parts.backfill
    if part is None:
        raise _no_backfill(name)
    parts.set_backfill(None)
    window: list[str] = part["of"]
    return window


def _backfillable(collector: Collector) -> Backfillable | None:
    target: object = collector.import_target
    return target if isinstance(target, Backfillable) else None


def _status_of(part: Part, total: int = 0) -> BackfillStatus:
    begin, end, step = part["of"]
    return BackfillStatus(begin, end, step, part["done"], total)


def _no_backfill(name: str) -> ConfigurationError:
    return ConfigurationError(f"no backfill of {name} is under way")


def _new_back_off() -> BackOff:
    return BackOff(FIRST_PAUSE_S, _LONGEST_PAUSE_S, jitter_share=_JITTER_SHARE)


def _new_failure_log(collector: Collector) -> FailureLog:
    advice = f"it is tried again; to end it: api2db backfill {collector.name} --cancel"
    return FailureLog(f"the backfill of {collector.name}", advice)
