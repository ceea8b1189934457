"""The types of Oracle Database. Source: "Data Types" in Oracle's SQL Language Reference."""

import re

import pyarrow as pa

from api2db.frames import is_bytes, is_json, is_text
from api2db.targets.types._rules import Rule, Types, decimal_type, is_exact_decimal, is_naive, named
from api2db.targets.types._sqlalchemy import YEARS, noted_type, split_note, with_note

_types = pa.types
_NUMBER = re.compile(r"NUMBER\((\d+), ?(\d+)\)")
_INTEGERS = {5: pa.int16(), 10: pa.int32(), 19: pa.int64()}
_RULES = (
    Rule(is_json, named(with_note("CLOB", "JSON")), "JSON text"),
    Rule(_types.is_boolean, named(with_note("NUMBER(1, 0)", "boolean")), "0 or 1"),
    Rule(lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, named("NUMBER(5, 0)")),
    Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named("NUMBER(10, 0)")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("NUMBER(19, 0)")),
    Rule(_types.is_uint64, named("NUMBER(20, 0)")),
    Rule(_types.is_floating, named("BINARY_DOUBLE")),
    Rule(is_text, named("CLOB")),
    Rule(is_bytes, named("BLOB")),
    Rule(
        lambda type_: is_exact_decimal(type_) and 0 <= type_.scale <= type_.precision,
        lambda type_: f"NUMBER({type_.precision}, {type_.scale})",
    ),
    Rule(_types.is_date, named(with_note("DATE", "date"))),
    Rule(_types.is_time, named(with_note("VARCHAR2(20 CHAR)", "time")), "ISO text"),
    Rule(is_naive, named("TIMESTAMP")),
    Rule(_types.is_timestamp, named("TIMESTAMP WITH TIME ZONE")),
    Rule(_types.is_duration, named(with_note("NUMBER(19, 0)", "duration")), "nanoseconds, an int"),
)
_BACK = {
    "BINARY_DOUBLE": pa.float64(),
    "BINARY_FLOAT": pa.float32(),
    "BLOB": pa.binary(),
    "DATE": pa.timestamp("s"),  # which has a time
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
}


def from_oracle(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of Oracle; text if there is no other."""
    base, note = split_note(declared)
    if note:
        return noted_type(note) or pa.string()
    if found := _NUMBER.fullmatch(base):
        digits, scale = int(found[1]), int(found[2])
        return decimal_type(digits, scale) if scale or digits not in _INTEGERS else _INTEGERS[digits]
    return pa.binary() if base.startswith("RAW(") else _BACK.get(base, pa.string())


ORACLE = Types(
    target="Oracle",
    client="oracledb",
    rules=_RULES,
    back=from_oracle,
    otherwise="CLOB",
    limits=(YEARS,),
    has_empty_text=False,
    names="Kept as they are, in quotes: `id` and `ID` are two columns, and SQL that selects `id` has to quote it."
    " A name has at most 128 bytes, without double quotes.",
    notes=(
        "This is from Oracle's documentation. It has not run on a real server yet.",
        "Empty text and empty bytes are NULL in Oracle.",
        "A DATE of Oracle has a time too: a date is stored at midnight, and the client returns a datetime.",
        "That a NUMBER is a boolean or a timedelta, a CLOB JSON and the like, is in the table `_api2db_columns`.",
    ),
)
