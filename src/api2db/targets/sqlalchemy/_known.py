"""The databases with types of their own: those that api2db's own targets have too, column for column."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from api2db.frames import is_json
from api2db.targets import mysql, postgresql
from api2db.targets.port import Column
from api2db.targets.sql.port import unique_index
from api2db.targets.sqlalchemy.backend import Backend, Reflected, refused_by_class, update_by_join
from api2db.targets.sqlite import values_of
from api2db.targets.types import (
    MARIADB,
    MYSQL,
    POSTGRESQL,
    SQLITE,
    YEARS,
    from_mysql,
    from_postgresql,
    from_sqlite,
    mysql_name,
)

_types = pa.types
_LETTERS = re.compile(r"( character set \w+)?( collate \"?\w+\"?)?$")


def _fold_ascii(name: str) -> str:
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def _temporary(staged: str, columns: str, table: str) -> str:
    return f"CREATE TEMPORARY TABLE {staged} AS SELECT {columns} FROM {table} WHERE 1 = 0"


# PostgreSQL


def _postgresql_type(declared: str) -> pa.DataType:
    return from_postgresql(declared) or pa.string()


def _postgresql_declared(declared: str, _column: Reflected) -> str:
    return declared.lower().replace(", ", ",").replace("varchar", "character varying")


def _postgresql_values(column: pa.ChunkedArray, _home: Column) -> list[Any]:
    """Text where PostgreSQL parses it exactly, because the driver sends it without a type."""
    type_ = column.type
    if is_json(type_):
        column = column.cast(pa.string())
    elif _types.is_timestamp(type_):
        column = column.cast(pa.timestamp("us")).cast(pa.string())
        column = column if type_.tz is None else pc.binary_join_element_wise(column, "+00:00", "")
    elif _types.is_date(type_) or _types.is_time(type_) or _types.is_decimal(type_):
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    return values


def _postgresql_retype(table: str, name: str, column: Column, wider: Column) -> Sequence[str]:
    value = f"{name}::text" if _types.is_string(column.type) else name
    return [f"ALTER TABLE {table} ALTER COLUMN {name} TYPE {wider.declared} USING {value}::{wider.declared}"]


POSTGRESQL_BACKEND = Backend(
    types=replace(POSTGRESQL, limits=(POSTGRESQL.limits[0], YEARS)),
    type_of=_postgresql_type,
    declared=_postgresql_declared,
    values=_postgresql_values,
    on_begin=(
        (
            "SET LOCAL lock_timeout = '10s'; SET LOCAL idle_in_transaction_session_timeout = '30s';"
            " SET LOCAL synchronous_commit = 'on'; SET LOCAL TimeZone = 'UTC'; SET LOCAL statement_timeout = 0"
        ),
    ),
    engine={"paramstyle": "format"},
    temporary=_temporary,
    turns="SELECT pg_advisory_xact_lock(hashtext('api2db'), hashtext(?))",
    retype=_postgresql_retype,
    is_refused=lambda error: refused_by_class(error) or postgresql.is_refused(str(getattr(error.orig, "sqlstate", ""))),
    dialect={
        "exact_text": "convert_to(CAST({} AS text), 'UTF8')",
        "quote": postgresql.quote,
        "check_column_name": postgresql.check_column_name,
        "locking": " FOR UPDATE",
        "schemas": "SELECT nspname FROM pg_namespace",
        "descending": "DESC NULLS LAST",
        "key_index": lambda table, keys: unique_index("", table, keys),
        "fold": str,
        "update_from": update_by_join,
    },
)


# MySQL and MariaDB

_MYSQL_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_BACKSLASH_ESCAPES,"
    "NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', wait_timeout = 30, innodb_lock_wait_timeout = 10,"
    " lock_wait_timeout = 10, default_storage_engine = InnoDB, sql_safe_updates = 0, sql_select_limit = DEFAULT"
)
_WITHOUT_TRANSACTIONS = (
    "SELECT TABLE_NAME, ENGINE FROM information_schema.TABLES JOIN information_schema.ENGINES USING (ENGINE)"
    " WHERE TABLE_SCHEMA = coalesce(?, DATABASE()) AND TABLE_NAME IN ({}) AND TRANSACTIONS <> 'YES'"
)
_JSON_COLUMNS = (
    "SELECT CONSTRAINT_NAME FROM information_schema.CHECK_CONSTRAINTS WHERE"
    " CONSTRAINT_SCHEMA = coalesce(?, DATABASE()) AND TABLE_NAME = ? AND CHECK_CLAUSE LIKE 'json_valid(%'"
)


def _mysql_declared(declared: str, column: Reflected) -> str:
    if declared.startswith(("ENUM", "SET")):
        return declared
    name = _LETTERS.sub("", declared.lower().replace(", ", ","))
    name = re.sub(r"^integer", "int", name)
    return mysql_name(name, str(column.get("comment") or ""))


def _mysql_key(collation: str, declared: str) -> str:
    if declared == "longtext":
        return f"varchar(255) COLLATE {collation}"
    return "varbinary(255)" if declared == "longblob" else declared


def _mysql_table(table: str, columns: Sequence[str], keys: Sequence[str] = ()) -> str:
    unique = [f"UNIQUE KEY ({', '.join(keys)})"] if keys else []
    return f"CREATE TABLE {table} ({', '.join([*columns, *unique])}) CHARACTER SET utf8mb4"


def _mysql_retype(table: str, name: str, _column: Column, wider: Column) -> Sequence[str]:
    return [f"ALTER TABLE {table} MODIFY COLUMN {name} {wider.declared}"]


def _mysql_join(table: str, staged: str, keys: Sequence[str]) -> str:
    return f"{table} old JOIN {staged} new ON {' AND '.join(f'old.{key} = new.{key}' for key in keys)}"


def _mysql_update(table: str, staged: str, values: Sequence[str], keys: Sequence[str]) -> str:
    return f"UPDATE {_mysql_join(table, staged, keys)} SET {', '.join(f'old.{each} = new.{each}' for each in values)}"


MYSQL_BACKEND = Backend(
    types=MYSQL,
    type_of=from_mysql,
    declared=_mysql_declared,
    values=lambda column, _home: mysql.plain_values(column),
    on_connect=(_MYSQL_SESSION,),
    engine={"isolation_level": "REPEATABLE READ"},
    temporary=_temporary,
    drop_temporary="DROP TEMPORARY TABLE",
    retype=_mysql_retype,
    may_drop=False,
    is_refused=lambda error: refused_by_class(error) or mysql.is_refused(error.orig or error),
    without_transactions=_WITHOUT_TRANSACTIONS,
    dialect={
        "exact_text": "CAST({} AS BINARY)",
        "quote": mysql.quote,
        "check_column_name": mysql.check_column_name,
        "fold": mysql.fold,
        "key_type": lambda declared: _mysql_key("utf8mb4_0900_bin", declared),
        "locking": " FOR UPDATE",
        "current": " FOR UPDATE",
        "schemas": "SHOW DATABASES",
        "update_from": _mysql_update,
        "create_table": _mysql_table,
        "key_index": lambda _table, _keys: None,
    },
)
MARIADB_BACKEND = replace(
    MYSQL_BACKEND,
    types=MARIADB,
    json_columns=_JSON_COLUMNS,
    dialect={**MYSQL_BACKEND.dialect, "key_type": lambda declared: _mysql_key("utf8mb4_nopad_bin", declared)},
)


# SQLite


def _sqlite_retype(table: str, name: str, column: Column, wider: Column) -> Sequence[str]:
    """SQLite cannot alter a type, so the column is created again, and becomes the last."""
    value = "_api2db_old"
    if _types.is_date(column.type) and _types.is_timestamp(wider.type):
        value = "_api2db_old || ' 00:00:00.000000'"
    return [
        f"ALTER TABLE {table} RENAME COLUMN {name} TO _api2db_old",
        f"ALTER TABLE {table} ADD COLUMN {name} {wider.declared}",
        f"UPDATE {table} SET {name} = {value} WHERE _api2db_old IS NOT NULL",
        f"ALTER TABLE {table} DROP COLUMN _api2db_old",
    ]


def _sqlite_refused(error: sa.exc.DBAPIError) -> bool:
    is_plain = getattr(error.orig, "sqlite_errorname", "") == "SQLITE_ERROR"
    return refused_by_class(error) or (is_plain and "no such" not in str(error.orig))


SQLITE_BACKEND = Backend(
    types=replace(SQLITE, limits=(YEARS,)),
    type_of=from_sqlite,
    declared=lambda declared, _column: declared,
    values=lambda column, _home: values_of(column),
    on_connect=("PRAGMA busy_timeout = 2000", "PRAGMA synchronous = FULL"),
    temporary=_temporary,
    retype=_sqlite_retype,
    is_refused=_sqlite_refused,
    fingerprint="PRAGMA schema_version",
    arrival="rowid DESC",
    creates_schemas=False,
    dialect={
        "exact_text": "CAST({} AS BLOB)",
        "fold": _fold_ascii,
        "update_from": update_by_join,
    },
)
