"""DuckDB: Arrow tables are scanned as they are; the file is let go between loads, so that others can open it."""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from api2db.errors import BatchRefusedError, MissingExtraError, TargetUnavailableError
from api2db.formats.atomic import make_folders
from api2db.targets._sql_port import Session
from api2db.targets._standard import create_table, key_twin, on_conflict_do_nothing, quote, recreate, update_from
from api2db.targets.port import Column
from api2db.targets.types import DUCKDB, duckdb_type, from_duckdb

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Engine

__all__ = ["DuckdbDatabase", "duckdb_engine"]

_IDLE_S = 0.2
_LONGEST_HOLD_S = 3.0
_PAUSE_S = 0.06
_HOLDER = re.compile(r"lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")


class _OpenFile:
    """A database file that all streams of this process share: each has a cursor, and it is let go when none needs it.

    A DuckDB file that one process has open no other can read. So it is closed 0.2 s after the last use, and for a
    moment every few seconds when there is no idle time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log_path = path.with_name(f"{path.name}.wal")
        self._changed = threading.Condition()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._users = 0
        self._streams: set[int] = set()
        self.merging = threading.Lock()
        self._opened_at = self._used_at = self._closed_at = 0.0

    @contextmanager
    def cursor(self) -> Iterator["duckdb.DuckDBPyConnection"]:
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
        """Count a stream that will come back."""
        with self._changed:
            self._streams.add(id(stream))

    def leave(self, stream: object) -> None:
        """Let the file go at once when the last stream leaves."""
        with self._changed:
            self._streams.discard(id(stream))
            if not self._streams and not self._users:
                self._close()

    def break_off(self) -> None:
        """Close the database after an error that leaves it unusable."""
        with self._changed:
            self._close()

    def _is_due(self) -> bool:
        """Whether it has been held so long that others must have their turn."""
        return self._connection is not None and time.monotonic() - self._opened_at > _LONGEST_HOLD_S

    def _open(self) -> "duckdb.DuckDBPyConnection":
        pause = self._closed_at + _PAUSE_S - time.monotonic()
        if pause > 0:
            self._changed.wait(pause)
        if self._connection is None:
            self._connection = _connect(self._path)
            self._opened_at = time.monotonic()
            threading.Thread(target=self._let_go_when_idle, name="api2db-duckdb", daemon=True).start()
        return self._connection

    def _let_go_when_idle(self) -> None:
        with self._changed:
            while self._connection is not None:
                idle = time.monotonic() - self._used_at
                if not self._users and idle >= _IDLE_S:
                    self._close()
                    return
                self._changed.wait(_IDLE_S if self._users else max(0.01, _IDLE_S - idle))

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        self._closed_at = time.monotonic()
        if connection is not None:
            with suppress(OSError):
                if not self._log_path.stat().st_size:  # nobody else has the file open yet, so nobody has begun this log
                    self._log_path.unlink()
            connection.close()
        self._changed.notify_all()


_files: dict[Path, _OpenFile] = {}
_files_lock = threading.Lock()


def _shared_file(path: Path) -> _OpenFile:
    with _files_lock:
        return _files.setdefault(path, _OpenFile(path))


def _make_log_private(path: Path) -> None:
    """DuckDB makes its log, which holds rows, with the umask's mode; one that is there it keeps."""
    with suppress(OSError):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(log, 0o600)
        finally:
            os.close(log)


def _connect(path: Path) -> "duckdb.DuckDBPyConnection":
    driver = _library()
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


def _library() -> Any:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("duckdb", "duckdb") from error
    return duckdb


