"""The types of Iceberg. It has fewer than Arrow, so a column's documentation says what its text or numbers mean."""

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._lakes import limit_of_years, reader_of
from api2db.targets.types._rules import Rule, Types, is_exact_decimal, is_naive, named

_types = pa.types
_SHORT = {pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()}
_RULES = (
    Rule(is_json, named("string (json)"), "JSON text"),
    Rule(_types.is_boolean, named("boolean")),
    Rule(lambda type_: type_ in _SHORT, named("int")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("long")),
    Rule(_types.is_uint64, named("decimal(20, 0)"), "Decimal"),
    Rule(lambda type_: type_ in {pa.float16(), pa.float32()}, named("float")),
    Rule(_types.is_floating, named("double")),
    Rule(is_text, named("string")),
    Rule(is_bytes, named("binary")),
    Rule(
        lambda type_: is_exact_decimal(type_) and 0 <= type_.scale <= type_.precision,
        lambda type_: f"decimal({type_.precision}, {type_.scale})",
    ),
    Rule(_types.is_date, named("date")),
    Rule(_types.is_time, named("time")),
    Rule(is_naive, named("timestamp")),
    Rule(_types.is_timestamp, named("timestamptz")),
    Rule(_types.is_duration, named("long (nanoseconds)"), "nanoseconds, an int"),
)
_BACK = {
    "string (json)": JSON,
    "long (nanoseconds)": pa.duration("ns"),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
    "timestamp_ns": pa.timestamp("ns"),
    "timestamptz_ns": pa.timestamp("ns", "UTC"),
}
_REPEATABLE = {"boolean", "int", "long", "float", "double", "string"}

from_iceberg = reader_of(_BACK, "list", _REPEATABLE)

ICEBERG = Types(
    target="Iceberg",
    client="pyarrow",
    rules=_RULES,
    back=from_iceberg,
    otherwise="string",
    limits=(limit_of_years("Iceberg"),),
    names="Kept as they are. Names that differ only in case are one column.",
    notes=(
        "A word in brackets is in the documentation of the column, after `api2db:`.",
        "A zoned timestamp is stored as its instant; the name of its zone is not kept.",
        "A timedelta is a number of nanoseconds, because Iceberg has none.",
        "The largest unsigned integers are decimals, because Iceberg has only signed ones.",
    ),
)
