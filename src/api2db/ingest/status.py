"""What a collector has done so far, as it says so to ``api2db status``."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from api2db.journal import journal_store


@dataclass(frozen=True, slots=True)
class CollectorStatus:
    """Figures since the process that polls was started.

    Attributes:
        pid: The process that polls, or polled last.
        polls: Begun so far, failed ones among them.
        late: Ticks that came while a poll was still running.
        failed: Polls that raised, took too long, or gave what is no frame.
        rows: Journalled so far.
        last_error: What the last poll said; None where it went well.
        error_at: When that was, seconds since 1970.
        polled_at: When the last poll began, seconds since 1970.
        stores_failed: Runs of stores that raised.
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
    stores_failed: int = 0


def publish_status(home: Path, status: CollectorStatus) -> None:
    """Leave the figures with the collector's journal.

    Raises:
        OSError: They can't be written.
    """
    journal_store(home).publish(status.name, {"at": time.time(), **asdict(status)})


def read_status(home: Path, name: str) -> CollectorStatus | None:
    """Give what a collector said last; None where it never did."""
    said = journal_store(home).published(name)
    try:
        return CollectorStatus(**{key: value for key, value in said.items() if key != "at"}) if said else None
    except TypeError:
        return None
