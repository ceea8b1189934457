"""What differs between databases that SQLAlchemy reaches, and how each statement is written by default."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Dialect as Engine

from api2db.errors import BatchRefusedError
from api2db.targets.port import Column
from api2db.targets.types import Types

Reflected = Mapping[str, Any]


def refused_by_class(error: sa.exc.DBAPIError) -> bool:
    """Whether the driver says that data or a constraint is at fault, by its class of error or its SQLSTATE."""
    state = str(getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or "")
    return isinstance(error, sa.exc.DataError | sa.exc.IntegrityError) or state[:2] in {"22", "23", "44"}


def _mark(_column: Column, mark: "sa.BindParameter[Any]") -> "sa.ColumnElement[Any]":
    return mark


def update_by_subqueries(table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
    """The UPDATE of standard SQL, which every database has."""
    same = " AND ".join(f"new.{key} = {table}.{key}" for key in keys)
    sets = ", ".join(f"{value} = (SELECT new.{value} FROM {staged} new WHERE {same})" for value in values)
    return f"UPDATE {table} SET {sets} WHERE EXISTS (SELECT 1 FROM {staged} new WHERE {same})"


def update_by_join(table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
    """The UPDATE of PostgreSQL and SQLite, which reads the staged rows once."""
    same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
    sets = ", ".join(f"{value} = new.{value}" for value in values)
    return f"UPDATE {table} AS old SET {sets} FROM {staged} new WHERE {same}"


@dataclass(frozen=True, slots=True)
class Backend:
    """One kind of database.

    Attributes:
        types: Its column types.
        type_of: The Arrow type of a declared type.
        declared: The declared type of a reflected column, given its type as the dialect writes it.
        values: The values of an Arrow column as the driver takes them for a column of the table.
        retype: The statements that change a column's type, given the quoted table, the quoted column and both columns.
        by_sqlalchemy: Whether values go through the types of SQLAlchemy, which know the driver.
        sent: What an INSERT has for a value.
        on_connect: Statements that a new connection runs.
        on_begin: Statements that begin each transaction.
        engine: Arguments of ``create_engine``.
        temporary: The statement that creates an empty temporary table like columns of another; None for a permanent
            staging table.
        staged: The name of that table.
        drop_temporary: What drops it, without ending the transaction.
        turns: The statement by which streams that upsert into a table wait for each other; its value is the table.
        may_drop: Whether triggers can silently exclude rows.
        is_refused: Whether an error refuses rows or the table for any user.
        without_transactions: The query for the engines of tables, by name, that have no transactions.
        json_columns: The query for the columns of a table that hold JSON, although their type does not say so.
        fingerprint: The query whose result changes when any table does; empty to ask the table itself.
        arrival: The ORDER BY list for rows as they were added, newest first; empty if tables do not tell.
        creates_schemas: Whether a missing schema is created.
        has_notes: Whether types need notes.
        dialect: Fields of the dialect that differ from the default.
    """

    types: Types
    type_of: Callable[[str], pa.DataType]
    declared: Callable[[str, Reflected], str]
    values: Callable[[Any, Column], list[Any]]
    retype: Callable[[str, str, Column, Column], Sequence[str]]
    by_sqlalchemy: bool = False
    sent: Callable[[Column, "sa.BindParameter[Any]"], "sa.ColumnElement[Any]"] = _mark
    on_connect: Sequence[str] = ()
    on_begin: Sequence[str] = ()
    engine: Mapping[str, Any] = field(default_factory=dict)
    temporary: Callable[[str, str, str], str] | None = None
    staged: str = "_api2db_staged"
    drop_temporary: str = "DROP TABLE"
    turns: str = ""
    may_drop: bool = True
    is_refused: Callable[[sa.exc.DBAPIError], bool] = refused_by_class
    without_transactions: str = ""
    json_columns: str = ""
    fingerprint: str = ""
    arrival: str = ""
    creates_schemas: bool = True
    has_notes: bool = False
    dialect: Mapping[str, Any] = field(default_factory=dict)


def _bytes_of(name: str) -> int:
    return len(name.encode())


def quote_in(engine: Engine) -> Callable[[str], str]:
    """The function that quotes a name for a dialect of SQLAlchemy."""
    preparer = engine.identifier_preparer
    longest = engine.max_identifier_length
    # A longer name may be cut off without an error. SQL Server counts characters; others are taken to count bytes.
    size = len if engine.name == "mssql" else _bytes_of

    def quote(name: str) -> str:
        if not name or "\0" in name or size(name) > longest:
            raise BatchRefusedError(
                f"the database can't hold the name {name!r}: it must be no longer than {longest}, not empty and without"
                " NUL; rename it"
            )
        quoted = str(preparer.quote_identifier(name))
        doubles = preparer._double_percents  # noqa: SLF001 - done again by a statement that has the name
        return quoted.replace("%%", "%") if doubles else quoted

    return quote
