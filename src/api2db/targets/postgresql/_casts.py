"""Types of which binary COPY takes no values of ours: what is sent for them, and what a cast changes of it."""

import re

import pyarrow as pa

from api2db.targets.types import from_postgresql

# Types of which binary COPY takes nothing of ours, though numbers have a cast to them.
_BY_CAST = {"oid": pa.uint32(), "money": pa.decimal128(19, 2)}
# Types, and arrays of them, that may spell a value otherwise, say without a space, and lose nothing of it.
_RESPELLED = frozenset(
    {
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "text",
        "character varying",
        "bytea",
        "bit varying",
        '"bit"',
    }
    | {"uuid", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "interval", "time with time zone"}
    | {"json", "jsonb", "jsonpath", "xml", "tsvector", "tsquery", "int4range", "int8range", "numrange", "daterange"}
)
_WIDE = re.compile(r"numeric\(\d+,-?\d+\)")


def held(base: str) -> pa.DataType:
    """The type to send for a column of a type that is no domain; text where only text can be cast to it."""
    if is_array(base):
        return pa.list_(held(base.removesuffix("[]")))
    type_ = from_postgresql(base) or _BY_CAST.get(base, pa.string())
    return from_postgresql("numeric") if pa.types.is_string(type_) and _WIDE.fullmatch(base) else type_


def is_array(base: str) -> bool:
    """Whether a type is an array, for which PostgreSQL reads text too: its own form of one."""
    return base.endswith("[]")


def is_copied(base: str) -> bool:
    """Whether COPY takes values in a type that is no domain."""
    type_ = from_postgresql(base)
    return type_ is not None and not pa.types.is_decimal256(type_)


def respells(base: str) -> bool:
    """Whether a type may spell a value otherwise, and loses nothing of it."""
    return base.removesuffix("[]") in _RESPELLED


def changed(name: str, cast: str, base: str, *, respelled: bool) -> str:
    """The condition that a cast has changed what was sent."""
    if base == "oid":
        return "false"  # its cast from a number tells what does not fit
    if base in {"numeric", "money"}:
        return f"{cast}::numeric IS DISTINCT FROM {name}::numeric"
    condition = f"{cast}::text IS DISTINCT FROM {name}"
    return f"{condition} AND {cast}::text IS DISTINCT FROM {name}::{base}::text" if respelled else condition
