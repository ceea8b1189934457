"""The ports behind ``SqlTarget``: what a SQL database implements, and the SQL that most databases share."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

import pyarrow as pa
from sqlalchemy.engine.default import DefaultDialect

from api2db.errors import BatchRefusedError, TargetError, TargetUnavailableError
from api2db.targets._newest import arrow_rows
from api2db.targets.port import Column
from api2db.targets.types import Types

_quote_identifier = DefaultDialect().identifier_preparer.quote_identifier
_Arguments = ParamSpec("_Arguments")
_Form = TypeVar("_Form")


class DryRunEndedError(Exception):
    """Ends the transaction of a dry run."""


class NoDatabaseError(TargetUnavailableError):
    """There is no such database, and this is no call that creates it."""


class Session(Protocol):
    """One open transaction. A class that inherits from it has the defaults of a database with transactions only."""

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Run a statement; returns how many rows it changed."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query."""

    def columns(self, table: str) -> list[Column] | None:
        """The columns of a table in their order; None if there is no table."""

    def lock_columns(self, table: str) -> list[Column] | None:
        """The columns of a table, locked until the transaction ends; None if there is no table."""
        return self.columns(table)

    def require_transactions(self, *tables: str) -> None:
        """Check that a rollback undoes what is written into tables, if they exist.

        Raises:
            TargetUnavailableError: One of them has no transactions; the message says what to do.
        """
        return

    def may_drop(self, table: str) -> bool:
        """Whether a trigger, rule or policy of a table may silently exclude a row from an UPDATE."""
        return False

    def arrival(self, table: str, columns: Sequence[Column]) -> str | None:
        """The ORDER BY list for rows as they were added, newest first; None if the table does not tell."""
        return None

    def newest(
        self, table: str, columns: Sequence[Column], select: str, order: str | None, count: int
    ) -> pa.Table | None:
        """The first rows of a query.

        Args:
            table: The table's name, not quoted.
            columns: Its columns.
            select: The query of all columns, without an order.
            order: The ORDER BY list; None for the order of arrival, newest first.
            count: How many rows at most.

        Returns:
            None if the table does not tell in which order its rows were added.
        """
        order = self.arrival(table, columns) if order is None else order
        return None if order is None else self.fetch(columns, f"{select} ORDER BY {order} LIMIT {count}")

    def note(self, table: str, columns: Sequence[tuple[str, str]]) -> None:
        """Record what the database itself does not tell of new columns: name and declared type of each."""
        return

    def fetch(self, columns: Sequence[Column], sql: str) -> pa.Table:
        """Run a query for columns, and return its rows in their types."""
        return arrow_rows(columns, self.rows(sql))

    def may_overlap(self, table: str) -> bool:
        """Whether rows of two transactions can be inserted into a table at once, so that neither waits for the other.

        A trigger, or an index that is unique, may make one wait until the other has ended, and other clients come
        first. If it may be so, the transaction gets its number: rows are in the order of the transactions' numbers.
        """
        return False

    def insert(self, table: str, rows: pa.Table, columns: Mapping[str, Column]) -> int:
        """Load rows by the database's bulk path; returns how many were inserted."""

    def stage(
        self, table: str, rows: pa.Table, columns: Mapping[str, Column], keys: Sequence[str]
    ) -> AbstractContextManager[str]:
        """Load rows into a staged table that only this transaction sees; gives its name, quoted."""


def quote(name: str) -> str:
    """A name in double quotes.

    Raises:
        BatchRefusedError: No database accepts such a name.
    """
    if not name or "\0" in name:
        raise BatchRefusedError(f"a column can't be named {name!r}; rename it before it is put")
    return str(_quote_identifier(name))


def _join(table: str, staged: str, keys: Sequence[str]) -> str:
    return f"{table} old JOIN {staged} new ON {_same(keys)}"


