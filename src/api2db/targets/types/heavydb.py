"""HeavyDB's types; what they make of values stands on its own page."""

import re
from collections.abc import Sequence

import pyarrow as pa

from api2db.targets.types.rules import Rule, by_rule, named

__all__ = ["from_heavydb", "heavydb_type"]

_types = pa.types
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_TEXT = "TEXT ENCODING DICT(32)"
# A decimal there is a 64-bit integer; and a column of it takes no digits more than these.
_DIGITS = 18
_RULES: Sequence[Rule] = (
    Rule(_types.is_boolean, named("BOOLEAN")),
    # The smallest number of each type means NULL there, so an int8, of which all numbers are likely, has a wider one.
    Rule(lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, named("SMALLINT")),
    Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named("INTEGER")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("BIGINT")),
    Rule(lambda type_: type_ in {pa.float16(), pa.float32()}, named("FLOAT")),
    Rule(_types.is_floating, named("DOUBLE")),
    Rule(
        lambda type_: bool(_types.is_decimal(type_) and 0 <= type_.scale <= type_.precision <= _DIGITS),
        lambda type_: f"DECIMAL({type_.precision},{type_.scale})",
    ),
    Rule(_types.is_date, named("DATE")),
    # TIME ends at seconds, and a TIMESTAMP without digits does too.
    Rule(lambda type_: type_ == pa.time32("s"), named("TIME")),
    Rule(_types.is_timestamp, lambda type_: "TIMESTAMP(9)" if type_.unit == "ns" else "TIMESTAMP(6)"),
    Rule(_types.is_duration, named("BIGINT")),
)
_BACK = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "DATE": pa.date32(),
    "TIME": pa.time32("s"),
    "TIMESTAMP(0)": pa.timestamp("s"),
    "TIMESTAMP(3)": pa.timestamp("ms"),
    "TIMESTAMP(6)": pa.timestamp("us"),
    "TIMESTAMP(9)": pa.timestamp("ns"),
    # Kept in fewer bytes than their type has.
    "SMALLINT ENCODING FIXED(8)": pa.int8(),
    "INTEGER ENCODING FIXED(8)": pa.int8(),
    "INTEGER ENCODING FIXED(16)": pa.int16(),
    "BIGINT ENCODING FIXED(8)": pa.int8(),
    "BIGINT ENCODING FIXED(16)": pa.int16(),
    "BIGINT ENCODING FIXED(32)": pa.int32(),
}


def heavydb_type(type_: pa.DataType) -> str | None:
    """The column type that HeavyDB gives an Arrow type; None for a column of nulls."""
    return by_rule(_RULES, type_, _TEXT)


def from_heavydb(declared: str) -> pa.DataType:
    """The Arrow type that holds what a column of HeavyDB holds; null for what no load can fill."""
    name = declared.removesuffix(" NOT NULL")
    if "[" in name:
        return pa.null()
    if found := _DECIMAL.match(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return _BACK.get(name) or _BACK.get(name.partition(" ENCODING")[0], pa.string())
