"""DuckDB: Arrow tables are scanned directly, in one transaction with the ledger.

All streams of a process share an open file, and close it between loads, so that other programs can open it. The driver
is an extra, and is imported when a file is first opened.
"""

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from api2db.disk.atomic import make_folders
from api2db.errors import BatchRefusedError, TargetUnavailableError, from_extra
from api2db.frames import JSON, is_json
from api2db.targets.port import Column
from api2db.targets.sql import Database, Session
from api2db.targets.sql.port import Dialect, NoDatabaseError, quote, recreate
from api2db.targets.types import DUCKDB, from_duckdb

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Engine

_IDLE_S = 0.2
_LONGEST_HOLD_S = 3.0
_PAUSE_S = 0.06
_ROW_GROUP_ROWS = 122_880
_HOLDER = re.compile(r"lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)")


def duckdb_engine(url: str, path: Path) -> "Engine":
    """A SQLAlchemy engine on a DuckDB file that this process may have open already.

    The dialect itself would open the file with its own settings, which DuckDB refuses within one process.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with from_extra("duckdb_engine", "duckdb"):
        from duckdb_engine import ConnectionWrapper
    return create_engine(url, poolclass=NullPool, creator=lambda: ConnectionWrapper(_connect(path)))


_HAS_SCHEMA = (
    "SELECT 1 FROM duckdb_schemas() WHERE database_name = current_database() AND lower(schema_name) = lower(?)"
)
_IS_TABLE = (
    "SELECT 1 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = current_schema()"
    " AND lower(table_name) = lower(?)"
)
_IS_THERE = (
    f"{_IS_TABLE} UNION ALL SELECT 1 FROM duckdb_views() WHERE database_name = current_database()"
    " AND schema_name = current_schema() AND lower(view_name) = lower(?)"
)


def _hides_rowid(names: Iterable[str]) -> bool:
    """Whether a column has the name of DuckDB's own number of a row."""
    return any(name.lower() == "rowid" for name in names)


def _in_order(staged: str, names: Sequence[str]) -> str:
    return "" if _hides_rowid(names) else f" ORDER BY {staged}.rowid"


class DuckdbDatabase(Database):
    """A DuckDB file, shared with the other streams of this process.

    Args:
        keyed: Whether rows are merged by key. Such streams take turns, since they would not see each other's rows.
        schema: The schema of the table and of our own tables, created if it is missing; None: ``main``.

    Raises:
        MissingExtraError: The library is not installed.
    """

    # Only this process has the file, so nothing is locked. The cursor is in its schema. There is no key index: it would
    # block changes of a column's type. A transaction with more rows than a row group is compressed by all threads and
    # written straight into the file; the rows of a smaller one go through the log, and one thread compresses them.
    dialect = Dialect(
        types=DUCKDB,
        type_of=from_duckdb,
        exact_text="encode(CAST({} AS VARCHAR))",
        fold=str.lower,
        schemas="SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database()",
        in_order=_in_order,
        large_batches=True,
    )

    def __init__(self, path: Path, *, keyed: bool = False, schema: str | None = None) -> None:
        _library()
        self._schema = schema
        self._file = _shared_file(path)
        self._turn: AbstractContextManager[Any] = self._file.merging if keyed else nullcontext()
        self._path = path
        self._known_tables: set[str] = set()

    def connect(self) -> None:
        self._file.join(self)
        if self._schema is None:
            with self._file.cursor():
                return
        with self.transaction():
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
                    if self._schema is not None:
                        _enter(cursor, self._schema)
                    yield _DuckdbSession(cursor, self._known_tables)
                    cursor.commit()
                except BaseException:
                    with suppress(duckdb.Error):
                        cursor.rollback()
                    raise
        except duckdb.ConversionException as error:
            raise BatchRefusedError(
                f"{_first_line(error)}; correct the value, or give the column another type"
            ) from error
        except refused as error:
            raise BatchRefusedError(_first_line(error)) from error
        except (duckdb.FatalException, duckdb.InternalException) as error:
            self._file.break_off()
            raise TargetUnavailableError(f"DuckDB says of {self._path}: {_first_line(error)}") from error
        except duckdb.Error as error:
            raise TargetUnavailableError(f"DuckDB says of {self._path}: {_first_line(error)}") from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        if not self._path.exists():
            raise NoDatabaseError(f"there is no DuckDB file {self._path}")
        try:
            with self._file.cursor() as cursor:
                cursor.begin()
                if self._schema is not None:
                    if not cursor.execute(_HAS_SCHEMA, (self._schema,)).fetchall():
                        raise NoDatabaseError(f"{self._path} has no schema {self._schema}")
                    _use(cursor, self._schema)
                yield _DuckdbSession(cursor, self._known_tables)
        except _library().Error as error:
            raise TargetUnavailableError(f"DuckDB says of {self._path}: {_first_line(error)}") from error

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        recreate(session, table, new)

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        duckdb = _library()
        if wider.declared == column.declared:
            return wider
        try:
            session.run(f"ALTER TABLE {quote(table)} ALTER COLUMN {quote(column.name)} SET DATA TYPE {wider.declared}")
        except (
            duckdb.BinderException,
            duckdb.CatalogException,
            duckdb.DependencyException,
            duckdb.ConversionException,
        ) as error:  # an index or a constraint depends on it, or one of its dates is beyond the wider type
            raise BatchRefusedError(_first_line(error)) from error
        return wider


