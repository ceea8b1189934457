"""Everything of a journal that is not payload: positions, notes, counters, in one small SQLite file."""

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api2db.errors import JournalWriteError
from api2db.journal.port import Delivered, Note, NoteKind, Position

STATE_NAME = "state.sqlite"
_log = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS epochs (epoch TEXT PRIMARY KEY, counter INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments (number INTEGER PRIMARY KEY, summary TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS notes (lane INTEGER, kind TEXT, body TEXT NOT NULL, PRIMARY KEY (lane, kind));
CREATE TABLE IF NOT EXISTS streams (
    lane INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    identity TEXT NOT NULL UNIQUE,
    stream_type TEXT NOT NULL,
    quota_bytes INTEGER,
    sequence INTEGER NOT NULL,
    skip INTEGER NOT NULL DEFAULT 0,
    frames INTEGER NOT NULL DEFAULT 0,
    rows INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    rejected_bytes INTEGER NOT NULL DEFAULT 0,
    superseded INTEGER NOT NULL DEFAULT 0,
    duplicates INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    error_at REAL
);
"""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A registered stream as the state file has it."""

    lane: int
    key: str
    identity: str
    stream_type: str
    quota_bytes: int | None
    position: Position
    delivered: Delivered
    error: str | None
    error_at: float | None


class State:
    """The state file, open for its owner.

    Raises:
        sqlite3.DatabaseError: The file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(folder / STATE_NAME, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except sqlite3.DatabaseError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        if self._connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check found damage")
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """One transaction; where it need not survive a power cut it costs no fsync (and is never torn)."""
        with self._lock:
            try:
                self._connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                message = f"the journal's state file can't be written ({error}); free disk space or mend the disk"
                raise JournalWriteError(message) from error
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def meta(self, key: str) -> Any:
        """A value that was kept under a name, or None."""
        with self._lock:
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def keep_meta(self, values: Mapping[str, Any]) -> None:
        """Keep values under their names; durable."""
        with self._transaction(durable=True) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value)) for key, value in values.items()]
            )

    def add_epochs(self, epochs: Mapping[str, int]) -> None:
        """Remember openings of the journal; durable."""
        with self._transaction(durable=True) as connection:
            connection.executemany("INSERT OR IGNORE INTO epochs VALUES (?, ?)", epochs.items())

    def epochs(self) -> dict[str, int]:
        """All openings: epoch and counter."""
        with self._lock:
            return dict(self._connection.execute("SELECT epoch, counter FROM epochs"))

    def streams(self) -> list[StreamRow]:
        """All registered streams."""
        with self._lock:
            return read_streams(self._connection)

    def add_stream(self, row: StreamRow) -> None:
        """Register a stream; durable."""
        values = (row.lane, row.key, row.identity, row.stream_type, row.quota_bytes, *row.position)
        with self._transaction(durable=True) as connection:
            connection.execute(
                "INSERT INTO streams (lane, key, identity, stream_type, quota_bytes, sequence, skip)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )

    def set_quota(self, lane: int, quota_bytes: int | None) -> None:
        """Take over the quota that a stream was started with."""
        with self._transaction(durable=True) as connection:
            connection.execute("UPDATE streams SET quota_bytes = ? WHERE lane = ?", (quota_bytes, lane))

    def drop_stream(self, lane: int) -> None:
        """Forget a stream and its notes; durable."""
        with self._transaction(durable=True) as connection:
            connection.execute("DELETE FROM streams WHERE lane = ?", (lane,))
            connection.execute("DELETE FROM notes WHERE lane = ?", (lane,))

    def move(
        self, lane: int, position: Position, delivered: Delivered, clear: Collection[NoteKind], *, durable: bool
    ) -> None:
        """A new position, what was delivered on the way, and notes that are settled by it."""
        with self._transaction(durable=durable) as connection:
            connection.execute(
                "UPDATE streams SET sequence = ?, skip = ?, frames = frames + ?, rows = rows + ?,"
                " rejected = rejected + ?, rejected_bytes = rejected_bytes + ?, superseded = superseded + ?,"
                " duplicates = duplicates + ? WHERE lane = ?",
                (
                    *position,
                    delivered.frames,
                    delivered.rows,
                    delivered.rejected,
                    delivered.rejected_bytes,
                    delivered.superseded,
                    delivered.duplicates,
                    lane,
                ),
            )
            connection.executemany("DELETE FROM notes WHERE lane = ? AND kind = ?", [(lane, kind) for kind in clear])

    def settle(self, positions: Mapping[int, Position], meta: Mapping[str, Any]) -> None:
        """Make positions and values durable before the segments that they free are unlinked."""
        with self._transaction(durable=True) as connection:
            connection.executemany(
                "UPDATE streams SET sequence = ?, skip = ? WHERE lane = ?",
                [(*position, lane) for lane, position in positions.items()],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, json.dumps(value)) for key, value in meta.items()]
            )

    def note(self, lane: int, kind: NoteKind) -> Note | None:
        """A note of a stream."""
        with self._lock:
            row = self._connection.execute(
                "SELECT body FROM notes WHERE lane = ? AND kind = ?", (lane, kind)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def keep_note(self, lane: int, kind: NoteKind, note: Note) -> None:
        """Keep a note; durable."""
        with self._transaction(durable=True) as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (lane, kind, json.dumps(note)))

    def say(self, lane: int, error: str | None) -> None:
        """The last error of a stream; the time stands beside it."""
        with self._transaction(durable=False) as connection:
            connection.execute(
                "UPDATE streams SET error = ?, error_at = ? WHERE lane = ?", (error, error and time.time(), lane)
            )

    def add_rejected(self, lane: int, rows: int, size_bytes: int) -> None:
        """Correct the sums of set-aside rows; negative when they are put again."""
        with self._transaction(durable=False) as connection:
            connection.execute(
                "UPDATE streams SET rejected = max(0, rejected + ?), rejected_bytes = max(0, rejected_bytes + ?)"
                " WHERE lane = ?",
                (rows, size_bytes, lane),
            )

    def keep_segment(self, number: int, summary: Mapping[str, Any]) -> None:
        """What a finished segment holds, so that it need not be walked again."""
        with self._transaction(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (number, json.dumps(summary)))

    def drop_segments(self, numbers: Collection[int]) -> None:
        """Forget segments that are gone."""
        with self._transaction(durable=False) as connection:
            connection.executemany("DELETE FROM segments WHERE number = ?", [(number,) for number in numbers])

    def segments(self) -> dict[int, dict[str, Any]]:
        """What is known of finished segments."""
        with self._lock:
            return read_segments(self._connection)

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._connection.close()


def read_streams(connection: sqlite3.Connection) -> list[StreamRow]:
    """All registered streams, for the owner and for readers."""
    rows = connection.execute(
        "SELECT lane, key, identity, stream_type, quota_bytes, sequence, skip, frames, rows, rejected,"
        " rejected_bytes, superseded, duplicates, error, error_at FROM streams ORDER BY lane"
    )
    return [StreamRow(*row[:5], Position(*row[5:7]), Delivered(*row[7:13]), *row[13:15]) for row in rows]


def read_segments(connection: sqlite3.Connection) -> dict[int, dict[str, Any]]:
    """Summaries of finished segments, for the owner and for readers."""
    return {number: json.loads(summary) for number, summary in connection.execute("SELECT * FROM segments")}


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """The state file as a reader sees it: nothing is written, and nothing is held longer than a query."""
    path = folder / STATE_NAME
    shared = Path(f"{path}-wal").exists()
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?{'mode=ro' if shared else 'immutable=1'}", uri=True)
    try:
        yield connection
    finally:
        connection.close()
