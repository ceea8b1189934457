"""SQLite: rows are inserted by ``executemany`` of the standard library's driver, one writer at a time.

The module has the connection to a file, its transactions and changes of tables, and values as SQLite stores them.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api2db.disk.atomic import make_folders
from api2db.errors import BatchRefusedError, ConnectionBrokenError, TargetError, TargetUnavailableError
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.sql import Database, Session
from api2db.targets.sql.port import Dialect, NoDatabaseError, encoded, quote, recreate, unique_index
from api2db.targets.types import SQLITE, from_sqlite

_types = pa.types
_BUSY_MS = 2_000
_COMMIT_TRIES = 5
# An INTEGER primary key is the row's number, which SQLite supplies if it is missing.
_IS_ROW_NUMBER = "pk > 0 AND upper(type) = 'INTEGER'"
_FILLS = f"dflt_value IS NOT NULL OR {_IS_ROW_NUMBER}"
# A column that is created again would lose these; a check may be about any column.
_DEFINED = """
    SELECT 1 FROM pragma_table_xinfo(?1) AS of_column JOIN sqlite_schema AS whole
    ON whole.type = 'table' AND whole.name = ?1 COLLATE NOCASE
    WHERE of_column.name = ?2 AND ("notnull" OR dflt_value IS NOT NULL OR sql LIKE '%check%(%')
"""
# With the columns of each index; those of an index on an expression are unknown.
_INDEXES = """
    SELECT sql, (SELECT json_group_array(coalesce(name, '')) FROM pragma_index_info(made.name))
    FROM sqlite_schema AS made WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ? COLLATE NOCASE
"""
_WITHOUT_NUMBERS = re.compile(r"\)[^)]*\bwithout\s+rowid\b[^)]*$", re.IGNORECASE)
_ROW_NUMBER = f"SELECT name FROM pragma_table_xinfo(?) WHERE {_IS_ROW_NUMBER}"


def _fold(name: str) -> str:
    """Fold a name as SQLite does: ASCII letters only."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


class SqliteDatabase(Database):
    """One connection to a file.

    A new file is only accessible to its owner, and in WAL mode, so that readers never wait.
    """

    dialect = Dialect(
        types=SQLITE,
        type_of=from_sqlite,
        exact_text="CAST({} AS BLOB)",
        fold=_fold,
        key_index=lambda table, keys: unique_index(f'{table[:-1]}_key"', table, keys),
    )

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._wider: dict[tuple[str, str], Column] = {}

    def connect(self) -> None:
        if self._connection is not None:
            return
        try:
            self._connection = self._open()
        except (sqlite3.Error, OSError) as error:
            raise TargetUnavailableError(f"the SQLite file {self._path} can't be opened: {error}") from error

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        self.connect()
        connection = self._connection
        if connection is None:
            raise ConnectionBrokenError(f"the SQLite file {self._path} was closed meanwhile")
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield _SqliteSession(connection, self._wider)
            _commit(connection)
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError) as error:
            raise BatchRefusedError(str(error)) from error
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A connection of its own that can't write, so that it neither waits for a load nor delays one."""
        if not self._path.exists():
            raise NoDatabaseError(f"there is no SQLite file {self._path}")
        try:
            with closing(sqlite3.connect(f"{self._path.as_uri()}?mode=ro", isolation_level=None, uri=True)) as reader:
                reader.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
                reader.execute("BEGIN")
                yield _SqliteSession(reader, self._wider)
        except sqlite3.Error as error:
            raise TargetUnavailableError(f"SQLite says of {self._path}: {error}") from error

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        self._wider.clear()
        indexes = session.rows(_INDEXES, (table[1:-1].replace('""', '"'),))
        recreate(session, table, new)
        names = {_fold(column.name) for column in new}
        for create, columns in indexes:
            if all(_fold(name) in names for name in json.loads(columns)):
                session.run(create)

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """SQLite cannot alter a type. A number column holds any number, except those that are written as text.

        For those, for dates that become times, and for a column of nulls, the column is created again and becomes last.
        """
        is_empty = session.rows(f"SELECT count({quote(column.name)}) FROM {quote(table)}") == [(0,)]
        dates_to_times = _types.is_date(column.type) and _types.is_timestamp(wider.type)
        if is_empty or dates_to_times or (_types.is_integer(column.type) and not _is_number(wider.type)):
            if session.rows(_DEFINED, (table, column.name)):
                raise BatchRefusedError("its definition has more than a type, which would be lost; widen it yourself")
            value = _AT_MIDNIGHT if dates_to_times else "_api2db_old"
            _recreate_column(session, quote(table), quote(column.name), wider.declared, value)
            return wider
        if _is_number(column.type) and not _is_number(wider.type):
            raise BatchRefusedError(f"a {column.declared} column of SQLite would round {wider.declared}")
        self._wider[table, column.name] = replace(column, type=wider.type)
        return self._wider[table, column.name]

    def _translated(self, error: sqlite3.Error) -> TargetError:
        """A statement that SQLite cannot run is the batch's fault, unless a table is missing; other errors pass."""
        plain = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR
        if plain and "no such" not in str(error):
            return BatchRefusedError(str(error))
        return TargetUnavailableError(f"SQLite says of {self._path}: {error}")

    def _open(self) -> sqlite3.Connection:
        new = not self._path.exists()
        if new:
            make_folders(self._path.parent)
            self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        if new:
            connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection


