"""Everything of a journal that is not payload: positions, notes, counters, in one small SQLite file."""

import functools
import json
import os
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api2db.errors import JournalWriteError
from api2db.journal._spare import give_spare, hold_spare
from api2db.journal.port import Delivered, Note, NoteKind, Position

STATE_NAME = "state.sqlite"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_TRIES = 5
_LOG_BYTES = 256 << 10
_LEAST_BYTES = 32 << 10

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
    error_at REAL,
    checksum INTEGER NOT NULL
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


class DamagedStateError(Exception):
    """The state file can't be believed; it never leaves this package."""


class State:
    """The state file, open for its owner.

    Raises:
        DamagedStateError: The file can't be believed.
        JournalError: It can't be read or written for another reason.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._identities: dict[int, int] = {}
        self._is_durable: bool | None = None
        path = folder / STATE_NAME
        self._folder = folder
        self._log_path = folder / f"{STATE_NAME}-wal"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with _told_apart():
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
                check(self._connection)
                self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
                if path.stat().st_size < _LEAST_BYTES:  # its pages, too, are to have their room before the disk is full
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._identities = {row.lane: _identity_checksum(row) for row in read_streams(self._connection)}
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """One transaction; where it need not survive a power cut it costs no fsync (and is never torn)."""
        with self._lock:
            try:
                self._be_durable(durable)
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._connection.execute("COMMIT")
            except sqlite3.DatabaseError as error:
                self._roll_back()
                if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                    self._reuse_log()
                message = f"the journal's state file can't be written ({error}); free disk space or mend the disk"
                raise JournalWriteError(message) from error
            except BaseException:
                self._roll_back()
                raise

    def _be_durable(self, wanted: bool) -> None:  # noqa: FBT001
        if wanted != self._is_durable:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if wanted else 'NORMAL'}")
            self._is_durable = wanted

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def meta(self, key: str) -> Any:
        """A value that was kept under a name, or None."""
        with self._lock:
            row = self._connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return _unseal(row[0]) if row else None

    def keep_meta(self, values: Mapping[str, Any], *, durable: bool = True) -> None:
        """Keep values under their names."""
        with self._transaction(durable=durable) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, _seal(value)) for key, value in values.items()]
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
        self._identities[row.lane] = _identity_checksum(row)
        values = (row.lane, row.key, row.identity, row.stream_type, row.quota_bytes, *row.position)
        with self._transaction(durable=True) as connection:
            connection.execute(
                "INSERT INTO streams (lane, key, identity, stream_type, quota_bytes, sequence, skip, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, self._checksum(row.lane, row.position)),
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
                " duplicates = duplicates + ?, checksum = ? WHERE lane = ?",
                (
                    *position,
                    delivered.frames,
                    delivered.rows,
                    delivered.rejected,
                    delivered.rejected_bytes,
                    delivered.superseded,
                    delivered.duplicates,
                    self._checksum(lane, position),
                    lane,
                ),
            )
            connection.executemany("DELETE FROM notes WHERE lane = ? AND kind = ?", [(lane, kind) for kind in clear])

    def _checksum(self, lane: int, position: Position) -> int:
        return _position_checksum(self._identities[lane], position)

    def note(self, lane: int, kind: NoteKind) -> Note | None:
        """A note of a stream."""
        with self._lock:
            return read_note(self._connection, lane, kind)

    def keep_note(self, lane: int, kind: NoteKind, note: Note) -> None:
        """Keep a note; durable."""
        with self._transaction(durable=True) as connection:
            connection.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (lane, kind, _seal(note)))

    def say(self, lane: int, error: str | None) -> None:
        """The last error of a stream; the time stands beside it."""
        with self._transaction(durable=False) as connection:
            connection.execute(
                "UPDATE streams SET error = ?, error_at = ? WHERE lane = ?", (error, error and time.time(), lane)
            )

    def set_rejected(self, lane: int, rows: int, size_bytes: int) -> None:
        """Correct the sums of set-aside rows."""
        with self._transaction(durable=False) as connection:
            connection.execute(
                "UPDATE streams SET rejected = ?, rejected_bytes = ? WHERE lane = ?", (rows, size_bytes, lane)
            )

    def keep_segment(self, number: int, summary: Mapping[str, Any]) -> None:
        """What a finished segment holds, so that it need not be walked again."""
        with self._transaction(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (number, _seal(summary)))

    def drop_segments(self, numbers: Collection[int]) -> None:
        """Forget segments; durable, so that one that is unlinked then is not missed."""
        with self._transaction(durable=True) as connection:
            connection.executemany("DELETE FROM segments WHERE number = ?", [(number,) for number in numbers])

    def drop_segments_until(self, number: int) -> None:
        """Forget segments up to one, and those that a full disk has kept from being forgotten earlier; durable."""
        with self._transaction(durable=True) as connection:
            connection.execute("DELETE FROM segments WHERE number <= ?", (number,))

    def segments(self) -> dict[int, dict[str, Any]]:
        """What is known of finished segments."""
        with self._lock:
            return read_segments(self._connection)

    def shrink(self) -> bool:
        """Give back what the write-ahead log takes of the disk, but for a little; whether there was anything."""
        size_bytes = self._log_path.stat().st_size
        if size_bytes <= _LOG_BYTES:
            return False
        with suppress(JournalWriteError):
            with self._lock:
                self._reuse_log()
            with self._transaction(durable=False) as connection:  # the first one behind that cuts it
                connection.execute("PRAGMA user_version = 0")
        return self._log_path.stat().st_size < size_bytes

    def _reuse_log(self) -> None:
        """Have the write-ahead log written from its start again, which takes no more of the disk.

        What it holds goes into the file itself, which may grow by that into the space held back.
        """
        give_spare(self._folder)
        with suppress(sqlite3.DatabaseError):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        hold_spare(self._folder)

    def close(self) -> None:
        """Let the file go."""
        with self._lock:
            self._connection.close()


def read_streams(connection: sqlite3.Connection) -> list[StreamRow]:
    """All registered streams, for the owner and for readers."""
    rows = connection.execute(
        "SELECT sequence, skip, frames, rows, rejected, rejected_bytes, superseded, duplicates,"
        " lane, key, identity, stream_type, quota_bytes, error, error_at FROM streams ORDER BY lane"
    )
    return [_stream_row(Position(*row[:2]), Delivered(*row[2:8]), *row[8:]) for row in rows]


def _stream_row(position: Position, delivered: Delivered, *rest: Any) -> StreamRow:
    lane, key, identity, stream_type, quota_bytes, error, error_at = rest
    return StreamRow(lane, key, identity, stream_type, quota_bytes, position, delivered, error, error_at)


def read_segments(connection: sqlite3.Connection) -> dict[int, dict[str, Any]]:
    """Summaries of finished segments, for the owner and for readers."""
    return {number: _unseal(summary) for number, summary in connection.execute("SELECT * FROM segments")}


def read_note(connection: sqlite3.Connection, lane: int, kind: NoteKind) -> Note | None:
    """A note of a stream, for the owner and for readers."""
    row = connection.execute("SELECT body FROM notes WHERE lane = ? AND kind = ?", (lane, kind)).fetchone()
    return _unseal(row[0]) if row else None


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """A copy of the state file: nothing in the folder is written, locked, or kept open.

    Raises:
        DamagedStateError: There is none, or it can't be believed.
    """
    with tempfile.TemporaryDirectory(prefix="api2db-status-") as place:
        connection = _open_copy(folder, Path(place))
        try:
            yield connection
        finally:
            connection.close()


def _open_copy(folder: Path, place: Path) -> sqlite3.Connection:
    """An owner may write between the copying of the two files: then they don't fit, and are copied again."""
    for tries_left in reversed(range(_TRIES)):
        for ending in ("-wal", ""):
            source = folder / f"{STATE_NAME}{ending}"
            (place / f"{STATE_NAME}{ending}").write_bytes(source.read_bytes() if source.exists() else b"")
        connection = sqlite3.connect(place / STATE_NAME, isolation_level=None)
        try:
            with _told_apart():
                check(connection)
                read_streams(connection)
            return connection
        except DamagedStateError:
            connection.close()
            if not tries_left:
                raise
    raise AssertionError


