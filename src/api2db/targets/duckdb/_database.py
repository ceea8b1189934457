"""A DuckDB database: its transactions and changes of tables. Arrow tables are scanned directly."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from api2db.errors import BatchRefusedError, TargetUnavailableError, from_extra
from api2db.targets.duckdb._file import connect, library, shared_file
from api2db.targets.port import Column
from api2db.targets.sql import Session
from api2db.targets.sql.port import Dialect, quote, recreate
from api2db.targets.types import DUCKDB, from_duckdb

if TYPE_CHECKING:
    import duckdb
    from sqlalchemy import Engine


def duckdb_engine(url: str, path: Path) -> "Engine":
    """A SQLAlchemy engine on a DuckDB file that this process may have open already.

    The dialect itself would open the file with its own settings, which DuckDB refuses within one process.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with from_extra("duckdb_engine", "duckdb"):
        from duckdb_engine import ConnectionWrapper
    return create_engine(url, poolclass=NullPool, creator=lambda: ConnectionWrapper(connect(path)))


class DuckdbDatabase:
    """A DuckDB file, shared with the other streams of this process.

    Args:
        keyed: Whether rows are merged by key. Such streams take turns, since they would not see each other's rows.
        schema: The schema of the table and of our own tables, created if it is missing; None: ``main``.

    Raises:
        MissingExtraError: The library is not installed.
    """

    # Only this process has the file, so nothing is locked. The cursor is in its schema. There is no key index: it would
    # block changes of a column's type.
    dialect = Dialect(
        types=DUCKDB,
        type_of=from_duckdb,
        exact_text="encode(CAST({} AS VARCHAR))",
        fold=str.lower,
        schemas="SELECT schema_name FROM duckdb_schemas() WHERE database_name = current_database()",
    )

    def __init__(self, path: Path, *, keyed: bool = False, schema: str | None = None) -> None:
        library()
        self._schema = schema
        self._file = shared_file(path)
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

    def end_waiting(self) -> None:
        return

    def close(self) -> None:
        self._known_tables.clear()
        self._file.leave(self)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        duckdb = library()
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

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        recreate(session, table, new)

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        duckdb = library()
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
        """The catalogue is slow (3 ms). A known table is queried itself (0.3 ms)."""
        if table in self._known_tables:
            self._known_tables.discard(table)  # if it is gone by now, the transaction ends with that error
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
        with suppress(library().Error):  # after an error only a rollback can follow, which removes it too
            self._cursor.unregister(registered)


def _cast(name: str, columns: Mapping[str, Column]) -> str:
    return f"CAST({quote(name)} AS {columns[name].declared})"