def _enter(cursor: "duckdb.DuckDBPyConnection", schema: str) -> None:
    """Make names mean what is in a schema; it is created if it is missing."""
    cursor.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    _use(cursor, schema)


def _use(cursor: "duckdb.DuckDBPyConnection", schema: str) -> None:
    path = quote(schema).replace("'", "''")
    cursor.execute(f"SET schema = '{path}'")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


class _DuckdbSession(Session):
    def __init__(self, cursor: "duckdb.DuckDBPyConnection", known_tables: set[str]) -> None:
        self._cursor = cursor
        self._known_tables = known_tables

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        found = self._cursor.execute(sql, values).fetchone()
        return int(found[0]) if found and isinstance(found[0], int) else 0

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._cursor.execute(sql, values).fetchall()

    def columns(self, table: str) -> list[Column] | None:
        """Asks the table itself (0.3 ms): in a file just opened the view of all columns takes 12 ms."""
        if table not in self._known_tables and not self.rows(_IS_THERE, (table, table)):
            return None
        self._known_tables.discard(table)  # if it is gone by now, the transaction ends with that error
        found = self.rows("SELECT name, type, dflt_value IS NOT NULL FROM pragma_table_info(?)", (quote(table),))
        self._known_tables.add(table)
        return [Column(name, from_duckdb(declared), declared, fills) for name, declared, fills in found]

    def arrival(self, table: str, columns: Sequence[Column]) -> str | None:
        taken = _hides_rowid(column.name for column in columns)
        return None if taken or not self.rows(_IS_TABLE, (table,)) else "rowid DESC"

    def fetch(self, columns: Sequence[Column], sql: str) -> pa.Table:
        found = self._cursor.sql(sql).to_arrow_table()
        arrays = [_as_declared(array, column.type) for array, column in zip(found.columns, columns, strict=True)]
        return pa.table(arrays, [column.name for column in columns])

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
        self._cursor.register("_api2db_batch", _in_row_groups(rows))
        names = ", ".join(quote(name) for name in rows.column_names)
        values = ", ".join(_cast(name, columns) for name in rows.column_names)
        try:
            return self.run(f"INSERT INTO {quote(table)} ({names}) SELECT {values} FROM _api2db_batch")
        finally:
            self._forget("_api2db_batch")

    def _forget(self, registered: str) -> None:
        with suppress(_library().Error):  # after an error only a rollback can follow, which removes it too
            self._cursor.unregister(registered)


def _in_row_groups(rows: pa.Table) -> pa.Table:
    """Rows with a chunk for each whole row group.

    DuckDB copies smaller chunks together, which takes as long as half of the load. It scans chunks in parallel, so the
    rows that fill no row group stay as they are.
    """
    end = rows.num_rows // _ROW_GROUP_ROWS * _ROW_GROUP_ROWS
    if not end:
        return rows
    whole = [rows.slice(at, _ROW_GROUP_ROWS).combine_chunks() for at in range(0, end, _ROW_GROUP_ROWS)]
    return pa.concat_tables([*whole, rows.slice(end)])


def _as_declared(array: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """DuckDB gives JSON as text, and intervals as months, days and nanoseconds."""
    if is_json(type_):
        texts = array.cast(pa.utf8()).combine_chunks()
        return pa.ExtensionArray.from_storage(JSON, texts)
    if pa.types.is_interval(array.type):
        return pa.array([each and _span(*each) for each in array.to_pylist()], type_)
    return array


def _span(months: int, days: int, nanoseconds: int) -> int:
    """Microseconds; a month has 30 days, as in DuckDB's own client."""
    return (months * 30 + days) * 86_400_000_000 + nanoseconds // 1_000


def _cast(name: str, columns: Mapping[str, Column]) -> str:
    return f"CAST({quote(name)} AS {columns[name].declared})"


class FileHeldError(TargetUnavailableError):
    """Another process has the file open."""


class _OpenFile:
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
            self._connection = _connect(self._path)
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


_files: dict[tuple[int, Path], _OpenFile] = {}
_files_lock = threading.Lock()


def _shared_file(path: Path) -> _OpenFile:
    """This process's ``_OpenFile`` for a path; a forked child has none of its parent's."""
    with _files_lock:
        return _files.setdefault((os.getpid(), path), _OpenFile(path))


def _make_log_private(path: Path) -> None:
    """Create the log, which holds rows, for its owner alone; DuckDB would use the umask, but keeps an existing file."""
    with suppress(OSError):
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(log, 0o600)
        finally:
            os.close(log)


def _connect(path: Path) -> "duckdb.DuckDBPyConnection":
    """Open a file; a new one is only accessible to its owner.

    Raises:
        TargetUnavailableError: It cannot be opened; the message says which program holds it.
    """
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
            raise FileHeldError(message) from error
        raise TargetUnavailableError(f"the DuckDB file {path} can't be opened: {error}") from error
    return cast("duckdb.DuckDBPyConnection", connection)


@cache
def _library() -> Any:
    """The module duckdb.

    Raises:
        MissingExtraError: It is not installed.
    """
    with from_extra("duckdb", "duckdb"):
        import duckdb
    return duckdb
