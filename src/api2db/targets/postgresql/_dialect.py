"""The SQL of PostgreSQL: how names are quoted, and what the server's error codes mean."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from api2db.errors import BatchRefusedError
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.postgresql._values import held
from api2db.targets.sql import port
from api2db.targets.sql.port import Dialect, unique_index
from api2db.targets.types import POSTGRESQL

if TYPE_CHECKING:
    import psycopg

_LONGEST_NAME_BYTES = 63
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_NO_DATABASE = "3D000"
_TOO_MANY = "53300"
NAME_TAKEN = "42701"
FORBIDDEN = "42501"
LOCKED = "55P03"
# Classes and codes of PostgreSQL's appendix of error codes that concern rows or the table: data exceptions, broken
# constraints, check options, limits, what triggers raise; binary data of another type, features that are not there,
# types that don't fit, objects that others depend on, names that are taken or that nothing may have, altering a view.
_REFUSED_CLASSES = ("22", "23", "44", "54", "P0")
_REFUSED_CODES = frozenset(
    {"08P01", "0A000", "42804", "42846", "2BP01", "42611", "42P10", "42P16", "428C9"}
) | frozenset({"42602", "42622", "42809", "42939", "42P17"})


def quote(name: str) -> str:
    """A name in double quotes.

    Raises:
        BatchRefusedError: PostgreSQL would truncate it, and so confuse tables or columns.
    """
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        raise BatchRefusedError(f"{name!r} has more than 63 bytes, which PostgreSQL would cut off; rename it")
    return port.quote(name)


def check_column_name(name: str) -> None:
    """Check that a column can have a name.

    Raises:
        BatchRefusedError: PostgreSQL cannot hold it, or each table has a system column of this name.
    """
    if name in _SYSTEM_COLUMNS:
        raise BatchRefusedError(f"{name!r} is the name of a system column of PostgreSQL; rename it")
    quote(name)


def qualified(schema: str | None, table: str) -> str:
    """A table's name with its schema, both quoted; without a schema the name alone, which the search path resolves."""
    return quote(table) if schema is None else f"{quote(schema)}.{quote(table)}"


def dialect_in(schema: str | None) -> Dialect:
    """The SQL for tables in a schema; None for tables that the search path finds."""
    return Dialect(
        types=POSTGRESQL,
        type_of=held,
        exact_text="convert_to({}::text, 'UTF8')",
        quote=quote,
        table=partial(qualified, schema),
        check_column_name=check_column_name,
        locking=" FOR UPDATE",
        schemas="SELECT nspname FROM pg_namespace",
        key_index=partial(unique_index, ""),
        replacement=_replacement,
        shown=_shown,
        descending="DESC NULLS LAST",
        overlaps=True,
    )


def _shown(column: Column, quoted: str) -> str:
    """Dates and times as counts of days and microseconds: Python's end with the year 9999. Infinite ones are null."""
    type_ = column.type
    if pa.types.is_date(type_):
        return f"CASE WHEN isfinite({quoted}) THEN {quoted}::date - DATE '1970-01-01' END"
    if pa.types.is_timestamp(type_):
        seconds = f"extract(epoch FROM date_trunc('second', {quoted}))::bigint * 1000000"
        fraction = f"extract(microseconds FROM {quoted})::bigint % 1000000"
        return f"CASE WHEN isfinite({quoted}) THEN {seconds} + {fraction} END"
    is_text = type_ is None or pa.types.is_null(type_) or is_json(type_) or pa.types.is_string(type_)
    return f"{quoted}::text" if is_text else quoted


def as_shown(column: Column) -> Column:
    """The column as the values of ``Dialect.shown`` are read."""
    if pa.types.is_timestamp(column.type):
        return replace(column, type=pa.timestamp("us", column.type.tz))
    return column


def _replacement(old: Sequence[Column], wanted: Sequence[Column]) -> Sequence[Column]:
    """Columns that the server fills stay; ``replace`` also keeps those that something depends on."""
    by_name = {column.name: column for column in wanted}
    kept = [by_name.pop(column.name, column) for column in old if column.fills or column.name in by_name]
    return [*kept, *by_name.values()]


def is_refused(state: str | None) -> bool:
    """Whether a SQLSTATE says that rows or the table are refused for any user."""
    state = state or ""
    return state.startswith(_REFUSED_CLASSES) or state in _REFUSED_CODES


def is_missing(error: "psycopg.Error") -> bool:
    """Whether the database does not exist.

    Libpq has no code for a refused connection, so the text decides.
    """
    return error.sqlstate == _NO_DATABASE or ("database" in str(error) and "does not exist" in str(error))


def has_no_room(error: "psycopg.Error") -> bool:
    """Whether the server, the database or the user has reached its limit of connections; the text decides, as above."""
    said = str(error)
    return error.sqlstate == _TOO_MANY or any(words in said for words in ("too many c", "remaining connection slots"))
