"""What a collector has done so far, and the file that says so to ``api2db status``."""

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from api2db.disk.atomic import FILE_MODE
from api2db.journal import journal_folder

_STATUS_NAME = "collector.json"


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
    stores_failed: int = 0
    figures: dict[str, float] | None = None


def publish_status(home: Path, status: CollectorStatus) -> None:
    """Leave the figures beside the journal; a reader sees the old or the new ones, whole."""
    path = journal_folder(home, status.name) / _STATUS_NAME
    temporary = path.with_name(f".{_STATUS_NAME}.tmp")
    with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
        json.dump({"at": time.time(), **asdict(status)}, file)
    temporary.replace(path)


def read_status(home: Path, name: str) -> CollectorStatus | None:
    """Give what a collector said last; None where it never did."""
    try:
        said = json.loads((journal_folder(home, name) / _STATUS_NAME).read_text(encoding="utf-8"))
        said.pop("at")
        return CollectorStatus(**said)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
