"""The types of SQLite. It has only five, so the declared type says what a text or a number means."""

import re

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._rules import Rule, Types, ValueLimit, is_exact_decimal, is_naive, named, outside

_types = pa.types
_DECIMAL = re.compile(r"DECIMAL(?: TEXT)?\((\d+),\s*(\d+)\)")

_RULES = (
    # A declared type that contains INT gets integer affinity, and one with neither INT nor TEXT would turn digits into
    # numbers. So a type whose text must stay text contains TEXT.
    Rule(is_json, named("JSON TEXT"), "JSON text"),
    Rule(_types.is_boolean, named("BOOLEAN"), "0 or 1"),
    Rule(_types.is_uint64, named("UNSIGNED TEXT"), "text of its digits"),
    Rule(_types.is_integer, named("INTEGER")),
    Rule(_types.is_floating, named("REAL")),
    Rule(is_text, named("TEXT")),
    Rule(is_bytes, named("BLOB")),
    Rule(is_exact_decimal, lambda type_: f"DECIMAL TEXT({type_.precision},{type_.scale})", "text of its digits"),
    Rule(_types.is_date, named("DATE TEXT"), "ISO text"),
    Rule(_types.is_time, named("TIME TEXT"), "ISO text"),
    # Nanoseconds cover only the years 1677 to 2262, so a column of them has its own type name.
    Rule(is_naive, lambda type_: "TIMESTAMP_NS TEXT" if type_.unit == "ns" else "TIMESTAMP TEXT", "ISO text"),
    Rule(
        _types.is_timestamp,
        lambda type_: "TIMESTAMPTZ_NS TEXT" if type_.unit == "ns" else "TIMESTAMPTZ TEXT",
        "ISO text, in UTC",
    ),
    Rule(_types.is_duration, named("DURATION_NS INTEGER"), "nanoseconds, an int"),
)
_BACK = {
    "JSON TEXT": JSON,
    "BOOLEAN": pa.bool_(),
    "UNSIGNED TEXT": pa.uint64(),
    "INTEGER": pa.int64(),
    "REAL": pa.float64(),
    "TEXT": pa.string(),
    "BLOB": pa.binary(),
    "DATE TEXT": pa.date32(),
    "TIME TEXT": pa.time64("ns"),
    "TIMESTAMP TEXT": pa.timestamp("us"),
    "TIMESTAMP_NS TEXT": pa.timestamp("ns"),
    "TIMESTAMPTZ TEXT": pa.timestamp("us", "UTC"),
    "TIMESTAMPTZ_NS TEXT": pa.timestamp("ns", "UTC"),
    "DURATION_NS INTEGER": pa.duration("ns"),
    # Types that others declare. They have numeric affinity, which leaves such text as it is.
    "BOOL": pa.bool_(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "JSON": JSON,
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMPTZ": pa.timestamp("us", "UTC"),
}
_AFFINITIES = (
    (("INT",), pa.int64()),
    (("CHAR", "CLOB", "TEXT"), pa.string()),
    (("BLOB",), pa.binary()),
    (("REAL", "FLOA", "DOUB"), pa.float64()),
)


def from_sqlite(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of SQLite: by api2db's names, otherwise by the affinity of the declared type.

    Source: "Determination Of Column Affinity" in SQLite's description of its data types.
    """
    name = declared.upper()
    found = _DECIMAL.fullmatch(name)
    if found:
        return pa.decimal128(int(found[1]), int(found[2])) if "TEXT" in name else pa.float64()
    if name in _BACK:
        return _BACK[name]
    return next((type_ for parts, type_ in _AFFINITIES if any(part in name for part in parts)), pa.float64())


SQLITE = Types(
    target="SQLite",
    client="sqlite3",
    rules=_RULES,
    back=from_sqlite,
    otherwise="TEXT",
    limits=(
        ValueLimit(
            lambda type_: bool(_types.is_date(type_) or _types.is_timestamp(type_)),
            outside("-32767-01-01", "32767-12-31"),
            "outside the years -32767 to 32767, the range that can be written as text",
        ),
    ),
    signs_zero=False,
    has_nan=False,
    names="Kept as they are. Names that differ only in the case of the letters A to Z are one column.",
)