def check(connection: sqlite3.Connection) -> None:
    """Read all that matters once.

    Raises:
        DamagedStateError: Something is not what was written.
        sqlite3.DatabaseError: The file can't be read.
    """
    if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        raise DamagedStateError("its pages don't hang together")
    tables = _tables(connection)
    if not tables:
        return
    if tables != _expected_tables():
        raise DamagedStateError("its tables are not those that were made")
    for (text,) in connection.execute(
        "SELECT value FROM meta UNION ALL SELECT body FROM notes UNION ALL SELECT summary FROM segments"
    ):
        _unseal(text)
    checksums = dict(connection.execute("SELECT lane, checksum FROM streams"))
    for row in read_streams(connection):
        if checksums[row.lane] != _position_checksum(_identity_checksum(row), row.position):
            raise DamagedStateError(f"the position of {row.identity!r} is not what was written")


def _tables(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


@functools.cache
def _expected_tables() -> set[tuple[str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(_SCHEMA)
        return _tables(connection)
    finally:
        connection.close()


@contextmanager
def _told_apart() -> Iterator[None]:
    """Damage is mended; a disk that is full or fails says so."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        if code & 0xFF in _DAMAGED:
            raise DamagedStateError(str(error)) from error
        message = f"the journal's state file can't be opened ({error}); free disk space or mend the disk"
        raise JournalWriteError(message) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedStateError(str(error)) from error


def _seal(value: Any) -> str:
    text = json.dumps(value)
    return f"{zlib.crc32(text.encode()):08x}{text}"


def _unseal(sealed: str) -> Any:
    text = sealed[8:]
    if sealed[:8] != f"{zlib.crc32(text.encode()):08x}":
        raise DamagedStateError("a value is not what was written")
    return json.loads(text)


def _identity_checksum(row: StreamRow) -> int:
    return zlib.crc32(json.dumps([row.lane, row.key, row.identity, row.stream_type]).encode())


def _position_checksum(identity_checksum: int, position: Position) -> int:
    return zlib.crc32(b"%d %d" % position, identity_checksum)