def _update_from(table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
    sets = ", ".join(f"{value} = new.{value}" for value in values)
    return f"UPDATE {table} AS old SET {sets} FROM {staged} AS new WHERE {_same(keys)}"


def _limited(what: str, rest: str, count: int) -> str:
    return f"SELECT {what} FROM {rest} LIMIT {count}"


def _create_table(table: str, columns: Sequence[str], _keys: Sequence[str] = ()) -> str:
    return f"CREATE TABLE {table} ({', '.join(columns)})"


def _same(keys: Sequence[str]) -> str:
    return " AND ".join(f"old.{key} = new.{key}" for key in keys)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The SQL of one database. Names in its arguments are quoted, except where a function quotes them.

    Attributes:
        types: The database's part of the table of types.
        type_of: The Arrow type that holds what a column of a declared type holds.
        exact_text: An expression for the letters of a text, which no collation takes for others.
        quote: Quotes a name; raises BatchRefusedError for one that the database cannot have.
        table: Quotes a table's name, with its schema if one was given.
        check_column_name: Raises BatchRefusedError for a name that no column can have.
        fold: Names that are equal after it are the same column.
        key_type: The column type for a part of the key, given the type of other columns.
        locking: Ends a SELECT that locks its rows until the transaction ends.
        lock_hint: Follows the table's name in such a SELECT.
        locks_by_update: Whether an UPDATE locks the rows before such a SELECT, which not every database has.
        current: Ends a SELECT that sees what an UPDATE sees, not what was there when the transaction began.
        schemas: The query for names that may stand before a table's name and a dot; empty if there are none.
        insert_ignore: Makes an INSERT do nothing if its key is there already, or raise LedgerMovedError.
        own_type: The column type in our own tables, given it in standard SQL.
        unnamed: Stands for no name in our own tables; not empty where empty text is null.
        has_notes: Whether our own tables include that of the notes of columns.
        limited: The first rows of a query, given what it selects, what follows FROM, and their number.
        add_column: What ALTER TABLE has before the definition of a new column.
        join: The rows of a table, ``old``, and the staged rows with the same keys, ``new``.
        in_order: Ends a SELECT so that it gives staged rows in their order, given their table and the names of its
            columns; empty where a join keeps it.
        update_from: The UPDATE of a table's rows by the staged rows with the same keys.
        create_table: The CREATE TABLE statement, with unique keys unless ``key_index`` makes them unique.
        key_index: The statement in the same transaction that makes keys unique in a new table; None for none.
        replacement: The columns that a table can have once its rows are replaced, given those that it has and those
            wanted; None if its columns cannot change in the same transaction.
        drop_surplus: Drops columns that the newest frame lacks, if ``Database.replace`` cannot; returns those that
            have to stay. The table's name is not quoted.
        shown: What a SELECT has for a column, given its quoted name, so that the driver loses nothing.
        descending: Sorts the greatest values first, and nulls last.
        overlaps: Whether ``Session.may_overlap`` is true of some tables.
        large_batches: As ``Target`` has it.
    """

    types: Types
    type_of: Callable[[str], pa.DataType]
    exact_text: str
    quote: Callable[[str], str] = quote
    table: Callable[[str], str] = quote
    check_column_name: Callable[[str], object] = quote
    fold: Callable[[str], str] = str
    key_type: Callable[[str], str] = str
    locking: str = ""
    lock_hint: str = ""
    locks_by_update: bool = False
    current: str = ""
    schemas: str = ""
    insert_ignore: Callable[[str], str] = "{} ON CONFLICT DO NOTHING".format
    own_type: Callable[[str], str] = str
    unnamed: str = ""
    has_notes: bool = False
    limited: Callable[[str, str, int], str] = _limited
    add_column: str = "ADD COLUMN"
    join: Callable[[str, str, Sequence[str]], str] = _join
    in_order: Callable[[str, Sequence[str]], str] = lambda _staged, _names: ""
    update_from: Callable[[str, str, Sequence[str], Sequence[str]], str] = _update_from
    create_table: Callable[[str, Sequence[str], Sequence[str]], str] = _create_table
    key_index: Callable[[str, Sequence[str]], str | None] = lambda _table, _keys: None
    replacement: Callable[[Sequence[Column], Sequence[Column]], Sequence[Column] | None] = lambda _old, wanted: wanted
    drop_surplus: Callable[[Session, str, Sequence[str]], Sequence[str]] = lambda _session, _table, _surplus: ()
    shown: Callable[[Column, str], str] = lambda _column, quoted: quoted
    descending: str = "DESC"
    overlaps: bool = False
    large_batches: bool = False

    def type_name(self, type_: pa.DataType, *, key: bool = False) -> str | None:
        """The column type for an Arrow type; None for nulls."""
        declared = self.types.column(type_)
        return self.key_type(declared) if key and declared is not None else declared

    def colliding_keys(self, table: str, staged: str, keys: Sequence[str], texts: Sequence[str]) -> str:
        """The query for a staged row whose key equals that of a row of the table, though the letters differ."""
        exact = self.exact_text.format
        differs = " OR ".join(f"{exact(f'old.{text}')} <> {exact(f'new.{text}')}" for text in texts)
        return self.limited("1", f"{self.join(table, staged, keys)} WHERE {differs}", 1) + self.current


class Database(Protocol):
    """A database's own part: its connection, its SQL, its errors. One that never waits inherits from it."""

    @property
    def dialect(self) -> Dialect:
        """Its SQL; after ``connect`` that of the server's version."""

    def connect(self) -> None:
        """Connect, unless connected already.

        Raises:
            TargetUnavailableError: It cannot be reached now.
        """

    def close(self) -> None:
        """Release the connection; never raises."""

    def end_waiting(self) -> None:
        """See ``Target``."""
        return

    def second(self) -> "Database | None":
        """The same database, for a transaction beside one of this object; None if it has none to spare now."""
        return None

    def end_silent(self, stream: str) -> None:
        """End the transaction that holds a stream's row of the ledger, if its client has fallen silent.

        A client that is frozen in the middle of a load would hold the row as long as it is frozen. Its rows are rolled
        back, so whoever reads the ledger loads them. Never raises.
        """
        return

    def reading(self) -> AbstractContextManager[Session]:
        """A transaction that writes nothing; it creates neither the database nor a schema.

        Raises:
            NoDatabaseError: There is no such database.
        """

    def transaction(self) -> AbstractContextManager[Session]:
        """Commits at the block's end, rolls back on any error, and translates the driver's errors."""

    def replace(self, session: Session, table: str, old: Sequence[Column], new: Sequence[Column]) -> None:
        """Empty a table and give it the columns of ``Dialect.replacement``, in the transaction; its name is quoted."""

    def change_type(self, session: Session, table: str, column: Column, wider: Column) -> Column:
        """Change a column's type; returns the column as it is then. The table's name is not quoted."""


def recreate(session: Session, table: str, columns: Sequence[Column]) -> None:
    """Drop a table and create it again, if both belong to the transaction; its name is quoted."""
    declared = ", ".join(f"{quote(column.name)} {column.declared}" for column in columns)
    session.run(f"DROP TABLE {table}")
    session.run(f"CREATE TABLE {table} ({declared})")


def unique_index(name: str, table: str, keys: Sequence[str]) -> str:
    """The statement that makes keys unique; names are quoted, and the database chooses a name for an empty one."""
    return f"CREATE UNIQUE INDEX {name} ON {table} ({', '.join(keys)})"


def encoded(encode: Callable[_Arguments, _Form], *rows: _Arguments.args, **options: _Arguments.kwargs) -> _Form:
    """Encode rows for a driver.

    Raises:
        BatchRefusedError: The encoder raised. Whatever it raised, the rows are at fault, and must not end the worker.
    """
    try:
        return encode(*rows, **options)
    except TargetError:
        raise
    except Exception as error:
        raise BatchRefusedError(f"a value can't be sent to the database: {error}") from error
