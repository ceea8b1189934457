"""Databases that api2db does not know: types that every database has, and promises that are tried out first."""

import datetime
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy.engine import Dialect

from api2db.errors import BatchRefusedError, TargetUnavailableError
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.sqlalchemy.backend import Backend
from api2db.targets.types import arrow_type, split_note, sqlalchemy_types

_types = pa.types
_MOMENT = datetime.datetime(1999, 12, 31, 23, 59, 59, 999_999)  # noqa: DTZ001 - the column has no zone


def other_backend(dialect: Dialect, *, keeps_moments: bool) -> Backend:
    """Describe a database by its dialect of SQLAlchemy.

    Args:
        keeps_moments: See ``sqlalchemy_types``.
    """
    types = sqlalchemy_types(dialect, keeps_moments=keeps_moments)
    return Backend(
        types=types,
        type_of=lambda declared: types.back(declared) or pa.string(),
        declared=lambda declared, _column: declared,
        values=_values,
        by_sqlalchemy=True,
        retype=_retype,
        has_notes=True,
        dialect={"exact_text": "{}", "fold": str.lower, "locks_by_update": True},
    )


def _retype(table: str, name: str, column: Column, wider: Column) -> Sequence[str]:
    """As standard SQL has it; a note says that the column's type is not that of its values."""
    if split_note(column.declared)[1] or split_note(wider.declared)[1]:
        raise BatchRefusedError("api2db does not know how this database changes such a type; widen it yourself")
    return [f"ALTER TABLE {table} ALTER COLUMN {name} SET DATA TYPE {wider.declared}"]


def reflected_type(column: Any) -> pa.DataType:
    """The Arrow type of a reflected column without a note."""
    return arrow_type(column["type"])


def keeps_moments(connection: sa.Connection) -> bool:
    """Try out an unknown database in a table of our own, which is dropped.

    Returns:
        Whether its column for a date with a time keeps microseconds.

    Raises:
        TargetUnavailableError: A rollback leaves rows in the table, or a primary key may stand there twice.
    """
    name = f"api2db_probe_{secrets.token_hex(4)}"
    table = sa.Table(name, sa.MetaData(), sa.Column("place", _Key()), sa.Column("moment", sa.DateTime()))
    rows = [{"place": 1, "moment": _MOMENT}]
    try:
        with connection.begin() as transaction:
            table.create(connection)
            connection.execute(table.insert(), rows)
            found = connection.execute(sa.select(table.c.moment)).scalars().all()
            _require_unique(connection, table, rows)
            transaction.rollback()
        _require_rollback(connection, table)
    finally:
        with connection.begin():
            table.drop(connection, checkfirst=True)
    return list(found) == [_MOMENT]


class _Key(sa.types.UserDefinedType[int]):
    """A key as the ledger's table declares its own."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "INTEGER NOT NULL PRIMARY KEY"


def _require_unique(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Two writers that both begin a stream insert the same row into the ledger."""
    try:
        connection.execute(table.insert(), rows)
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated:
            raise
        return
    raise TargetUnavailableError(
        "the database takes two rows with the same primary key, so that two writers could begin a stream and rows could"
        " be doubled; use a database that enforces primary keys"
    )


def require_one_writer(connection: sa.Connection) -> None:
    """Refuse a connection by which the ledger could not tell that there is a second writer.

    Raises:
        TargetUnavailableError: Each statement is a transaction, or the number of rows that an UPDATE has changed is
            unknown.
    """
    if not connection.dialect.supports_sane_rowcount:
        raise TargetUnavailableError(
            "the database's driver does not tell how many rows an UPDATE has changed, so that a second writer could not"
            " be noticed; use another driver"
        )
    if connection.dialect.name != "sqlite" and _commits_each_statement(connection):  # whose transactions we begin
        raise TargetUnavailableError(
            "the connection commits each statement by itself (autocommit), so that rows could be lost or doubled; leave"
            " that option out of url"
        )


def _commits_each_statement(connection: sa.Connection) -> bool:
    driver: Any = connection.connection.dbapi_connection
    try:
        return bool(connection.dialect.detect_autocommit_setting(driver))
    except (AttributeError, NotImplementedError):  # SQLAlchemy before 2.0.43, and dialects that don't know
        return getattr(driver, "autocommit", False) is True


def _require_rollback(connection: sa.Connection, table: sa.Table) -> None:
    with connection.begin():
        if not sa.inspect(connection).has_table(table.name):
            return
        left = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    if left:
        raise TargetUnavailableError(
            "the database does not roll back: a row that was inserted in a transaction is there after its rollback, so"
            " that rows could be lost or doubled; use a database, or a storage engine of it, with transactions"
        )


def _values(column: pa.ChunkedArray, home: Column) -> list[Any]:
    base, note = split_note(home.declared)
    type_ = column.type
    if is_json(type_):
        column = column.cast(pa.string())
    elif _types.is_timestamp(type_) and note:
        column = _noted_moments(column, as_text=not _is_moment(base), zoned=type_.tz is not None)
    elif note:
        column = next((convert(column) for name, convert in _NOTED.items() if note.startswith(name)), column)
    elif _types.is_floating(type_):
        column = pc.if_else(pc.is_nan(column), None, column)
    values: list[Any] = column.to_pylist()
    return values


def _is_moment(base: str) -> bool:
    return "TIME" in base.upper() or "DATE" in base.upper()


def _noted_moments(column: pa.ChunkedArray, *, as_text: bool, zoned: bool) -> pa.ChunkedArray:
    naive = column.cast(pa.timestamp("us"))
    if not as_text:
        return naive
    text = naive.cast(pa.string())
    return pc.binary_join_element_wise(text, "+00:00", "") if zoned else text


_NOTED: dict[str, Callable[[pa.ChunkedArray], pa.ChunkedArray]] = {
    "boolean": lambda column: column.cast(pa.int8()),
    "duration": lambda column: column.cast(pa.duration("ns")).cast(pa.int64()),
    "uint64": lambda column: column.cast(pa.string()),
    "decimal": lambda column: column.cast(pa.string()),
    "time": lambda column: column.cast(pa.string()),
}
