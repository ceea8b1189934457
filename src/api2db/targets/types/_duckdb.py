"""The types of DuckDB."""

import re

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._rules import (
    LONGEST_DECIMAL,
    Rule,
    Types,
    ValueLimit,
    endless,
    is_exact_decimal,
    is_naive,
    named,
    outside,
)

_types = pa.types
_MOMENT = "an instant outside the years 290308 BC to 294246, the range of DuckDB"
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")
_LIST = re.compile(r"(.+)\[\d*\]")
_NAMES = {
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
    pa.decimal128(LONGEST_DECIMAL, 0): "HUGEINT",
}
_BACK = {name: type_ for type_, name in _NAMES.items()}

_RULES = (
    Rule(is_json, named("JSON"), "JSON text"),
    Rule(_types.is_float16, named("FLOAT")),
    Rule(is_text, named("VARCHAR")),
    Rule(is_bytes, named("BLOB")),
    Rule(is_exact_decimal, lambda type_: f"DECIMAL({type_.precision},{type_.scale})"),
    Rule(_types.is_date, named("DATE")),
    Rule(_types.is_time, lambda type_: "TIME_NS" if type_.unit == "ns" else "TIME"),
    Rule(is_naive, lambda type_: "TIMESTAMP_NS" if type_.unit == "ns" else "TIMESTAMP"),
    Rule(_types.is_timestamp, named("TIMESTAMP WITH TIME ZONE")),
    Rule(_types.is_duration, named("INTERVAL")),
    Rule(lambda type_: type_ in _NAMES, lambda type_: _NAMES[type_]),
)


def from_duckdb(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of DuckDB; text if there is no other (DuckDB casts it itself)."""
    if declared == "JSON":
        return JSON
    if found := _LIST.fullmatch(declared):
        item = from_duckdb(found[1])
        is_known = item != pa.string() or found[1].startswith(("VARCHAR", "UUID", "ENUM("))
        return pa.list_(item) if is_known and not is_json(item) else pa.string()
    found = _DECIMAL.fullmatch(declared)
    return pa.decimal128(int(found[1]), int(found[2])) if found else _BACK.get(declared, pa.string())


DUCKDB = Types(
    target="DuckDB",
    client="duckdb",
    rules=_RULES,
    back=from_duckdb,
    otherwise="VARCHAR",
    limits=(
        ValueLimit(_types.is_timestamp, outside("-290307-01-01", "294246-12-31"), _MOMENT),
        ValueLimit(
            _types.is_timestamp, endless, "the first or last instant of the type, which means infinity in DuckDB"
        ),
        ValueLimit(_types.is_date, endless, "the first or last day of the type, which means infinity in DuckDB"),
    ),
    names="Kept as they are. Names that differ only in case are one column.",
    notes=(
        "A zoned timestamp is stored as its instant; the name of its zone is not kept.",
        "Python's times hold only microseconds: duckdb's `fetchall` cuts TIMESTAMP_NS, its Arrow tables don't.",
    ),
)
