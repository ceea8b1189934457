"""The connection to a journal's state file, and the disk space held in reserve for essential writes."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from api2db.disk.atomic import replacing
from api2db.errors import JournalError, JournalWriteError
from api2db.journal._state_file import SCHEMA, STATE_NAME, check, translated_errors

_LOG_BYTES = 256 << 10
_LEAST_BYTES = 32 << 10
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


class StateConnection:
    """The owner's connection: threads take turns, no transaction is torn, and the write-ahead log stays small.

    Args:
        folder: The journal's folder.

    Attributes:
        identities: The checksum of the identity of each stream when the file was opened, by its number.

    Raises:
        DamagedStateError: The file's content can't be trusted.
        JournalError: The file can't be read or written for another reason.
    """

    def __init__(self, folder: Path) -> None:
        self._lock = threading.Lock()
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
                self.identities = check(self._connection)
                self._connection.executescript(f"BEGIN; {SCHEMA} COMMIT;")
                if path.stat().st_size < _LEAST_BYTES:  # Reserve its first pages before the disk is full.
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except BaseException:  # nobody else could close it
            self._connection.close()
            raise

    @contextmanager
    def opened(self) -> Iterator[sqlite3.Connection]:
        """Hold the lock, and the file open.

        Raises:
            JournalError: It has been closed.
        """
        with self._lock:
            if not self._is_open:
                raise JournalError(f"the journal {self._folder} has been closed; start the stream again")
            yield self._connection

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        """Run one transaction. A transaction that need not survive a power cut skips the fsync, and is never torn.

        Raises:
            JournalWriteError: The disk refuses; nothing was changed.
        """
        with self.opened():
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

    def shrink(self) -> bool:
        """Shrink the write-ahead log; return whether that freed anything."""
        size_bytes = self._log_path.stat().st_size
        if size_bytes <= _LOG_BYTES:
            return False
        with suppress(JournalWriteError):
            with self.opened():
                self._reuse_log()
            with self.transaction(durable=False) as connection:  # The next transaction truncates it.
                connection.execute("PRAGMA user_version = 0")
        return self._log_path.stat().st_size < size_bytes

    def close(self) -> None:
        """Close the file; whoever still uses it gets a JournalError."""
        with self._lock:
            self._is_open = False
            self._connection.close()

    def _be_durable(self, wanted: bool) -> None:  # noqa: FBT001
        if wanted != self._is_durable:
            self._connection.execute(f"PRAGMA synchronous={'FULL' if wanted else 'NORMAL'}")
            self._is_durable = wanted

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _reuse_log(self) -> None:
        """Restart the write-ahead log at its beginning, so that it takes no more disk space.

        Its content moves into the database file, which may grow into the reserve by that much.
        """
        release_reserve(self._folder)
        with suppress(sqlite3.DatabaseError):
            self._connection.execute("PRAGMA wal_checkpoint(RESTART)")
        hold_reserve(self._folder)
