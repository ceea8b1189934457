"""The types of HeavyDB."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import is_bytes, is_json, is_text
from api2db.targets.types._rules import Rule, Types, ValueLimit, is_naive, named

_types = pa.types
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_TEXT = "TEXT ENCODING DICT(32)"
# A decimal there is a 64-bit integer, which limits its digits.
_DIGITS = 18
# Source: the documentation of HEAVY.AI, "Datatypes", on TEXT.
_LONGEST_TEXT_BYTES = 32_767
_RULES = (
    Rule(is_json, named(_TEXT), "JSON text"),
    Rule(is_text, named(_TEXT)),
    Rule(is_bytes, named(_TEXT), "base64 text"),
    Rule(_types.is_boolean, named("BOOLEAN"), "0 or 1"),
    # The smallest number of each type means NULL there. An int8 is likely to use all its numbers, so it is widened.
    Rule(lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, named("SMALLINT")),
    Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named("INTEGER")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("BIGINT")),
    Rule(lambda type_: type_ in {pa.float16(), pa.float32()}, named("FLOAT")),
    Rule(_types.is_floating, named("DOUBLE")),
    Rule(
        lambda type_: bool(_types.is_decimal(type_) and 0 <= type_.scale <= type_.precision <= _DIGITS),
        lambda type_: f"DECIMAL({type_.precision},{type_.scale})",
        "the float nearest to it",
    ),
    Rule(_types.is_date, named("DATE")),
    # TIME has a resolution of seconds, and so has a TIMESTAMP without digits.
    Rule(lambda type_: type_ == pa.time32("s"), named("TIME")),
    Rule(_types.is_time, named(_TEXT), "ISO text"),
    Rule(is_naive, lambda type_: "TIMESTAMP(9)" if type_.unit == "ns" else "TIMESTAMP(6)"),
    Rule(
        _types.is_timestamp,
        lambda type_: "TIMESTAMP(9)" if type_.unit == "ns" else "TIMESTAMP(6)",
        "UTC, without a zone",
    ),
    Rule(_types.is_duration, named("BIGINT"), "nanoseconds, an int"),
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
    # Stored in fewer bytes than their type has.
    "SMALLINT ENCODING FIXED(8)": pa.int8(),
    "INTEGER ENCODING FIXED(8)": pa.int8(),
    "INTEGER ENCODING FIXED(16)": pa.int16(),
    "BIGINT ENCODING FIXED(8)": pa.int8(),
    "BIGINT ENCODING FIXED(16)": pa.int16(),
    "BIGINT ENCODING FIXED(32)": pa.int32(),
}


def from_heavydb(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of HeavyDB; null for a column that no load can fill."""
    name = declared.removesuffix(" NOT NULL")
    if "[" in name:
        return pa.null()
    if found := _DECIMAL.match(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return _BACK.get(name) or _BACK.get(name.partition(" ENCODING")[0], pa.string())


def _smallest(values: pa.Array) -> pa.Array:
    """Find the numbers, or counts of days or ticks, that are the smallest of their type."""
    type_ = values.type
    if _types.is_temporal(type_):
        type_ = pa.int32() if _types.is_date32(type_) else pa.int64()
    return pc.equal(values.cast(type_), pa.scalar(int(np.iinfo(type_.to_pandas_dtype()).min), type_))


def _smallest_normal(values: pa.Array) -> pa.Array:
    return pc.equal(values, pa.scalar(float(np.finfo(values.type.to_pandas_dtype()).tiny), values.type))


def _too_long(values: pa.Array) -> pa.Array:
    return pc.greater(pc.binary_length(values), _LONGEST_TEXT_BYTES)


HEAVYDB = Types(
    target="HeavyDB",
    client="heavydb",
    rules=_RULES,
    back=from_heavydb,
    otherwise=_TEXT,
    limits=(
        ValueLimit(_types.is_integer, _smallest, "the smallest number of the column's type, which means NULL there"),
        ValueLimit(
            _types.is_floating,
            _smallest_normal,
            "the smallest normal number of the column's type, which means NULL there",
        ),
        ValueLimit(_types.is_timestamp, _smallest, "the earliest instant of the column's type, which means NULL there"),
        ValueLimit(_types.is_date, _smallest, "the earliest day of the column's type, which means NULL there"),
        ValueLimit(is_text, _too_long, f"text of more than {_LONGEST_TEXT_BYTES} bytes, HeavyDB's limit"),
    ),
    has_empty_text=False,
    has_mixed=False,
    names="Each gets the suffix `_t`, so that none is a reserved word, and is otherwise kept as it is. Names"
    " that differ only in case are one column. If a name has quotes or control characters, its frame's rows are"
    " rejected.",
    notes=(
        "HeavyDB stores NULL as a value of the type, so a BIGINT can't hold the smallest bigint, -2⁶³.",
        "A decimal of more than 18 digits is text.",
        "A DECIMAL holds all its digits, but the client converts it to a float, which has 15 digits.",
        "A zoned timestamp is stored as its instant in UTC. The client reads a TIMESTAMP(9) as a numpy.datetime64.",
        "In a column of mixed classes, text is stored as it is, without the quotes of JSON.",
    ),
)
