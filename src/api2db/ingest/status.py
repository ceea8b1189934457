"""The figures of a collector, as ``api2db status`` shows them."""

import logging
import math
import os
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from api2db.ingest._clock import process_clock
from api2db.ingest._threads import process_threads
from api2db.journal import journal_store

logger = logging.getLogger("api2db.ingest")
_PUBLISH_S: Final = 1.0


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


class LiveStatus:
    """The figures of a running collector, published at most once a second while they change.

    Args:
        name: The collector's name.
    """

    def __init__(self, name: str) -> None:
        self.figures = CollectorStatus(name, os.getpid())
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
        if self._home is not None:
            process_clock().call_by(self._published_s + _PUBLISH_S, self._publish_soon)

    def publish(self) -> None:
        """Publish now, if they have changed."""
        with self._publishing:
            process_clock().forget(self._publish_soon)
            with self._lock:
                figures, is_published, self._is_published = self.figures, self._is_published, True
            if is_published or self._home is None:
                return
            self._published_s = time.monotonic()
            try:
                publish_status(self._home, figures)
            except OSError as error:
                logger.debug("the figures of %s can't be written: %s", figures.name, error)

    def _publish_soon(self) -> None:
        """Publish in a thread. The clock calls this."""
        process_threads().run(f"api2db-status-{self.figures.name}", self.publish)


def publish_status(home: Path, status: CollectorStatus) -> None:
    """Write the figures beside the collector's journal.

    Raises:
        OSError: They can't be written.
    """
    journal_store(home).publish(status.name, {"at": time.time(), **asdict(status)})


def read_status(home: Path, name: str) -> CollectorStatus | None:
    """Return the last published figures of a collector, or None if it has published none."""
    said = journal_store(home).published(name)
    try:
        return CollectorStatus(**{key: value for key, value in said.items() if key != "at"}) if said else None
    except TypeError:
        return None
