"""A DuckDB file that all streams of this process share, and close between loads, so that others can open it."""

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from api2db.disk.atomic import make_folders
from api2db.errors import TargetUnavailableError, from_extra

if TYPE_CHECKING:
    import duckdb

_IDLE_S = 0.2
_LONGEST_HOLD_S = 3.0
_PAUSE_S = 0.06
_HOLDER = re.compile(r"lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")


class OpenFile:
    """A database file that all streams of this process share, with a cursor for each.

    No other process can read a DuckDB file that is open. So it is closed 0.2 s after its last use, and for a moment
    every few seconds if it is never idle.

    Attributes:
        merging: Held by the stream that merges rows by key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log_path = path.with_name(f"{path.name}.wal")
        self._changed = threading.Condition()
        self._is_watched = False
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._users = 0
        self._streams: set[int] = set()
        self.merging = threading.Lock()
        self._opened_at = self._used_at = self._closed_at = 0.0

    @contextmanager
    def cursor(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """Open the file unless it is open, and keep it open until the block ends.

        Raises:
            TargetUnavailableError: It cannot be opened; the message says which program holds it.
        """
        with self._changed:
            self._changed.wait_for(lambda: not (self._users and self._is_due()))
            connection = self._connection or self._open()
            self._users += 1
            _make_log_private(self._log_path)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            with self._changed:
                self._users -= 1
                self._used_at = time.monotonic()
                if self._is_due() and not self._users:
                    self._close()
                self._changed.notify_all()

    def join(self, stream: object) -> None:
        """Register a stream."""
        with self._changed:
            self._streams.add(id(stream))

    def leave(self, stream: object) -> None:
        """Unregister a stream; after the last one the file is closed at once."""
        with self._changed:
            self._streams.discard(id(stream))
            if not self._streams and not self._users:
                self._close()

    def break_off(self) -> None:
        """Close the database after an error that leaves it unusable."""
        with self._changed:
            self._close()

    def _is_due(self) -> bool:
        """Whether the file has been open so long that other processes must get it."""
        return self._connection is not None and time.monotonic() - self._opened_at > _LONGEST_HOLD_S

    def _open(self) -> "duckdb.DuckDBPyConnection":
        pause = self._closed_at + _PAUSE_S - time.monotonic()
        if pause > 0:
            self._changed.wait(pause)
        if self._connection is None:
            self._connection = connect(self._path)
            self._opened_at = time.monotonic()
            if not self._is_watched:  # the thread of the last connection may not have seen its end yet
                with suppress(RuntimeError):  # the interpreter ends, and lets the file go
                    threading.Thread(target=self._let_go_when_idle, name="api2db-duckdb", daemon=True).start()
                    self._is_watched = True
        return self._connection

    def _let_go_when_idle(self) -> None:
        with self._changed:
            while self._connection is not None:
                idle = time.monotonic() - self._used_at
                if not self._users and idle >= _IDLE_S:
                    self._close()
                    break
                self._changed.wait(_IDLE_S if self._users else max(0.01, _IDLE_S - idle))
            self._is_watched = False

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._closed_at = time.monotonic()
        if connection is not None:
            with suppress(OSError):
                if not self._log_path.stat().st_size:  # nobody else has the file open yet, so this log is ours
                    self._log_path.unlink()
            connection.close()
        self._changed.notify_all()


_files: dict[tuple[int, Path], OpenFile] = {}
_files_lock = threading.Lock()


def shared_file(path: Path) -> OpenFile:
    """This process's ``OpenFile`` for a path; a forked child has none of its parent's."""
    with _files_lock:
        return _files.setdefault((os.getpid(), path), OpenFile(path))


def _make_log_private(path: Path) -> None:
    """Create the log, which holds rows, for its owner alone; DuckDB would use the umask, but keeps an existing file."""
    with suppress(OSError):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(log, 0o600)
        finally:
            os.close(log)


def connect(path: Path) -> "duckdb.DuckDBPyConnection":
    """Open a file; a new one is only accessible to its owner.

    Raises:
        TargetUnavailableError: It cannot be opened; the message says which program holds it.
    """
    driver = library()
    try:
        new = not path.exists()
        make_folders(path.parent)
        connection = driver.connect(str(path))
        if new:
            path.chmod(0o600)
    except (driver.Error, OSError) as error:
        holder = _HOLDER.search(str(error))
        if holder:
            message = f"{path} is held by {holder['program']} (pid {holder['pid']}); close it there"
        else:
            message = f"the DuckDB file {path} can't be opened: {error}"
        raise TargetUnavailableError(message) from error
    return cast("duckdb.DuckDBPyConnection", connection)


def library() -> Any:
    """The module duckdb.

    Raises:
        MissingExtraError: It is not installed.
    """
    with from_extra("duckdb", "duckdb"):
        import duckdb
    return duckdb
