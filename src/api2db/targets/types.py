"""Which column type each embedded database gives an Arrow type, and back."""

import re
from collections.abc import Callable, Sequence

import pyarrow as pa

from api2db.frames import JSON, is_json

__all__ = ["duckdb_type", "from_duckdb", "from_sqlite", "sqlite_type"]

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
    (_is_naive, _named("TIMESTAMP TEXT")),
    (_types.is_timestamp, _named("TIMESTAMPTZ TEXT")),
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
    "TIMESTAMP TEXT": pa.timestamp("ns"),
    "TIMESTAMPTZ TEXT": pa.timestamp("ns", "UTC"),
    "DURATION_NS INTEGER": pa.duration("ns"),
}
_SQLITE_AFFINITIES = (
    (("INT",), pa.int64()),
    (("CHAR", "CLOB", "TEXT"), pa.string()),
    (("BLOB",), pa.binary()),
    (("REAL", "FLOA", "DOUB"), pa.float64()),
)


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
