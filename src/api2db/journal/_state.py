"""Positions, checkpoints and counters of a journal, in one small SQLite file, and the disk space reserved for them."""

import os
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any

from api2db.disk.atomic import replacing
from api2db.errors import JournalError, JournalWriteError
from api2db.journal._state_file import (
    SCHEMA,
    STATE_NAME,
    Removal,
    StreamRow,
    check,
    identity_checksum,
    position_checksum,
    read_checkpoint,
    read_segments,
    read_streams,
    seal,
    translated_errors,
    unseal,
)
from api2db.journal.port import Checkpoint, CheckpointKind, Delivered, Position

_LOG_BYTES = 256 << 10
_LEAST_BYTES = 32 << 10
_REMOVALS = "removals"
_RESERVE_NAME = "reserve"
_RESERVE_BYTES = (128 << 10, 64 << 10)


def hold_reserve(folder: Path) -> None:
    """Hold disk space in reserve, or half as much, so that essential writes succeed on a full disk."""
    path = folder / _RESERVE_NAME
    held_bytes = path.stat().st_size if path.exists() else 0
    for size_bytes in _RESERVE_BYTES:
        if held_bytes >= size_bytes:
            return
        with suppress(OSError):
            with replacing(path) as file:
                file.write(b"\0" * size_bytes)
            return


def release_reserve(folder: Path) -> None:
    """Release the reserve for an essential write."""
    with suppress(OSError):
        (folder / _RESERVE_NAME).unlink(missing_ok=True)