def _commit(connection: sqlite3.Connection) -> None:
    """A COMMIT that is blocked by readers does not end the transaction, so it is repeated as it is."""
    for attempt in range(1, _COMMIT_TRIES + 1):
        try:
            connection.execute("COMMIT")
        except sqlite3.OperationalError:
            if attempt == _COMMIT_TRIES or not connection.in_transaction:
                raise
        else:
            return


def _is_number(type_: pa.DataType) -> bool:
    """Whether SQLite stores it exactly as a number; of uint64 and decimals it would keep 15 digits."""
    return bool((_types.is_integer(type_) and type_ != pa.uint64()) or _types.is_floating(type_))


_AT_MIDNIGHT = """
    CASE WHEN _api2db_old GLOB '*-[0-9][0-9]-[0-9][0-9]' THEN _api2db_old || ' 00:00:00.000000' ELSE _api2db_old END
"""


def _recreate_column(session: Session, table: str, column: str, declared: str, value: str) -> None:
    """Create a column again. The old one is dropped last: a table needs a column, and a view or rule may depend on it.

    Indexes are created again. A failure is undone with the transaction.
    """
    indexes = session.rows(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = ? COLLATE NOCASE",
        (table[1:-1].replace('""', '"'),),
    )
    try:
        for name, _ in indexes:
            session.run(f"DROP INDEX {quote(name)}")
        session.run(f"ALTER TABLE {table} RENAME COLUMN {column} TO _api2db_old")
        session.run(f"ALTER TABLE {table} ADD COLUMN {column} {declared}")
        session.run(f"UPDATE {table} SET {column} = {value} WHERE _api2db_old IS NOT NULL")
        session.run(f"ALTER TABLE {table} DROP COLUMN _api2db_old")
        for _, create in indexes:
            session.run(create)
    except sqlite3.OperationalError as error:
        said = str(error).replace('"_api2db_old"', column).replace("_api2db_old", column)
        raise BatchRefusedError(f"a constraint, a view or a trigger depends on it; SQLite says {said}") from error


class _SqliteSession(Session):
    def __init__(self, connection: sqlite3.Connection, wider: Mapping[tuple[str, str], Column]) -> None:
        self._connection = connection
        self._wider = wider

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        return self._connection.execute(sql, values).rowcount

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    def columns(self, table: str) -> list[Column] | None:
        found = self.rows(
            f"SELECT name, type, {_FILLS} FROM pragma_table_xinfo(?) WHERE hidden = 0 ORDER BY cid", (table,)
        )
        columns = [Column(name, from_sqlite(declared), declared, bool(fills)) for name, declared, fills in found]
        return [self._wider.get((table, column.name), column) for column in columns] or None

    def arrival(self, table: str, columns: Sequence[Column]) -> str | None:
        """The row's number, under a name that no column has."""
        made = self.rows("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE", (table,))
        taken = {_fold(column.name) for column in columns}
        free = [name for name in ("rowid", "oid", "_rowid_") if name not in taken]
        has_numbers = made and not _WITHOUT_NUMBERS.search(str(made[0][0]))
        return f"{free[0]} DESC" if has_numbers and free else None

    def may_drop(self, table: str) -> bool:
        """A trigger may do so by ``RAISE(IGNORE)``."""
        triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger' AND lower(tbl_name) = lower(?)"
        return self.rows(triggers, (table,)) != [(0,)]

    @contextmanager
    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str] = ()
    ) -> Iterator[str]:
        declared = ", ".join(f"{quote(name)} {columns[name].declared}" for name in rows.column_names)
        self.run("DROP TABLE IF EXISTS temp._api2db_staged")
        self.run(f"CREATE TEMP TABLE _api2db_staged ({declared})")
        self.insert("_api2db_staged", rows, columns)
        yield "_api2db_staged"
        self.run("DROP TABLE temp._api2db_staged")

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        for (name,) in self.rows(_ROW_NUMBER, (table,)):
            if name in rows.column_names and rows.column(name).null_count:
                raise BatchRefusedError(
                    f"{name!r}: a value is missing, and SQLite would assign a number; if it should, leave the column"
                    " out of the frame"
                )
        names = ", ".join(quote(name) for name in rows.column_names)
        marks = ", ".join("?" * rows.num_columns)
        values = zip(*(encoded(values_of, column) for column in rows.columns), strict=True)
        return self._connection.executemany(f"INSERT INTO {quote(table)} ({names}) VALUES ({marks})", values).rowcount


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """The values of a column for the driver."""
    values: list[Any] = _plain(column).to_pylist()
    return values


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cast a column to a type that ``to_pylist`` turns into what SQLite stores exactly."""
    type_ = column.type
    if is_json(type_):
        return column.cast(pa.string())
    if _types.is_timestamp(type_):
        naive = _to_microseconds(column.cast(pa.timestamp(type_.unit))).cast(pa.string())
        return naive if type_.tz is None else pc.binary_join_element_wise(naive, "+00:00", "")
    if _types.is_duration(type_):
        return column.cast(pa.duration("ns")).cast(pa.int64())
    return column.cast(pa.string()) if any(is_kind(type_) for is_kind in _AS_TEXT) else column


def _to_microseconds(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Six digits of a second, which every reader of ISO text accepts; nine only if they are needed."""
    try:
        return column.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return column


_AS_TEXT: tuple[Callable[[pa.DataType], bool], ...] = (
    _types.is_uint64,
    _types.is_decimal,
    _types.is_date,
    _types.is_time,
)
