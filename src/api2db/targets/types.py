"""Which column type each database gives an Arrow type, and back."""

import re
from collections.abc import Callable, Sequence

import pyarrow as pa

from api2db.frames import JSON, is_json

__all__ = [
    "BIGQUERY_DURATION",
    "bigquery_type",
    "duckdb_type",
    "from_bigquery",
    "from_duckdb",
    "from_heavydb",
    "from_mysql",
    "from_postgresql",
    "from_sqlite",
    "heavydb_type",
    "mysql_name",
    "mysql_type",
    "postgresql_type",
    "sqlite_type",
]

_types = pa.types
_Rule = tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType], str]]
_DECIMAL = re.compile(r"DECIMAL(?: TEXT)?\((\d+),\s*(\d+)\)")
_LONGEST_DECIMAL = 38


def _is_text(type_: pa.DataType) -> bool:
    return bool(_types.is_string(type_) or _types.is_large_string(type_) or _types.is_string_view(type_))


def _is_bytes(type_: pa.DataType) -> bool:
    return bool(
        _types.is_binary(type_)
        or _types.is_large_binary(type_)
        or _types.is_fixed_size_binary(type_)
        or _types.is_binary_view(type_)
    )


def _is_exact_decimal(type_: pa.DataType) -> bool:
    return bool(_types.is_decimal(type_) and type_.precision <= _LONGEST_DECIMAL)


def _is_naive(type_: pa.DataType) -> bool:
    return bool(_types.is_timestamp(type_) and type_.tz is None)


def _named(name: str) -> Callable[[pa.DataType], str]:
    return lambda _: name


_DUCKDB_NAMES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
    pa.time64("ns"): "TIME_NS",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("s"): "TIMESTAMP_S",
    pa.timestamp("ms"): "TIMESTAMP_MS",
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
    pa.duration("us"): "INTERVAL",
    pa.decimal128(_LONGEST_DECIMAL, 0): "HUGEINT",
}
_FROM_DUCKDB = {name: type_ for type_, name in _DUCKDB_NAMES.items()}

_DUCKDB: Sequence[_Rule] = (
    (is_json, _named("JSON")),
    (_types.is_float16, _named("FLOAT")),
    (_is_text, _named("VARCHAR")),
    (_is_bytes, _named("BLOB")),
    (_is_exact_decimal, lambda type_: f"DECIMAL({type_.precision},{type_.scale})"),
    (_types.is_date, _named("DATE")),
    (_types.is_time, lambda type_: "TIME_NS" if type_.unit == "ns" else "TIME"),
    (_is_naive, lambda type_: "TIMESTAMP_NS" if type_.unit == "ns" else "TIMESTAMP"),
    (_types.is_timestamp, _named("TIMESTAMP WITH TIME ZONE")),
    (_types.is_duration, _named("INTERVAL")),
    (lambda type_: type_ in _DUCKDB_NAMES, lambda type_: _DUCKDB_NAMES[type_]),
)

