"""The figures of a collector, as ``api2db status`` shows them."""

import dataclasses
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from api2db import hypertext
from api2db.ingest._clock import process_clock
from api2db.ingest._threads import InTurn
from api2db.journal import journal_store

logger = logging.getLogger("api2db.ingest")
_PUBLISH_S: Final = 1.0
_TOGETHER_S: Final = 0.05  # figures wait so long for those that come with them: a quick poll ends meanwhile
_RECENT_POLLS: Final = 200
_POLLS: Final = "recent_polls"


@dataclass(frozen=True, slots=True)
class BackfillStatus:
    """The last backfill of a collector since its process was started.

    Attributes:
        begin: Where it begins, as it was asked for.
        end: Where it ends.
        step: The length of a window.
        done: The windows that are in the journal.
        total: All windows; 0 if that is not known.
        ended: How it has ended; None while it is under way.
        error: What its last call said; None where it went well.
        error_at: When that was, seconds since 1970.
    """

    begin: str
    end: str
    step: str
    done: int = 0
    total: int = 0
    ended: Literal["done", "cancelled"] | None = None
    error: str | None = None
    error_at: float | None = None


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """Figures since the process that polls was started.

    Attributes:
        pid: The process that polls, or polled last.
        polls: Polls started so far, including failed ones.
        late: Ticks that came while a poll was still running.
        failed: Polls that raised, took too long, or gave what is no frame.
        rows: Journalled so far.
        last_error: What the last poll said; None where it went well.
        error_at: When that was, seconds since 1970.
        polled_at: When the last poll began, seconds since 1970.
        next_poll_at: When the next poll begins, seconds since 1970, if that is later than the collector's interval says
            because many polls in a row have failed; None otherwise.
        stores_failed: Runs of stores that raised.
        figures: What the import function counts itself, as a resource of api2db.rest does; None where it does not.
        interval_s: The collector's interval, seconds.
        failed_in_row: The polls that have failed since the last one that succeeded.
        backfill: The last backfill; None if there was none.
    """

    name: str
    pid: int
    polls: int = 0
    late: int = 0
    failed: int = 0
    rows: int = 0
    last_error: str | None = None
    error_at: float | None = None
    polled_at: float | None = None
    next_poll_at: float | None = None
    stores_failed: int = 0
    figures: dict[str, float] | None = None
    backfill: BackfillStatus | None = None
    interval_s: float = 0.0
    failing_since: float | None = None
    failed_in_row: int = 0

    def _repr_html_(self) -> str:
        return hypertext.area(hypertext.title(f"Collector {self.name}"), hypertext.facts(facts_of(self)))


@dataclass(frozen=True, slots=True)
class PollRecord:
    """A poll that has ended.

    Attributes:
        at: When it began, seconds since 1970.
        seconds: How long it took.
        rows: Journalled.
        late: Ticks that came while it ran.
        error: Why it failed; None if it went well.
    """

    at: float
    seconds: float
    rows: int
    late: int = 0
    error: str | None = None


def facts_of(status: CollectorStatus) -> dict[str, object]:
    """Return the figures of a status by their names for people; rare ones only if they say something."""
    at, next_at = status.polled_at, status.next_poll_at
    rare = {
        "polls that failed": status.failed,
        "polls that were late": status.late,
        "rounds of stores that failed": status.stores_failed,
        "last error": status.last_error,
        "next poll, after many failures": next_at and _clock_time(next_at),
    }
    return {
        "process": str(status.pid),
        "polls begun": status.polls,
        "last poll": "none yet" if at is None else _clock_time(at),
        "rows journalled": status.rows,
        **{name: value for name, value in rare.items() if value},
    }


def _clock_time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


