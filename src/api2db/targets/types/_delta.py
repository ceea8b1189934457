"""The types of Delta Lake. It has fewer than Arrow, so the metadata of a column says what its text or numbers mean."""

import pyarrow as pa

from api2db.frames import JSON, is_bytes, is_json, is_text
from api2db.targets.types._lakes import limit_of_years, reader_of
from api2db.targets.types._rules import Rule, Types, is_exact_decimal, is_naive, named

_types = pa.types
_RULES = (
    Rule(is_json, named("string (json)"), "JSON text"),
    Rule(_types.is_boolean, named("boolean")),
    Rule(lambda type_: type_ == pa.int8(), named("byte")),
    Rule(lambda type_: type_ in {pa.int16(), pa.uint8()}, named("short")),
    Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named("integer")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("long")),
    Rule(_types.is_uint64, named("decimal(20,0)"), "Decimal"),
    Rule(lambda type_: type_ in {pa.float16(), pa.float32()}, named("float")),
    Rule(_types.is_floating, named("double")),
    Rule(is_text, named("string")),
    Rule(is_bytes, named("binary")),
    Rule(
        lambda type_: is_exact_decimal(type_) and 0 <= type_.scale <= type_.precision,
        lambda type_: f"decimal({type_.precision},{type_.scale})",
    ),
    Rule(_types.is_date, named("date")),
    Rule(_types.is_time, named("string (time)"), "ISO text"),
    Rule(is_naive, named("timestamp_ntz")),
    Rule(_types.is_timestamp, named("timestamp")),
    Rule(_types.is_duration, named("long (nanoseconds)"), "nanoseconds, an int"),
)
_BACK = {
    "string (json)": JSON,
    "string (time)": pa.time64("ns"),
    "long (nanoseconds)": pa.duration("ns"),
    "boolean": pa.bool_(),
    "byte": pa.int8(),
    "short": pa.int16(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", "UTC"),
    "timestamp_ntz": pa.timestamp("us"),
}
_REPEATABLE = {"boolean", "byte", "short", "integer", "long", "float", "double", "string"}

from_delta = reader_of(_BACK, "array", _REPEATABLE)

DELTA = Types(
    target="Delta Lake",
    client="pyarrow",
    rules=_RULES,
    back=from_delta,
    otherwise="string",
    limits=(limit_of_years("Delta Lake"),),
    names="Kept as they are. Names that differ only in case are one column.",
    notes=(
        "A word in brackets is in the metadata of the column, under the key `api2db`.",
        "A zoned timestamp is stored as its instant; the name of its zone is not kept.",
        "A time is text in ISO 8601, and a timedelta is a number of nanoseconds, because Delta Lake has neither.",
        "The largest unsigned integers are decimals, because Delta Lake has only signed ones.",
    ),
)
