"""The types of PostgreSQL."""

import re

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._rules import (
    LONGEST_DECIMAL,
    SECONDS,
    Rule,
    Types,
    ValueLimit,
    coarser,
    decimal_type,
    is_exact_decimal,
    is_naive,
    named,
    outside,
    with_nul,
)

_types = pa.types
_NUMERIC = re.compile(r"numeric\((\d+),\s*(\d+)\)")
# Parameters that do not change the type to send: a length, and six digits of a second, the maximum.
_LENGTH = re.compile(r"^(character varying(?=\(\d+\)$)|(?:timestamp|time|interval)(?=\(6\)))\(\d+\)")
_MOST_DIGITS = 76
_ANY_NUMERIC = pa.decimal256(_MOST_DIGITS, LONGEST_DECIMAL)

_RULES = (
    Rule(is_json, named("jsonb"), "parsed JSON"),
    Rule(_types.is_boolean, named("boolean")),
    Rule(lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, named("smallint")),
    Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named("integer")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("bigint")),
    Rule(_types.is_uint64, named("numeric(20,0)"), "Decimal"),
    Rule(lambda type_: type_ in {pa.float16(), pa.float32()}, named("real"), "shortest digits of a float32"),
    Rule(_types.is_floating, named("double precision")),
    Rule(is_text, named("text")),
    Rule(is_bytes, named("bytea")),
    Rule(is_exact_decimal, lambda type_: f"numeric({type_.precision},{type_.scale})"),
    Rule(_types.is_date, named("date")),
    Rule(_types.is_time, named("time without time zone")),
    Rule(is_naive, named("timestamp without time zone")),
    Rule(_types.is_timestamp, named("timestamp with time zone")),
    Rule(_types.is_duration, named("interval")),
)
_BACK = {
    "jsonb": JSON,
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "text": pa.string(),
    "character varying": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "time without time zone": pa.time64("us"),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
    "interval": pa.duration("us"),
}


def from_postgresql(declared: str) -> pa.DataType | None:
    """Return the Arrow type that binary COPY takes for a column; None for a type that only SQL can cast text to."""
    if declared == "numeric":
        return _ANY_NUMERIC
    found = _NUMERIC.fullmatch(declared)
    if found and int(found[1]) <= _MOST_DIGITS:
        return decimal_type(int(found[1]), int(found[2]))
    if coarse := SECONDS.fullmatch(declared):
        return coarser(_BACK.get(f"{coarse[1]}{coarse[3]}"), int(coarse[2]))
    return _BACK.get(_LENGTH.sub(r"\1", declared))


POSTGRESQL = Types(
    target="PostgreSQL",
    client="psycopg",
    rules=_RULES,
    back=from_postgresql,
    otherwise="text",
    limits=(
        ValueLimit(
            lambda type_: is_text(type_) or is_json(type_),
            with_nul,
            "text with a NUL character, which PostgreSQL can't store",
        ),
        ValueLimit(
            lambda type_: bool(_types.is_timestamp(type_)),
            outside("-4712-01-01", "294276-12-31"),
            "an instant outside the years 4713 BC to 294276, the range of PostgreSQL",
        ),
        ValueLimit(
            _types.is_date,
            outside("-4712-01-01", "5874897-12-31"),
            "a date outside the years 4713 BC to 5874897, the range of PostgreSQL",
        ),
    ),
    names="Kept as they are, in quotes: `id`, `ID` and `Id` are three columns, and SQL that selects `ID` has to quote"
    " it. A name has at most 63 bytes; rows with a value under a longer name are rejected.",
    notes=(
        "A zoned timestamp is stored as its instant; the name of its zone is not kept.",
        "jsonb keeps the values of JSON, not its text: the order of keys may change, and -0.0 becomes 0.0.",
    ),
)