class LiveStatus:
    """The figures of a running collector, published at most once a second while they change.

    Args:
        name: The collector's name.
        interval_s: The collector's interval, seconds.
    """

    def __init__(self, name: str, interval_s: float = 0.0) -> None:
        self.figures = CollectorStatus(name, os.getpid(), interval_s=interval_s)
        self._polls: deque[PollRecord] = deque(maxlen=_RECENT_POLLS)
        self._late_before = 0
        self._home: Path | None = None
        self._lock = threading.Lock()
        self._publishing = threading.Lock()
        self._published_s = -math.inf
        self._is_published = False

    def publish_in(self, home: Path) -> None:
        """Publish in this project from now on."""
        self._home = home

    def note(self, **figures: Any) -> None:
        """Add counts, and set the other figures."""
        with self._lock:
            counted = {
                key: getattr(self.figures, key) + value if isinstance(value, int) else value
                for key, value in figures.items()
            }
            self.figures = replace(self.figures, **counted)
            self._is_published = False
        self._call_to_publish()

    def note_figures(self, import_target: object) -> None:
        """Set what an import function counts itself."""
        figures = getattr(import_target, "figures", None)
        if dataclasses.is_dataclass(figures) and not isinstance(figures, type):
            self.note(figures=asdict(figures))

    def change_backfill(self, **figures: Any) -> None:
        """Set figures of the last backfill, if there was one."""
        with self._lock:
            if self.figures.backfill is None:
                return
            self.figures = replace(self.figures, backfill=replace(self.figures.backfill, **figures))
            self._is_published = False
        self._call_to_publish()

    def _call_to_publish(self) -> None:
        if self._home is not None:
            due_s = self._published_s + _PUBLISH_S
            if self._published_s > -math.inf:  # the very first figures say that there is such a collector
                due_s = max(due_s, time.monotonic() + _TOGETHER_S)
            process_clock().call_by(due_s, self._publish_soon)

    def poll_ended(self, rows: int, error: str | None, next_poll_at: float | None = None) -> None:
        """Record the end of the poll that began last, and when the next one begins if that is delayed."""
        now_s, begun = time.time(), self.figures.polled_at
        with self._lock:
            late, self._late_before = self.figures.late - self._late_before, self.figures.late
            at = now_s if begun is None else begun
            self._polls.append(PollRecord(at, max(0.0, now_s - at), rows, late, error))
        failing_since = (self.figures.failing_since or at) if error else None
        self.note(
            rows=rows,
            failed=int(error is not None),
            failed_in_row=-self.figures.failed_in_row if error is None else 1,
            last_error=error,
            error_at=None if error is None else now_s,
            next_poll_at=next_poll_at,
            failing_since=failing_since,
        )

    def publish(self) -> None:
        """Publish now, if they have changed; a forked child leaves that to its parent."""
        if os.getpid() != self.figures.pid:
            return  # the lock may have been held when the process was forked, and would never be released
        with self._publishing:
            process_clock().forget(self._publish_soon)
            with self._lock:
                figures, is_published, self._is_published = self.figures, self._is_published, True
                polls = list(self._polls)
            if is_published or self._home is None:
                return
            self._published_s = time.monotonic()
            try:
                publish_status(self._home, figures, polls)
            except OSError as error:
                logger.debug("the figures of %s can't be written: %s", figures.name, error)

    def _publish_soon(self) -> None:
        """Publish in a thread. The clock calls this."""
        _publishing().run(self.publish)


_publishings: dict[int, InTurn] = {}


def _publishing() -> InTurn:
    """What publishes the figures of all collectors of this process; a forked child has its own."""
    return _publishings.setdefault(os.getpid(), InTurn("api2db-status"))


def publish_status(home: Path, status: CollectorStatus, polls: Sequence[PollRecord] = ()) -> None:
    """Write the figures and the last polls beside the collector's journal.

    Raises:
        OSError: They can't be written.
    """
    figures = {"at": time.time(), **asdict(status), _POLLS: [astuple(poll) for poll in polls]}
    journal_store(home).publish(status.name, figures)


def read_status(home: Path, name: str) -> CollectorStatus | None:
    """Return the last published figures of a collector, or None if it has published none."""
    said = journal_store(home).published(name)
    if not said:
        return None
    try:
        backfill = BackfillStatus(**said["backfill"]) if said.get("backfill") else None
        figures = {key: value for key, value in said.items() if key not in {"at", _POLLS}}
        return CollectorStatus(**{**figures, "backfill": backfill})
    except TypeError:
        return None


def read_polls(home: Path, name: str) -> list[PollRecord]:
    """Return the last polls of a collector, oldest first: at most 200, since its process was started."""
    said = journal_store(home).published(name) or {}
    try:
        return [PollRecord(*poll) for poll in said.get(_POLLS, ())]
    except TypeError:
        return []
