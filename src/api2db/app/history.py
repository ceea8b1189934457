"""The figures of the last 24 hours, in a file of bounded size, so that curves survive a restart.

The file is a SQLite database with two rings for each stream: one sample every 5 seconds for 15 minutes, and one every
5 minutes for 24 hours. A sample replaces the one that is a whole ring older. SQLite is used and not a file of fixed
records because its transactions leave no torn sample behind, and because any process may read while one writes. A
stream takes about 40 kB; one that is gone is removed after 24 hours. Nothing depends on the file: if it is damaged, a
new one replaces it.
"""

import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Final, NamedTuple

from api2db.app.figures import CollectorFigures
from api2db.disk.atomic import FILE_MODE, make_folders

logger = logging.getLogger("api2db.app")
_NAME: Final = "history.sqlite"
_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS samples (
        collector TEXT, stream TEXT, ring INTEGER, slot INTEGER,
        at REAL, delivered INTEGER, waiting INTEGER, bytes INTEGER, rejected INTEGER, lag_s REAL,
        PRIMARY KEY (collector, stream, ring, slot)
    ) WITHOUT ROWID
"""


class Ring(NamedTuple):
    """Samples at a fixed distance, the oldest of which is replaced.

    Attributes:
        step_s: The time between two samples, seconds.
        slots: The number of samples.
    """

    step_s: int
    slots: int


MINUTES: Final = Ring(5, 180)
HOURS: Final = Ring(300, 288)
RINGS: Final = (MINUTES, HOURS)


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of a stream at one moment.

    Attributes:
        at: Seconds since 1970.
        delivered: Rows delivered since the stream was registered.
        waiting: Rows that wait.
        bytes: Their size in the journal.
        rejected: Rows that are set aside.
        lag_s: The age of the oldest waiting frame, seconds.
    """

    at: float
    delivered: int
    waiting: int
    bytes: int
    rejected: int
    lag_s: float


class History:
    """The history of a project.

    Args:
        home: The project's folder; the file is in its ``CACHE``.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / "CACHE" / _NAME
        self._slots: dict[tuple[str, str, Ring], int] = {}

    def add(self, collectors: Sequence[CollectorFigures], now_s: float | None = None) -> None:
        """Add a sample of each stream to each ring whose slot is not yet taken; does nothing on a disk that refuses."""
        now_s = time.time() if now_s is None else now_s
        rows = list(self._rows(collectors, now_s))
        if not rows:
            return
        try:
            with self._open() as connection:
                connection.executemany("INSERT OR REPLACE INTO samples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                if any(row[2] == HOURS.step_s for row in rows):
                    connection.execute("DELETE FROM samples WHERE at < ?", (now_s - HOURS.step_s * HOURS.slots,))
        except sqlite3.OperationalError as error:  # a full or read-only disk, or a lock: the next sample tries again
            logger.debug("no sample of the figures was kept: %s", error)
        except sqlite3.DatabaseError as error:
            logger.warning("the history of the figures is damaged (%s); a new one begins", error)
            self._delete()

    def read(self, ring: Ring, now_s: float | None = None) -> dict[tuple[str, str], list[Sample]]:
        """Return the samples of each stream, by collector and identity, oldest first."""
        if not self._path.exists():
            return {}
        begin_s = (time.time() if now_s is None else now_s) - ring.step_s * ring.slots
        found: dict[tuple[str, str], list[Sample]] = {}
        try:
            with self._open() as connection:
                query = """
                    SELECT collector, stream, at, delivered, waiting, bytes, rejected, lag_s FROM samples
                    WHERE ring = ? AND at > ? ORDER BY at
                """
                for collector, stream, *figures in connection.execute(query, (ring.step_s, begin_s)):
                    found.setdefault((collector, stream), []).append(Sample(*figures))
        except sqlite3.DatabaseError as error:
            logger.debug("the history of the figures can't be read: %s", error)
        return found

    def _rows(self, collectors: Sequence[CollectorFigures], now_s: float) -> Iterator[tuple[object, ...]]:
        for ring in RINGS:
            slot = int(now_s // ring.step_s)
            for collector in collectors:
                for stream in collector.streams:
                    key = (collector.name, stream.identity, ring)
                    if self._slots.get(key) == slot:
                        continue
                    self._slots[key] = slot
                    sample = Sample(
                        now_s,
                        stream.rows_delivered,
                        stream.rows_waiting,
                        stream.bytes_waiting,
                        stream.rows_rejected,
                        stream.lag_s,
                    )
                    yield (collector.name, stream.identity, ring.step_s, slot % ring.slots, *astuple(sample))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        make_folders(self._path.parent)
        self._path.touch(FILE_MODE)
        connection = sqlite3.connect(self._path, timeout=1)
        try:
            connection.execute("PRAGMA synchronous = OFF")  # a power cut may cost the history, and nothing else
            with connection:
                connection.execute(_SCHEMA)
                yield connection
        finally:
            connection.close()

    def _delete(self) -> None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                self._path.with_name(f"{_NAME}{suffix}").unlink(missing_ok=True)
        self._slots.clear()