def duckdb_engine(url: str, path: Path) -> "Engine":
    """A SQLAlchemy engine on a DuckDB file that this process may have open already.

    The dialect would open it under settings of its own, which DuckDB refuses within one process.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    try:
        from duckdb_engine import ConnectionWrapper
    except ImportError as error:
        raise MissingExtraError("duckdb_engine", "duckdb") from error
    return create_engine(url, poolclass=NullPool, creator=lambda: ConnectionWrapper(_connect(path)))


class DuckdbDatabase:
    """A DuckDB file, shared with the other streams of this process.

    Args:
        keyed: Rows are merged by keys. Two who do so at a time would not see each other's rows: they take turns.

    Raises:
        MissingExtraError: The library is not installed.
    """

    types = DUCKDB

    def __init__(self, path: Path, *, keyed: bool = False) -> None:
        _library()
        self._file = _shared_file(path)
        self._turn: AbstractContextManager[Any] = self._file.merging if keyed else nullcontext()
        self._path = path
        self._known_tables: set[str] = set()

    def connect(self) -> None:
        self._file.join(self)
        with self._file.cursor():
            return

    def close(self) -> None:
        self._known_tables.clear()
        self._file.leave(self)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        duckdb = _library()
        refused = (duckdb.DataError, duckdb.IntegrityError, duckdb.NotSupportedError)
        try:
            with self._turn, self._file.cursor() as cursor:
                cursor.begin()
                try:
                    yield _DuckdbSession(cursor, self._known_tables)
                    cursor.commit()
                except BaseException:
                    with suppress(duckdb.Error):
                        cursor.rollback()
                    raise
        except refused as error:
            raise BatchRefusedError(_first_line(error)) from error
        except (duckdb.FatalException, duckdb.InternalException) as error:
            self._file.break_off()
            raise TargetUnavailableError(f"DuckDB says of {self._path}: {_first_line(error)}") from error
        except duckdb.Error as error:
            raise TargetUnavailableError(f"DuckDB says of {self._path}: {_first_line(error)}") from error

    def quote(self, name: str) -> str:
        return quote(name)

    def type_name(self, type_: pa.DataType, *, key: bool = False) -> str | None:
        return duckdb_type(type_)

    def once(self, insert: str) -> str:
        return on_conflict_do_nothing(insert)

    def locked(self, select: str) -> str:
        return select  # only this process has the file

    def fresh(self, select: str) -> str:
        return select  # only this process has the file

    def update_from(self, table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
        return update_from(table, staged, values, keys)

    def key_twin(self, table: str, staged: str, keys: Sequence[str], texts: Sequence[str]) -> str:
        return key_twin(table, staged, keys, texts, "encode(CAST({} AS VARCHAR))")

    def create_table(self, table: str, columns: Sequence[str], keys: Sequence[str] = ()) -> str:
        return create_table(table, columns)

    def key_index(self, table: str, keys: Sequence[str]) -> str | None:
        return None  # an index would block changes of a column's type

    def type_of(self, declared: str) -> pa.DataType:
        return from_duckdb(declared)

    def newest(self, old: Sequence[Column], wanted: Sequence[Column]) -> Sequence[Column] | None:
        return wanted

    def renew(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        recreate(session, table, new)

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        duckdb = _library()
        if wider.declared == column.declared:
            return wider
        try:
            session.run(f"ALTER TABLE {quote(table)} ALTER COLUMN {quote(column.name)} SET DATA TYPE {wider.declared}")
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.DependencyException) as error:
            raise BatchRefusedError(_first_line(error)) from error  # an index or a constraint stands on it
        return wider

    def same_column(self, one: str, other: str) -> bool:
        return one == other or one.lower() == other.lower()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


class _DuckdbSession:
    def __init__(self, cursor: "duckdb.DuckDBPyConnection", known_tables: set[str]) -> None:
        self._cursor = cursor
        self._known_tables = known_tables

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        found = self._cursor.execute(sql, values).fetchone()
        return int(found[0]) if found and isinstance(found[0], int) else 0

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._cursor.execute(sql, values).fetchall()

    def columns(self, table: str) -> list[Column] | None:
        """The catalogue is slow to ask (3 ms); a table that is known to be there is asked itself (0.3 ms)."""
        if table in self._known_tables:
            self._known_tables.discard(table)  # where it is gone by now the transaction ends with that error
            found = self.rows("SELECT name, type, dflt_value IS NOT NULL FROM pragma_table_info(?)", (quote(table),))
        else:
            found = self.rows(
                "SELECT column_name, data_type, column_default IS NOT NULL FROM duckdb_columns()"
                " WHERE database_name = current_database() AND schema_name = current_schema()"
                " AND lower(table_name) = lower(?) ORDER BY column_index",
                (table,),
            )
        if found:
            self._known_tables.add(table)
        return [Column(name, from_duckdb(declared), declared, fills) for name, declared, fills in found] or None

    def require_transactions(self, *tables: str) -> None:
        """All of them have transactions here."""

    def hold(self, table: str) -> list[Column] | None:
        return self.columns(table)

    def may_drop(self, table: str) -> bool:
        """There is no such thing here."""
        return False

    @contextmanager
    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str] = ()
    ) -> Iterator[str]:
        self._cursor.register("_api2db_rows", rows)
        try:
            cast = ", ".join(f"{_cast(name, columns)} AS {quote(name)}" for name in rows.column_names)
            self.run(f"CREATE OR REPLACE TEMP TABLE _api2db_staged AS SELECT {cast} FROM _api2db_rows")
            yield "_api2db_staged"
            self.run("DROP TABLE _api2db_staged")
        finally:
            self._forget("_api2db_rows")

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        self._cursor.register("_api2db_batch", rows)
        names = ", ".join(quote(name) for name in rows.column_names)
        values = ", ".join(_cast(name, columns) for name in rows.column_names)
        try:
            return self.run(f"INSERT INTO {quote(table)} ({names}) SELECT {values} FROM _api2db_batch")
        finally:
            self._forget("_api2db_batch")

    def _forget(self, registered: str) -> None:
        with suppress(_library().Error):  # after an error all that may follow is a rollback, which forgets it too
            self._cursor.unregister(registered)


def _cast(name: str, columns: Mapping[str, Column]) -> str:
    return f"CAST({quote(name)} AS {columns[name].declared})"
