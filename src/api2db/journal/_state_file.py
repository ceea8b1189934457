"""The state file's tables, and the checksums that prove their content.

The owner writes it through ``_state``; everyone else reads a copy.
"""

import functools
import json
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api2db.errors import JournalWriteError
from api2db.journal.port import Checkpoint, CheckpointKind, Delivered, Position

STATE_NAME = "state.sqlite"
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_TRIES = 5

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS epochs (epoch TEXT PRIMARY KEY, counter INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS segments (number INTEGER PRIMARY KEY, summary TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS checkpoints (
    stream_no INTEGER, kind TEXT, body TEXT NOT NULL, PRIMARY KEY (stream_no, kind)
);
CREATE TABLE IF NOT EXISTS streams (
    stream_no INTEGER PRIMARY KEY,
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
    """A registered stream as stored in the state file."""

    stream_no: int
    key: str
    identity: str
    stream_type: str
    quota_bytes: int | None
    position: Position
    delivered: Delivered
    error: str | None
    error_at: float | None


@dataclass(frozen=True, slots=True)
class Removal:
    """A file of rejected rows that were put again or dropped.

    Attributes:
        file: Relative to the home.
        known_by: Size in bytes and time of the file; None if there was none.
        stream_no: The stream that rejected the rows.
        rows: How many rows it has.
    """

    file: str
    known_by: list[int] | None
    stream_no: int
    rows: int

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self.known_by[0] if self.known_by is not None else 0


class DamagedStateError(Exception):
    """The state file's content can't be trusted; never leaves this package."""


def registered(newest: Mapping[str, Any]) -> list[StreamRow]:
    """The streams that a preamble names, at the positions they had when it was written."""
    return [
        StreamRow(
            stream_no=stream["stream_no"],
            key=stream["key"],
            identity=stream["identity"],
            stream_type=stream["stream_type"],
            quota_bytes=None,
            position=Position(*stream["position"]),
            delivered=Delivered(),
            error=None,
            error_at=None,
        )
        for stream in newest.get("streams", [])
    ]


def read_streams(connection: sqlite3.Connection) -> list[StreamRow]:
    """Return all registered streams."""
    rows = connection.execute(
        "SELECT sequence, skip, frames, rows, rejected, rejected_bytes, superseded, duplicates,"
        " stream_no, key, identity, stream_type, quota_bytes, error, error_at FROM streams ORDER BY stream_no"
    )
    return [_stream_row(Position(*row[:2]), Delivered(*row[2:8]), *row[8:]) for row in rows]


def _stream_row(position: Position, delivered: Delivered, *rest: Any) -> StreamRow:
    stream_no, key, identity, stream_type, quota_bytes, error, error_at = rest
    return StreamRow(stream_no, key, identity, stream_type, quota_bytes, position, delivered, error, error_at)


def read_segments(connection: sqlite3.Connection) -> dict[int, dict[str, Any]]:
    """Return the summaries of finished segments."""
    return {number: unseal(summary) for number, summary in connection.execute("SELECT * FROM segments")}


def read_checkpoint(connection: sqlite3.Connection, stream_no: int, kind: CheckpointKind) -> Checkpoint | None:
    """Return a stream's checkpoint, or None."""
    row = connection.execute(
        "SELECT body FROM checkpoints WHERE stream_no = ? AND kind = ?", (stream_no, kind)
    ).fetchone()
    return unseal(row[0]) if row else None


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of the state file, so that nothing in the folder is written, locked, or kept open.

    Raises:
        DamagedStateError: There is no state file, or its content can't be trusted.
    """
    with tempfile.TemporaryDirectory(prefix="api2db-status-") as place:
        connection = _open_copy(folder, Path(place))
        try:
            yield connection
        finally:
            connection.close()


def _open_copy(folder: Path, place: Path) -> sqlite3.Connection:
    """Copy the file and its log until they fit each other: the owner may write between the two copies."""
    for tries_left in reversed(range(_TRIES)):
        for ending in ("-wal", ""):
            source = folder / f"{STATE_NAME}{ending}"
            (place / f"{STATE_NAME}{ending}").write_bytes(source.read_bytes() if source.exists() else b"")
        connection = sqlite3.connect(place / STATE_NAME, isolation_level=None)
        try:
            with translated_errors():
                check(connection)
                read_streams(connection)
            return connection
        except DamagedStateError:
            connection.close()
            if not tries_left:
                raise
    raise AssertionError


def check(connection: sqlite3.Connection) -> dict[int, int]:
    """Read everything important once.

    Returns:
        The checksum of the identity of each stream, by its number.

    Raises:
        DamagedStateError: A value differs from what was written.
        sqlite3.DatabaseError: The file can't be read.
    """
    if connection.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        raise DamagedStateError("its pages are inconsistent")
    tables = _tables(connection)
    if not tables:
        return {}
    if tables != _expected_tables():
        raise DamagedStateError("its tables have an unknown layout")
    for (text,) in connection.execute(
        "SELECT value FROM meta UNION ALL SELECT body FROM checkpoints UNION ALL SELECT summary FROM segments"
    ):
        unseal(text)
    checksums = dict(connection.execute("SELECT stream_no, checksum FROM streams"))
    rows = read_streams(connection)
    identities = {row.stream_no: identity_checksum(row) for row in rows}
    for row in rows:
        if checksums[row.stream_no] != position_checksum(identities[row.stream_no], row.position):
            raise DamagedStateError(f"the position of {row.identity!r} differs from what was written")
    return identities


def _tables(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))


@functools.cache
def _expected_tables() -> set[tuple[str, str]]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.executescript(SCHEMA)
        return _tables(connection)
    finally:
        connection.close()


@contextmanager
def translated_errors() -> Iterator[None]:
    """Translate SQLite's errors: damage can be repaired, a full or failing disk can't."""
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


def seal(value: Any) -> str:
    """Encode a value together with its checksum."""
    text = json.dumps(value)
    return f"{zlib.crc32(text.encode()):08x}{text}"


def unseal(sealed: str) -> Any:
    """Decode what ``seal`` encoded.

    Raises:
        DamagedStateError: The checksum does not match.
    """
    text = sealed[8:]
    if sealed[:8] != f"{zlib.crc32(text.encode()):08x}":
        raise DamagedStateError("a value differs from what was written")
    return json.loads(text)


def identity_checksum(row: StreamRow) -> int:
    """The checksum of a stream's identity."""
    return zlib.crc32(json.dumps([row.stream_no, row.key, row.identity, row.stream_type]).encode())


def position_checksum(identity: int, position: Position) -> int:
    """The checksum of a position and the stream that it belongs to."""
    return zlib.crc32(b"%d %d" % position, identity)
