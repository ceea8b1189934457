"""The types of MySQL and MariaDB."""

import re

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._rules import (
    SECONDS,
    Rule,
    Types,
    ValueLimit,
    coarser,
    decimal_type,
    infinite,
    is_exact_decimal,
    is_naive,
    named,
    nested_beyond,
    outside,
    rounded_as_double,
)

_types = pa.types
_NUMERIC = re.compile(r"(?:numeric|decimal)\((\d+),\s*(\d+)\)")
_ROUNDING = re.compile(r"(double|float)\((\d+),\s*(\d+)\)")
_DIGITS = {"double": 15, "float": 6}  # decimal digits that always survive binary floating point
_DISPLAY_WIDTH = re.compile(r"(?<=int)\((?!1\))\d+\)")
# The prefix makes the comment unique: a user's own column may have the comment "nanoseconds" or "UTC".
_OF_DURATION, _OF_ZONED = "api2db: nanoseconds", "api2db: UTC"
_DURATION = f"bigint COMMENT '{_OF_DURATION}'"
_ZONED = f"datetime(6) COMMENT '{_OF_ZONED}'"
_COMMENTED = {("bigint", _OF_DURATION): _DURATION, ("datetime(6)", _OF_ZONED): _ZONED}
_MOST_SCALE = 30

_RULES = (
    Rule(is_json, named("json"), "JSON text"),
    Rule(_types.is_boolean, named("tinyint(1)"), "0 or 1"),
    Rule(_types.is_int8, named("tinyint")),
    Rule(_types.is_int16, named("smallint")),
    Rule(_types.is_int32, named("int")),
    Rule(_types.is_int64, named("bigint")),
    Rule(_types.is_uint8, named("tinyint unsigned")),
    Rule(_types.is_uint16, named("smallint unsigned")),
    Rule(_types.is_uint32, named("int unsigned")),
    Rule(_types.is_uint64, named("bigint unsigned")),
    # A float column stores all its digits, but returns only six.
    Rule(_types.is_floating, named("double")),
    Rule(is_text, named("longtext")),
    Rule(is_bytes, named("longblob")),
    Rule(
        lambda type_: is_exact_decimal(type_) and type_.scale <= _MOST_SCALE,
        lambda type_: f"decimal({type_.precision},{type_.scale})",
    ),
    Rule(_types.is_date, named("date")),
    Rule(_types.is_time, named("time(6)"), "timedelta"),
    Rule(is_naive, named("datetime(6)")),
    # A timestamp column would end in 2038, and show each reader the time in the reader's own zone.
    Rule(_types.is_timestamp, named(_ZONED), "UTC, without a zone"),
    Rule(_types.is_duration, named(_DURATION), "nanoseconds, an int"),
)
_BACK = {
    "json": JSON,
    "tinyint(1)": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "mediumint": pa.int32(),
    "mediumint unsigned": pa.uint32(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "tinyint unsigned": pa.uint8(),
    "smallint unsigned": pa.uint16(),
    "int unsigned": pa.uint32(),
    "bigint unsigned": pa.uint64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "tinyblob": pa.binary(),
    "blob": pa.binary(),
    "mediumblob": pa.binary(),
    "longblob": pa.binary(),
    "date": pa.date32(),
    "time(6)": pa.time64("us"),
    "time": pa.time32("s"),
    "datetime(6)": pa.timestamp("us"),
    "datetime": pa.timestamp("s"),
    "timestamp(6)": pa.timestamp("us", "UTC"),
    "timestamp": pa.timestamp("s", "UTC"),
    _DURATION.lower(): pa.duration("ns"),
    _ZONED.lower(): pa.timestamp("us", "UTC"),
}


def mysql_name(declared: str, comment: str) -> str:
    """Return a column's type without display widths, which do not matter, and with api2db's comment, which does."""
    if declared.lower().startswith(("enum(", "set(")):
        return declared
    name = _DISPLAY_WIDTH.sub("", declared.lower())
    return _COMMENTED.get((name, comment), name.removesuffix(" zerofill"))


def from_mysql(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of MySQL or MariaDB; text if there is no other."""
    name = declared.lower()
    if name.startswith(("decimal", "double", "float")):
        name = name.removesuffix(" unsigned")
    found = _NUMERIC.fullmatch(name)
    if found:
        return decimal_type(int(found[1]), int(found[2]))
    if rounding := _ROUNDING.fullmatch(name):
        return decimal_type(min(int(rounding[2]), _DIGITS[rounding[1]]), int(rounding[3]))
    if coarse := SECONDS.fullmatch(name):
        return coarser(_BACK[f"{coarse[1]}(6)"], int(coarse[2])) or pa.string()
    if name.startswith(("binary(", "varbinary(")):
        return pa.binary()
    return _BACK.get(name, pa.string())


_LIMITS = (
    ValueLimit(lambda type_: bool(_types.is_floating(type_)), infinite, "infinity, which the server can't store"),
    ValueLimit(
        lambda type_: bool(_types.is_date(type_) or _types.is_timestamp(type_)),
        outside("0001-01-01", "9999-12-31"),
        "outside the years 1 to 9999, the range of the server",
    ),
)
_NAMES = (
    "Kept as they are. Names that differ only in case are one column. A name has at most 64 characters, all below"
    " U+10000, and does not end with a space, tab or line end."
)

_DEEP_IN_MARIADB = ValueLimit(is_json, nested_beyond(31), "JSON nested deeper than 31 levels, MariaDB's limit")
_DEEP_IN_MYSQL = ValueLimit(is_json, nested_beyond(100), "JSON nested deeper than 100 levels, MySQL's limit")
_ROUNDED = ValueLimit(is_json, rounded_as_double, "JSON with a number that MySQL would round to a double")
_ZONES = (
    "A zoned timestamp is stored as its instant, in a DATETIME in UTC that has the comment `api2db: UTC`; no session's"
    " time zone shifts it."
)

MARIADB = Types(
    target="MariaDB",
    client="PyMySQL",
    rules=_RULES,
    back=from_mysql,
    otherwise="longtext",
    limits=(*_LIMITS, _DEEP_IN_MARIADB),
    signs_zero=False,
    has_nan=False,
    names=_NAMES,
    notes=(_ZONES, "MariaDB stores JSON as text, unchanged."),
)
MYSQL = Types(
    target="MySQL",
    client="PyMySQL",
    rules=_RULES,
    back=from_mysql,
    otherwise="longtext",
    limits=(*_LIMITS, _ROUNDED, _DEEP_IN_MYSQL),
    has_nan=False,
    names=_NAMES,
    notes=(_ZONES, "JSON keeps the values, not the text: the order of keys may change."),
)
