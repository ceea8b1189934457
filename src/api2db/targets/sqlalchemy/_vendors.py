"""SQL Server and Oracle: experimental, because no server of theirs has run these statements yet.

Sources: "Transact-SQL reference" at learn.microsoft.com, and Oracle's "SQL Language Reference".
"""

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from api2db.errors import BatchRefusedError
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.sqlalchemy.backend import Backend, Reflected, refused_by_class
from api2db.targets.types import MICROSOFT_SQL, ORACLE, from_microsoft_sql, from_oracle, split_note

_types = pa.types
_LONGEST_NAME = 128
_CLUSTER = re.compile(r" COLLATE \S+$")
# Codes of Oracle's "Database Error Messages" that refuse a row, a column or a table for any user: constraints, missing
# and too large values, numbers and dates that are none, names and lengths that can't be, types that can't change.
_ORACLE_REFUSES = frozenset(
    {1, 910, 972, 1400, 1401, 1407, 1438, 1439, 1440, 1441, 1451, 1722, 1839, 1847, 1861, 2290, 2291, 2292}
    | {2327, 12899, 22835, 22858, 22859, 26002}
)


def _vendor_values(column: pa.ChunkedArray, home: Column) -> list[Any]:
    """Times and decimals as text, which the server converts by its own rules, not the driver by guess."""
    type_, note = column.type, split_note(home.declared)[1]
    if is_json(type_):
        column = column.cast(pa.string())
    elif _types.is_timestamp(type_):
        column = column.cast(pa.timestamp("us")).cast(pa.string())
        column = column if type_.tz is None else pc.binary_join_element_wise(column, "+00:00", "")
    elif _types.is_duration(type_):
        column = column.cast(pa.duration("ns")).cast(pa.int64())
    elif _types.is_boolean(type_) and note:
        column = column.cast(pa.int8())
    elif any(is_kind(type_) for is_kind in (_types.is_date, _types.is_time, _types.is_decimal)):
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    return values


def _microsoft_values(column: pa.ChunkedArray, home: Column) -> list[Any]:
    if _types.is_floating(column.type):  # SQL Server has no NaN
        column = pc.if_else(pc.is_nan(column), None, column)
    return _vendor_values(column, home)


def _cast_to_type(column: Column, mark: "sa.BindParameter[Any]") -> "sa.ColumnElement[Any]":
    """Cast in SQL: a driver sends nulls as text, which SQL Server does not convert to every type by itself."""
    declared = split_note(column.declared)[0]
    return sa.cast(mark, _Written(declared))


class _Written(sa.types.UserDefinedType[Any]):
    """A type as the database writes it."""

    cache_ok = True

    def __init__(self, declared: str) -> None:
        self.declared = declared

    def get_col_spec(self, **_options: Any) -> str:
        return self.declared


def _microsoft_declared(declared: str, _column: Reflected) -> str:
    declared = _CLUSTER.sub("", declared)
    return "FLOAT(53)" if declared in {"FLOAT", "DOUBLE PRECISION"} else declared


def _microsoft_key(declared: str) -> str:
    if declared == "NVARCHAR(max)":
        return "NVARCHAR(255) COLLATE Latin1_General_100_BIN2"
    return "VARBINARY(255)" if declared == "VARBINARY(max)" else declared


