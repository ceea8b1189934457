"""The types of any other database that SQLAlchemy reaches: only types that every one of them has.

What such a type does not tell, a note tells, as a comment behind it: ``BIGINT /* api2db: duration */``. The database
ignores it, and api2db keeps it in a table of its own.
"""

import re
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultDialect

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._rules import (
    Reading,
    Rule,
    Types,
    ValueLimit,
    decimal_type,
    infinite,
    is_exact_decimal,
    is_naive,
    named,
    outside,
)

_types = pa.types
_NOTE = re.compile(r"(.+) /\* api2db: (.+) \*/")
_DECIMAL = re.compile(r"(?:numeric|decimal)\((\d+), ?(\d+)\)", re.IGNORECASE)
_NOTED: dict[str, pa.DataType] = {
    "JSON": JSON,
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "duration": pa.duration("ns"),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamp in UTC": pa.timestamp("us", "UTC"),
    "uint64": pa.uint64(),
}
YEARS = ValueLimit(
    lambda type_: bool(_types.is_date(type_) or _types.is_timestamp(type_)),
    outside("0001-01-01", "9999-12-31"),
    "outside the years 1 to 9999, the range of Python's dates",
)
INFINITE = ValueLimit(
    lambda type_: bool(_types.is_floating(type_)), infinite, "infinity, which not every database can store"
)


def with_note(declared: str, note: str) -> str:
    """Return a column type with a note about what it holds."""
    return f"{declared} /* api2db: {note} */"


def split_note(declared: str) -> tuple[str, str]:
    """Return a column type and its note; an empty one for none."""
    found = _NOTE.fullmatch(declared)
    return (found[1], found[2]) if found else (declared, "")


def noted_type(note: str) -> pa.DataType | None:
    """Return the Arrow type that a note tells; None for no note."""
    found = _DECIMAL.fullmatch(note)
    return decimal_type(int(found[1]), int(found[2])) if found else _NOTED.get(note)


def arrow_type(type_: "sa.types.TypeEngine[Any]") -> pa.DataType:
    """Return the Arrow type for a column type of SQLAlchemy; text if there is no other."""
    if isinstance(type_, sa.Numeric) and not isinstance(type_, sa.Float):
        is_known = type_.precision is not None and type_.precision <= 76
        return decimal_type(int(type_.precision or 0), int(type_.scale or 0)) if is_known else pa.string()
    if isinstance(type_, sa.DateTime):
        return pa.timestamp("us", "UTC" if type_.timezone else None)
    return next((arrow for kind, arrow in _KINDS if isinstance(type_, kind)), pa.string())


_KINDS: tuple[tuple[type, pa.DataType], ...] = (
    (sa.Boolean, pa.bool_()),
    (sa.SmallInteger, pa.int16()),
    (sa.BigInteger, pa.int64()),
    (sa.Integer, pa.int32()),
    (sa.REAL, pa.float32()),
    (sa.Float, pa.float64()),
    (sa.types._Binary, pa.binary()),  # noqa: SLF001 - what BLOB, BINARY and VARBINARY have in common
    (sa.Date, pa.date32()),
    (sa.Time, pa.time64("us")),
)


def sqlalchemy_types(dialect: Dialect, *, keeps_moments: bool = True) -> Types:
    """Return the types of a database, with the names that its dialect gives them.

    Args:
        keeps_moments: Whether its column for a date with a time keeps microseconds; else such values are text.
    """

    def column(type_: "sa.types.TypeEngine[Any]") -> str:
        return str(type_.compile(dialect=dialect))

    text, whole = column(sa.Text()), column(sa.BigInteger())
    moment = column(sa.DateTime()) if keeps_moments else text
    has_decimal, has_boolean = dialect.supports_native_decimal, dialect.supports_native_boolean
    small = column(sa.SmallInteger())
    boolean = column(sa.Boolean()) if has_boolean else with_note(small, "boolean")
    instant: Reading = "UTC, without a zone" if keeps_moments else "ISO text, in UTC"

    def decimal(type_: pa.DataType) -> str:
        digits = f"decimal({type_.precision}, {type_.scale})"
        return column(sa.Numeric(type_.precision, type_.scale)) if has_decimal else with_note(text, digits)

    rules = (
        Rule(is_json, named(with_note(text, "JSON")), "JSON text"),
        Rule(_types.is_boolean, named(boolean), "as it is" if has_boolean else "0 or 1"),
        Rule(lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, named(small)),
        Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named(column(sa.Integer()))),
        Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named(whole)),
        Rule(_types.is_uint64, named(with_note(text, "uint64")), "text of its digits"),
        Rule(_types.is_floating, named(column(sa.Double()))),
        Rule(is_text, named(text)),
        Rule(is_bytes, named(column(sa.LargeBinary()))),
        Rule(is_exact_decimal, decimal, "as it is" if has_decimal else "text of its digits"),
        Rule(_types.is_date, named(column(sa.Date()))),
        Rule(_types.is_time, named(with_note(text, "time")), "ISO text"),
        Rule(
            is_naive,
            named(moment if keeps_moments else with_note(text, "timestamp")),
            "as it is" if keeps_moments else "ISO text",
        ),
        Rule(_types.is_timestamp, named(with_note(moment, "timestamp in UTC")), instant),
        Rule(_types.is_duration, named(with_note(whole, "duration")), "nanoseconds, an int"),
    )
    plain: dict[str, pa.DataType] = {
        small: pa.int16(),
        column(sa.Integer()): pa.int32(),
        whole: pa.int64(),
        column(sa.Double()): pa.float64(),
        column(sa.LargeBinary()): pa.binary(),
        column(sa.Date()): pa.date32(),
        text: pa.string(),
        column(sa.DateTime()): pa.timestamp("us"),
        boolean: pa.bool_(),
    }

    def back(declared: str) -> pa.DataType:
        base, note = split_note(declared)
        return noted_type(note or base) or plain.get(base, pa.string())

    return Types(
        target="Others by SQLAlchemy",
        client="the database's own",
        rules=rules,
        back=back,
        otherwise=text,
        limits=(YEARS, INFINITE),
        has_nan=False,
        names="Kept as they are, in quotes. Names that differ only in case are one column.",
        notes=(
            "The database's dialect of SQLAlchemy names the types.",
            "What a type does not tell, such as that a number is a timedelta, is in the table `_api2db_columns`.",
            "A database whose column for a date with a time loses microseconds stores such values as ISO text.",
            "PostgreSQL, MySQL, MariaDB and SQLite have their own types, of times only those of the years 1 to 9999.",
        ),
    )


def _usual() -> Types:
    dialect = DefaultDialect(supports_native_boolean=True)
    dialect.supports_native_decimal = True
    return sqlalchemy_types(dialect)


SQLALCHEMY = _usual()
