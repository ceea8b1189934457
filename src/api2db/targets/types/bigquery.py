"""BigQuery's types; what they make of values stands on its own page."""

import re
from collections.abc import Sequence

import pyarrow as pa

from api2db.frames import JSON, is_json
from api2db.targets.types.rules import LONGEST_DECIMAL, Rule, by_rule, is_bytes, is_naive, is_text, named

__all__ = ["BIGQUERY_DURATION", "bigquery_type", "from_bigquery"]

_types = pa.types
_MOST_DIGITS = 76
BIGQUERY_DURATION = "INTEGER nanoseconds"
_RULES: Sequence[Rule] = (
    Rule(is_json, named("JSON")),
    Rule(_types.is_boolean, named("BOOLEAN")),
    Rule(_types.is_uint64, named("NUMERIC")),
    Rule(_types.is_integer, named("INTEGER")),
    Rule(_types.is_floating, named("FLOAT")),
    Rule(is_text, named("STRING")),
    Rule(is_bytes, named("BYTES")),
    Rule(lambda type_: _is_within(type_, 29, 9), named("NUMERIC")),
    Rule(lambda type_: _is_within(type_, 38, 38), named("BIGNUMERIC")),
    Rule(_types.is_date, named("DATE")),
    Rule(_types.is_time, named("TIME")),
    Rule(is_naive, named("DATETIME")),
    Rule(_types.is_timestamp, named("TIMESTAMP")),
    Rule(_types.is_duration, named(BIGQUERY_DURATION)),
)
_BACK = {
    "JSON": JSON,
    "BOOLEAN": pa.bool_(),
    "BOOL": pa.bool_(),
    "INTEGER": pa.int64(),
    "INT64": pa.int64(),
    "FLOAT": pa.float64(),
    "FLOAT64": pa.float64(),
    "STRING": pa.string(),
    "GEOGRAPHY": pa.string(),
    "INTERVAL": pa.string(),
    "BYTES": pa.binary(),
    "NUMERIC": pa.decimal128(LONGEST_DECIMAL, 9),
    "BIGNUMERIC": pa.decimal256(_MOST_DIGITS, LONGEST_DECIMAL),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    BIGQUERY_DURATION: pa.duration("ns"),
}
_REPEATABLE = {"BOOLEAN", "INTEGER", "FLOAT", "STRING"}  # what a list within a JSON cell can be told to be
_ARRAY = re.compile(r"ARRAY<(\w+)>")
_NUMERIC = re.compile(r"(BIG)?NUMERIC\((\d+), (\d+)\)")


def _is_within(type_: pa.DataType, whole: int, fraction: int) -> bool:
    return bool(_types.is_decimal(type_) and 0 <= type_.scale <= fraction and type_.precision - type_.scale <= whole)


def bigquery_type(type_: pa.DataType) -> str | None:
    """The column type, as its REST interface names it, that BigQuery gives an Arrow type; None for nulls."""
    return by_rule(_RULES, type_, "STRING")


def from_bigquery(declared: str) -> pa.DataType:
    """The Arrow type that holds what a column of BigQuery holds; nulls for one that we write nothing else into.

    Source: "Supported Apache Arrow data types" in Google's description of the Storage Write API.
    """
    if found := _NUMERIC.fullmatch(declared):
        kind = pa.decimal256 if found[1] else pa.decimal128
        return kind(int(found[2]), int(found[3]))
    if found := _ARRAY.fullmatch(declared):
        element = _BACK.get(found[1])
        return pa.list_(element) if found[1] in _REPEATABLE and element is not None else pa.null()
    return _BACK.get(declared.partition("(")[0], pa.null())