def _microsoft_update(table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
    same = " AND ".join(f"old.{key} = new.{key}" for key in keys)
    sets = ", ".join(f"old.{value} = new.{value}" for value in values)
    return f"UPDATE old SET {sets} FROM {table} old JOIN {staged} new ON {same}"


def _microsoft_temporary(staged: str, columns: str, table: str) -> str:
    """The union keeps SELECT INTO from making an identity of a column."""
    nothing = f"FROM {table} WHERE 1 = 0"
    return f"SELECT {columns} INTO {staged} {nothing} UNION ALL SELECT {columns} {nothing}"


MICROSOFT_SQL_BACKEND = Backend(
    types=MICROSOFT_SQL,
    type_of=from_microsoft_sql,
    declared=_microsoft_declared,
    values=_microsoft_values,
    retype=lambda table, name, _column, wider: [
        f"ALTER TABLE {table} ALTER COLUMN {name} {split_note(wider.declared)[0]}"
    ],
    sent=_cast_to_type,
    on_begin=("SET XACT_ABORT ON", "SET LOCK_TIMEOUT 10000"),
    temporary=_microsoft_temporary,
    staged="#api2db_staged",
    turns=(
        "DECLARE @taken int; EXEC @taken = sp_getapplock @Resource = ?, @LockMode = 'Exclusive',"
        " @LockOwner = 'Transaction'; IF @taken < 0 THROW 50000, 'another stream holds the table', 1"
    ),
    has_notes=True,
    dialect={
        "exact_text": "CAST({} AS VARBINARY(MAX))",
        "fold": str.lower,
        "key_type": _microsoft_key,
        "lock_hint": " WITH (UPDLOCK, HOLDLOCK)",
        "own_type": lambda declared: declared.replace("VARCHAR", "NVARCHAR"),
        "schemas": "SELECT name FROM sys.schemas",
        "update_from": _microsoft_update,
    },
)


def _oracle_quote(name: str) -> str:
    if not name or "\0" in name or '"' in name or len(name.encode()) > _LONGEST_NAME:
        raise BatchRefusedError(
            f"Oracle can't hold the name {name!r}: it must have 1 to 128 bytes, no double quote and no NUL; rename it"
        )
    return f'"{name}"'


def _oracle_sent(column: Column, mark: "sa.BindParameter[Any]") -> "sa.ColumnElement[Any]":
    """Parse in SQL with a format, because the session's own format of dates may be any."""
    base, note = split_note(column.declared)
    function, form = _ORACLE_FORMS.get(base, ("", ""))
    if column.type is not None and _types.is_decimal(column.type) and not note:
        return sa.cast(mark, _Written(base))
    return getattr(sa.func, function)(mark, sa.literal_column(f"'{form}'")) if function else mark


_ORACLE_FORMS = {
    "DATE": ("to_date", "YYYY-MM-DD"),
    "TIMESTAMP": ("to_timestamp", "YYYY-MM-DD HH24:MI:SS.FF6"),
    "TIMESTAMP WITH TIME ZONE": ("to_timestamp_tz", "YYYY-MM-DD HH24:MI:SS.FF6TZH:TZM"),
}


def _oracle_declared(declared: str, _column: Reflected) -> str:
    return "NUMBER(38, 0)" if declared == "INTEGER" else declared


def _oracle_key(declared: str) -> str:
    return {"CLOB": "VARCHAR2(255 CHAR)", "BLOB": "RAW(255)"}.get(declared, declared)


def _oracle_own(declared: str) -> str:
    if declared == "BIGINT":
        return "NUMBER(19, 0)"
    return declared.replace("VARCHAR(", "VARCHAR2(").replace(")", " CHAR)")


def _oracle_refused(error: sa.exc.DBAPIError) -> bool:
    first = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return refused_by_class(error) or getattr(first, "code", None) in _ORACLE_REFUSES


ORACLE_BACKEND = Backend(
    types=ORACLE,
    type_of=from_oracle,
    declared=_oracle_declared,
    values=_vendor_values,
    retype=lambda table, name, _column, wider: [f"ALTER TABLE {table} MODIFY ({name} {split_note(wider.declared)[0]})"],
    sent=_oracle_sent,
    on_connect=("ALTER SESSION SET ddl_lock_timeout = 10",),
    is_refused=_oracle_refused,
    creates_schemas=False,
    has_notes=True,
    dialect={
        "exact_text": "{}",
        "quote": _oracle_quote,
        "fold": str,
        "key_type": _oracle_key,
        "locking": " FOR UPDATE",
        "own_type": _oracle_own,
        "unnamed": " ",
        "schemas": "SELECT username FROM all_users",
        "descending": "DESC NULLS LAST",
    },
)
