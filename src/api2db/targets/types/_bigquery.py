"""The types of BigQuery."""

import re

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._rules import (
    LONGEST_DECIMAL,
    Rule,
    Types,
    ValueLimit,
    is_naive,
    named,
    nested_beyond,
    outside,
    rounded_as_double,
)

_types = pa.types
_MOST_DIGITS = 76
BIGQUERY_DURATION = "INTEGER nanoseconds"
_RULES = (
    Rule(is_json, named("JSON"), "parsed JSON"),
    Rule(_types.is_boolean, named("BOOLEAN")),
    Rule(_types.is_uint64, named("NUMERIC"), "Decimal"),
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
    Rule(_types.is_duration, named(BIGQUERY_DURATION), "nanoseconds, an int"),
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
_REPEATABLE = {"BOOLEAN", "INTEGER", "FLOAT", "STRING"}  # item types that a list in a JSON cell can be read as
_ARRAY = re.compile(r"ARRAY<(\w+)>")
_NUMERIC = re.compile(r"(BIG)?NUMERIC\((\d+), (\d+)\)")


def _is_within(type_: pa.DataType, whole: int, fraction: int) -> bool:
    return bool(_types.is_decimal(type_) and 0 <= type_.scale <= fraction and type_.precision - type_.scale <= whole)


def from_bigquery(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of BigQuery; null for a column that api2db writes only nulls to.

    Source: "Supported Apache Arrow data types" in Google's description of the Storage Write API.
    """
    if found := _NUMERIC.fullmatch(declared):
        kind = pa.decimal256 if found[1] else pa.decimal128
        return kind(int(found[2]), int(found[3]))
    if found := _ARRAY.fullmatch(declared):
        element = _BACK.get(found[1])
        if found[1] not in _REPEATABLE or element is None:
            return pa.null()
        return pa.list_(pa.field("item", element, nullable=False))
    return _BACK.get(declared.partition("(")[0], pa.null())


BIGQUERY = Types(
    target="BigQuery",
    client="google-cloud-bigquery",
    rules=_RULES,
    back=from_bigquery,
    otherwise="STRING",
    limits=(
        ValueLimit(
            lambda type_: bool(_types.is_date(type_) or _types.is_timestamp(type_)),
            outside("0001-01-01", "9999-12-31"),
            "outside the years 1 to 9999, the range of BigQuery",
        ),
        # Source: Google's "Work with JSON data in GoogleSQL", limitations.
        ValueLimit(is_json, nested_beyond(500), "JSON nested deeper than 500 levels, BigQuery's limit"),
        # Source: PARSE_JSON in GoogleSQL; its wide_number_mode defines how such numbers are treated.
        ValueLimit(is_json, rounded_as_double, "JSON with a number that BigQuery would round to a double or refuse"),
    ),
    names="Kept as they are. Names that differ only in case are one column. A name has at most 300 characters, contains"
    " no period, comma, bracket, quote or slash, and does not begin with `_TABLE_`, `_FILE_`, `_PARTITION` and the"
    " like; a frame with another name is rejected.",
    notes=(
        "A decimal of up to 29 digits before the point and 9 after it is NUMERIC, of up to 38 and 38 BIGNUMERIC.",
        "A zoned timestamp is stored as its instant; the name of its zone is not kept.",
        "A timedelta is an INTEGER, and the column's description says `nanoseconds`.",
        "JSON keeps the values, not the text.",
        "In a REPEATED column of yours, a null becomes an empty list, which is logged; a list there can't hold a null.",
    ),
)