class State:
    """The state file, opened by the journal's owner.

    Raises:
        DamagedStateError: The file's content can't be trusted.
        JournalError: The file can't be read or written for another reason.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
        self._identities: dict[int, int] = {}
        self._is_durable: bool | None = None
        self._is_open = True
        path = folder / STATE_NAME
        self._folder = folder
        self._log_path = folder / f"{STATE_NAME}-wal"
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with translated_errors():
                self._connection.execute("PRAGMA journal_mode=WAL")
                self._connection.execute(f"PRAGMA journal_size_limit={_LOG_BYTES}")
                check(self._connection)
                self._connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
                if path.stat().st_size < _LEAST_BYTES:  # Reserve its first pages before the disk is full.
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._identities = {row.stream_no: identity_checksum(row) for row in read_streams(self._connection)}
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock, and the file open.

        Raises:
            JournalError: It has been closed.
        """
        with self._lock:
            if not self._is_open:
                raise JournalError(f"the journal {self._folder} has been closed; start the stream again")
            yield self._connection

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Run one transaction. A transaction that need not survive a power cut skips the fsync, and is never torn."""
        with self._opened():
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
        """Return the value saved under a key, or None."""
        with self._opened() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return unseal(row[0]) if row else None

    def keep_meta(self, values: Mapping[str, Any], *, durable: bool = True) -> None:
        """Save values under their keys."""
        with self._transaction(durable=durable) as connection:
            connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", [(key, seal(value)) for key, value in values.items()]
            )

    def add_epochs(self, epochs: Mapping[str, int]) -> None:
        """Record opens of the journal; durable."""
        with self._transaction(durable=True) as connection:
            connection.executemany("INSERT OR IGNORE INTO epochs VALUES (?, ?)", epochs.items())

    def epochs(self) -> dict[str, int]:
        """Return all opens: epoch and counter."""
        with self._opened() as connection:
            return dict(connection.execute("SELECT epoch, counter FROM epochs"))

    def streams(self) -> list[StreamRow]:
        """Return all registered streams."""
        with self._opened() as connection:
            return read_streams(connection)

    def add_stream(self, row: StreamRow) -> None:
        """Register a stream; durable."""
        self._identities[row.stream_no] = identity_checksum(row)
        values = (row.stream_no, row.key, row.identity, row.stream_type, row.quota_bytes, *row.position)
        with self._transaction(durable=True) as connection:
            connection.execute(
                "INSERT INTO streams (stream_no, key, identity, stream_type, quota_bytes, sequence, skip, checksum)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*values, self._checksum(row.stream_no, row.position)),
            )

    def set_quota(self, stream_no: int, quota_bytes: int | None) -> None:
        """Set the quota that a stream was started with."""
        with self._transaction(durable=True) as connection:
            connection.execute("UPDATE streams SET quota_bytes = ? WHERE stream_no = ?", (quota_bytes, stream_no))

    def drop_stream(self, stream_no: int) -> None:
        """Delete a stream and its checkpoints; durable."""
        with self._transaction(durable=True) as connection:
            connection.execute("DELETE FROM streams WHERE stream_no = ?", (stream_no,))
            connection.execute("DELETE FROM checkpoints WHERE stream_no = ?", (stream_no,))

    def move(
        self,
        stream_no: int,
        position: Position,
        delivered: Delivered,
        clear: Collection[CheckpointKind],
        *,
        durable: bool,
    ) -> None:
        """Move a stream's position, add what was delivered, and clear checkpoints, in one transaction."""
        with self._transaction(durable=durable) as connection:
            connection.execute(
                "UPDATE streams SET sequence = ?, skip = ?, frames = frames + ?, rows = rows + ?,"
                " rejected = rejected + ?, rejected_bytes = rejected_bytes + ?, superseded = superseded + ?,"
                " duplicates = duplicates + ?, checksum = ? WHERE stream_no = ?",
                (
                    *position,
                    delivered.frames,
                    delivered.rows,
                    delivered.rejected,
                    delivered.rejected_bytes,
                    delivered.superseded,
                    delivered.duplicates,
                    self._checksum(stream_no, position),
                    stream_no,
                ),
            )
            connection.executemany(
                "DELETE FROM checkpoints WHERE stream_no = ? AND kind = ?", [(stream_no, kind) for kind in clear]
            )

    def _checksum(self, stream_no: int, position: Position) -> int:
        return position_checksum(self._identities[stream_no], position)

    def checkpoint(self, stream_no: int, kind: CheckpointKind) -> Checkpoint | None:
        """Return a stream's checkpoint, or None."""
        with self._opened() as connection:
            return read_checkpoint(connection, stream_no, kind)

    def save_checkpoint(self, stream_no: int, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        """Save a checkpoint; durable."""
        with self._transaction(durable=True) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?)", (stream_no, kind, seal(checkpoint))
            )

    def set_error(self, stream_no: int, error: str | None) -> None:
        """Set or clear a stream's last error, with its time."""
        with self._transaction(durable=False) as connection:
            connection.execute(
                "UPDATE streams SET error = ?, error_at = ? WHERE stream_no = ?",
                (error, error and time.time(), stream_no),
            )

    def removals(self) -> list[Removal]:
        """Return the removals that are not finished."""
        return [Removal(*values) for values in self.meta(_REMOVALS) or ()]

    def keep_removals(self, removals: Sequence[Removal]) -> None:
        """Save the removals that are not finished."""
        self.keep_meta({_REMOVALS: [astuple(removal) for removal in removals]}, durable=False)

    def finish_removal(self, removal: Removal, left: Sequence[Removal]) -> tuple[int, int]:
        """Save the removals that are left, and no longer count the rows of one as rejected, in one transaction.

        Pending rows are published before they are counted. Otherwise no count falls below 0, as it could after the
        file was rebuilt.

        Returns:
            How many rows, and bytes, are no longer counted.
        """
        with self._transaction(durable=False) as connection:
            found = connection.execute(
                "SELECT max(0, rejected), max(0, rejected_bytes), EXISTS (SELECT 1 FROM checkpoints"
                " WHERE checkpoints.stream_no = streams.stream_no AND kind = 'pending')"
                " FROM streams WHERE stream_no = ?",
                (removal.stream_no,),
            ).fetchone()
            rows, size_bytes, has_pending = found or (0, 0, False)
            if has_pending:
                rows, size_bytes = removal.rows, removal.size_bytes
            rows, size_bytes = min(rows, removal.rows), min(size_bytes, removal.size_bytes)
            connection.execute(
                "UPDATE streams SET rejected = rejected - ?, rejected_bytes = rejected_bytes - ? WHERE stream_no = ?",
                (rows, size_bytes, removal.stream_no),
            )
            connection.execute(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)", (_REMOVALS, seal([astuple(other) for other in left]))
            )
        return rows, size_bytes

    def keep_segment(self, number: int, summary: Mapping[str, Any]) -> None:
        """Save the summary of a finished segment, so that it need not be scanned again."""
        with self._transaction(durable=False) as connection:
            connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (number, seal(summary)))

    def drop_segments(self, numbers: Collection[int]) -> None:
        """Delete segment summaries; durable, so that a segment unlinked afterwards is not reported missing."""
        with self._transaction(durable=True) as connection:
            connection.executemany("DELETE FROM segments WHERE number = ?", [(number,) for number in numbers])

    def drop_segments_until(self, number: int) -> None:
        """Delete all segment summaries up to a number; durable. A full disk may have kept earlier ones."""
        with self._transaction(durable=True) as connection:
            connection.execute("DELETE FROM segments WHERE number <= ?", (number,))

    def segments(self) -> dict[int, dict[str, Any]]:
        """Return the summaries of finished segments."""
        with self._opened() as connection:
            return read_segments(connection)

    def shrink(self) -> bool:
        """Shrink the write-ahead log; return whether that freed anything."""
        size_bytes = self._log_path.stat().st_size
        if size_bytes <= _LOG_BYTES:
            return False
        with suppress(JournalWriteError):
            with self._opened():
                self._reuse_log()
            with self._transaction(durable=False) as connection:  # The next transaction truncates it.
                connection.execute("PRAGMA user_version = 0")
        return self._log_path.stat().st_size < size_bytes

    def _reuse_log(self) -> None:
        """Restart the write-ahead log at its beginning, so that it takes no more disk space.

        Its content moves into the database file, which may grow into the reserve by that much.
        """
        release_reserve(self._folder)
        with suppress(sqlite3.DatabaseError):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        hold_reserve(self._folder)

    def close(self) -> None:
        """Close the file; whoever still uses it gets a JournalError."""
        with self._lock:
            self._is_open = False
            self._connection.close()