_SQLITE: Sequence[_Rule] = (
    # A declared type with INT in it gets integer affinity, and one with neither INT nor TEXT would turn digits into
    # numbers: so text that must stay text says TEXT.
    (is_json, _named("JSON TEXT")),
    (_types.is_boolean, _named("BOOLEAN")),
    (_types.is_uint64, _named("UNSIGNED TEXT")),
    (_types.is_integer, _named("INTEGER")),
    (_types.is_floating, _named("REAL")),
    (_is_text, _named("TEXT")),
    (_is_bytes, _named("BLOB")),
    (_is_exact_decimal, lambda type_: f"DECIMAL TEXT({type_.precision},{type_.scale})"),
    (_types.is_date, _named("DATE TEXT")),
    (_types.is_time, _named("TIME TEXT")),
    # Nanoseconds reach from 1677 to 2262 only, so a column of them says so.
    (_is_naive, lambda type_: "TIMESTAMP_NS TEXT" if type_.unit == "ns" else "TIMESTAMP TEXT"),
    (_types.is_timestamp, lambda type_: "TIMESTAMPTZ_NS TEXT" if type_.unit == "ns" else "TIMESTAMPTZ TEXT"),
    (_types.is_duration, _named("DURATION_NS INTEGER")),
)
_FROM_SQLITE = {
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
    # What others declare: of numeric affinity, which leaves such text as it is.
    "BOOL": pa.bool_(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "JSON": JSON,
    "TIME": pa.time64("us"),
    "TIMESTAMP": pa.timestamp("us"),
}
_SQLITE_AFFINITIES = (
    (("INT",), pa.int64()),
    (("CHAR", "CLOB", "TEXT"), pa.string()),
    (("BLOB",), pa.binary()),
    (("REAL", "FLOA", "DOUB"), pa.float64()),
)


_POSTGRESQL: Sequence[_Rule] = (
    (is_json, _named("jsonb")),
    (_types.is_boolean, _named("boolean")),
    (lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, _named("smallint")),
    (lambda type_: type_ in {pa.int32(), pa.uint16()}, _named("integer")),
    (lambda type_: type_ in {pa.int64(), pa.uint32()}, _named("bigint")),
    (_types.is_uint64, _named("numeric(20,0)")),
    (lambda type_: type_ in {pa.float16(), pa.float32()}, _named("real")),
    (_types.is_floating, _named("double precision")),
    (_is_text, _named("text")),
    (_is_bytes, _named("bytea")),
    (_is_exact_decimal, lambda type_: f"numeric({type_.precision},{type_.scale})"),
    (_types.is_date, _named("date")),
    (_types.is_time, _named("time without time zone")),
    (_is_naive, _named("timestamp without time zone")),
    (_types.is_timestamp, _named("timestamp with time zone")),
    (_types.is_duration, _named("interval")),
)
_FROM_POSTGRESQL = {
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
_NUMERIC = re.compile(r"(?:numeric|decimal|double|float)\((\d+),\s*(\d+)\)")
_MOST_DIGITS = 76
_ANY_NUMERIC = pa.decimal256(_MOST_DIGITS, _LONGEST_DECIMAL)
# What a column of fewer digits of a second than six holds for certain.
_SECONDS = re.compile(r"(timestamp|datetime|time)\(([0-5])\)( with(?:out)? time zone)?")

_MYSQL_DURATION = "bigint COMMENT 'nanoseconds'"
_MYSQL: Sequence[_Rule] = (
    (is_json, _named("json")),
    (_types.is_boolean, _named("tinyint(1)")),
    (_types.is_int8, _named("tinyint")),
    (_types.is_int16, _named("smallint")),
    (_types.is_int32, _named("int")),
    (_types.is_int64, _named("bigint")),
    (_types.is_uint8, _named("tinyint unsigned")),
    (_types.is_uint16, _named("smallint unsigned")),
    (_types.is_uint32, _named("int unsigned")),
    (_types.is_uint64, _named("bigint unsigned")),
    (lambda type_: type_ in {pa.float16(), pa.float32()}, _named("float")),
    (_types.is_floating, _named("double")),
    (_is_text, _named("longtext")),
    (_is_bytes, _named("longblob")),
    (_is_exact_decimal, lambda type_: f"decimal({type_.precision},{min(type_.scale, 30)})"),
    (_types.is_date, _named("date")),
    (_types.is_time, _named("time(6)")),
    (_is_naive, _named("datetime(6)")),
    (_types.is_timestamp, _named("timestamp(6)")),
    (_types.is_duration, _named(_MYSQL_DURATION)),
)
_FROM_MYSQL = {
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
    _MYSQL_DURATION.lower(): pa.duration("ns"),
}
_HEAVYDB_TEXT = "TEXT ENCODING DICT(32)"
# A decimal there is a 64-bit integer; and a column of it takes no digits more than these.
_HEAVYDB_DIGITS = 18
_HEAVYDB: Sequence[_Rule] = (
    (_types.is_boolean, _named("BOOLEAN")),
    # The smallest number of each type means NULL there, so an int8, of which all numbers are likely, has a wider one.
    (lambda type_: type_ in {pa.int8(), pa.int16(), pa.uint8()}, _named("SMALLINT")),
    (lambda type_: type_ in {pa.int32(), pa.uint16()}, _named("INTEGER")),
    (lambda type_: type_ in {pa.int64(), pa.uint32()}, _named("BIGINT")),
    (lambda type_: type_ in {pa.float16(), pa.float32()}, _named("FLOAT")),
    (_types.is_floating, _named("DOUBLE")),
    (
        lambda type_: bool(_types.is_decimal(type_) and 0 <= type_.scale <= type_.precision <= _HEAVYDB_DIGITS),
        lambda type_: f"DECIMAL({type_.precision},{type_.scale})",
    ),
    (_types.is_date, _named("DATE")),
    # TIME ends at seconds, and a TIMESTAMP without digits does too.
    (lambda type_: type_ == pa.time32("s"), _named("TIME")),
    (_types.is_timestamp, lambda type_: "TIMESTAMP(9)" if type_.unit == "ns" else "TIMESTAMP(6)"),
    (_types.is_duration, _named("BIGINT")),
)
_FROM_HEAVYDB = {
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
_DISPLAY_WIDTH = re.compile(r"(?<=int)\((?!1\))\d+\)")


BIGQUERY_DURATION = "INTEGER nanoseconds"
_BIGQUERY: Sequence[_Rule] = (
    (is_json, _named("JSON")),
    (_types.is_boolean, _named("BOOLEAN")),
    (_types.is_uint64, _named("NUMERIC")),
    (_types.is_integer, _named("INTEGER")),
    (_types.is_floating, _named("FLOAT")),
    (_is_text, _named("STRING")),
    (_is_bytes, _named("BYTES")),
    (lambda type_: _is_within(type_, 29, 9), _named("NUMERIC")),
    (lambda type_: _is_within(type_, 38, 38), _named("BIGNUMERIC")),
    (_types.is_date, _named("DATE")),
    (_types.is_time, _named("TIME")),
    (_is_naive, _named("DATETIME")),
    (_types.is_timestamp, _named("TIMESTAMP")),
    (_types.is_duration, _named(BIGQUERY_DURATION)),
)
_FROM_BIGQUERY = {
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
    "NUMERIC": pa.decimal128(_LONGEST_DECIMAL, 9),
    "BIGNUMERIC": pa.decimal256(_MOST_DIGITS, _LONGEST_DECIMAL),
    "DATE": pa.date32(),
    "TIME": pa.time64("us"),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    BIGQUERY_DURATION: pa.duration("ns"),
}
_REPEATABLE = {"BOOLEAN", "INTEGER", "FLOAT", "STRING"}  # what a list within a JSON cell can be told to be
_BIGQUERY_ARRAY = re.compile(r"ARRAY<(\w+)>")
_BIGQUERY_NUMERIC = re.compile(r"(BIG)?NUMERIC\((\d+), (\d+)\)")


def _is_within(type_: pa.DataType, whole: int, fraction: int) -> bool:
    return bool(_types.is_decimal(type_) and 0 <= type_.scale <= fraction and type_.precision - type_.scale <= whole)


def bigquery_type(type_: pa.DataType) -> str | None:
    """The column type, as its REST interface names it, that BigQuery gives an Arrow type; None for nulls."""
    return _by_rule(_BIGQUERY, type_, "STRING")


def from_bigquery(declared: str) -> pa.DataType:
    """The Arrow type that holds what a column of BigQuery holds; nulls for one that we write nothing else into.

    Source: "Supported Apache Arrow data types" in Google's description of the Storage Write API.
    """
    if found := _BIGQUERY_NUMERIC.fullmatch(declared):
        kind = pa.decimal256 if found[1] else pa.decimal128
        return kind(int(found[2]), int(found[3]))
    if found := _BIGQUERY_ARRAY.fullmatch(declared):
        element = _FROM_BIGQUERY.get(found[1])
        return pa.list_(element) if found[1] in _REPEATABLE and element is not None else pa.null()
    return _FROM_BIGQUERY.get(declared.partition("(")[0], pa.null())


def postgresql_type(type_: pa.DataType) -> str | None:
    """The column type that PostgreSQL gives an Arrow type; None for a column of nulls."""
    return _by_rule(_POSTGRESQL, type_, "text")


def from_postgresql(declared: str) -> pa.DataType | None:
    """The Arrow type that binary COPY takes for a column; None for a type that only SQL can cast text to."""
    if declared == "numeric":
        return _ANY_NUMERIC
    found = _NUMERIC.fullmatch(declared)
    if found and int(found[1]) <= _MOST_DIGITS:
        return _decimal(int(found[1]), int(found[2]))
    if coarse := _SECONDS.fullmatch(declared):
        return _coarser(_FROM_POSTGRESQL.get(f"{coarse[1]}{coarse[3]}"), int(coarse[2]))
    return _FROM_POSTGRESQL.get(declared.partition("(")[0] if declared.startswith("character varying") else declared)


def _decimal(precision: int, scale: int) -> pa.DataType:
    kind = pa.decimal128 if precision <= _LONGEST_DECIMAL else pa.decimal256
    return kind(precision, scale)


def _coarser(type_: pa.DataType | None, digits: int) -> pa.DataType | None:
    """A column of two digits would round the third: so no more is sent than the unit below holds."""
    if type_ is None or (_types.is_time(type_) and digits < 3):
        return None if type_ is None else pa.time32("s")
    if _types.is_time(type_):
        return pa.time32("ms")
    return pa.timestamp("ms" if digits >= 3 else "s", type_.tz)


def mysql_type(type_: pa.DataType) -> str | None:
    """The column type that MySQL and MariaDB give an Arrow type; None for a column of nulls."""
    return _by_rule(_MYSQL, type_, "longtext")


def mysql_name(declared: str, comment: str) -> str:
    """A column's type without what does not matter (MariaDB's display widths), and with the comment that does."""
    name = _DISPLAY_WIDTH.sub("", declared.lower())
    return _MYSQL_DURATION if name == "bigint" and comment == "nanoseconds" else name.removesuffix(" zerofill")


def from_mysql(declared: str) -> pa.DataType:
    """The Arrow type that holds what a column of MySQL or MariaDB holds; text for what has none."""
    name = declared.lower()
    found = _NUMERIC.fullmatch(name)
    if found:
        return _decimal(int(found[1]), int(found[2]))
    if coarse := _SECONDS.fullmatch(name):
        return _coarser(_FROM_MYSQL[f"{coarse[1]}(6)"], int(coarse[2])) or pa.string()
    if name.startswith(("binary(", "varbinary(")):
        return pa.binary()
    return _FROM_MYSQL.get(name, pa.string())


def heavydb_type(type_: pa.DataType) -> str | None:
    """The column type that HeavyDB gives an Arrow type; None for a column of nulls."""
    return _by_rule(_HEAVYDB, type_, _HEAVYDB_TEXT)


def from_heavydb(declared: str) -> pa.DataType:
    """The Arrow type that holds what a column of HeavyDB holds; null for what no load can fill."""
    name = declared.removesuffix(" NOT NULL")
    if "[" in name:
        return pa.null()
    if found := _DECIMAL.match(name):
        return pa.decimal128(int(found[1]), int(found[2]))
    return _FROM_HEAVYDB.get(name) or _FROM_HEAVYDB.get(name.partition(" ENCODING")[0], pa.string())


def duckdb_type(type_: pa.DataType) -> str | None:
    """The column type that DuckDB gives an Arrow type; None where a column of nulls has no type yet."""
    return _by_rule(_DUCKDB, type_, "VARCHAR")


def sqlite_type(type_: pa.DataType) -> str | None:
    """The declared type that a SQLite column of ours has for an Arrow type; None for a column of nulls."""
    return _by_rule(_SQLITE, type_, "TEXT")


def from_duckdb(declared: str) -> pa.DataType:
    """The Arrow type that holds what a DuckDB column holds; text for what has none (DuckDB casts it itself)."""
    if declared == "JSON":
        return JSON
    found = _DECIMAL.fullmatch(declared)
    return pa.decimal128(int(found[1]), int(found[2])) if found else _FROM_DUCKDB.get(declared, pa.string())


def from_sqlite(declared: str) -> pa.DataType:
    """The Arrow type that a SQLite column holds, by our own names, else by the affinity of the declared type.

    Source: "Determination Of Column Affinity" in SQLite's description of its data types.
    """
    name = declared.upper()
    found = _DECIMAL.fullmatch(name)
    if found:
        return pa.decimal128(int(found[1]), int(found[2])) if "TEXT" in name else pa.float64()
    if name in _FROM_SQLITE:
        return _FROM_SQLITE[name]
    return next((type_ for parts, type_ in _SQLITE_AFFINITIES if any(part in name for part in parts)), pa.float64())


def _by_rule(rules: Sequence[_Rule], type_: pa.DataType, otherwise: str) -> str | None:
    if _types.is_null(type_):
        return None
    if _types.is_dictionary(type_):
        return _by_rule(rules, type_.value_type, otherwise)
    return next((name(type_) for applies, name in rules if applies(type_)), otherwise)
