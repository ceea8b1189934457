"""The types of the four file formats, as a program without api2db reads them."""

import pyarrow as pa

from api2db.frames import is_bytes, is_json, is_text
from api2db.targets.types._rules import Rule, Types, named

_types = pa.types
_NAMES = "Kept as they are; names that differ in case are different columns."


def _is_any(_type: pa.DataType) -> bool:
    return True


def _is_small(type_: pa.DataType) -> bool:
    return bool(_types.is_integer(type_) and type_.bit_width < 64)


def _nowhere(_declared: str) -> None:
    return None


PARQUET = Types(
    target="Parquet files",
    client="pyarrow",
    rules=(Rule(is_json, named("JSON"), "JSON text"), Rule(_is_any, str)),
    back=_nowhere,
    otherwise="",
    names=_NAMES,
    notes=("Everything is stored exactly, including zones and nanoseconds.",),
)

JSON_FILE = Types(
    target="JSON files",
    client="json",
    rules=(
        Rule(is_json, named("any"), "parsed JSON"),
        Rule(_types.is_boolean, named("boolean")),
        Rule(_is_small, named("integer")),
        Rule(_types.is_integer, named("integer, or string"), "text of its digits beyond 2⁵³, beside nulls"),
        Rule(_types.is_floating, named("number, or string"), "text where it is infinite"),
        Rule(is_text, named("string")),
        Rule(is_bytes, named("string"), "base64 text"),
        Rule(_types.is_decimal, named("string"), "text of its digits"),
        Rule(lambda type_: bool(_types.is_date(type_) or _types.is_time(type_)), named("string"), "ISO text"),
        Rule(lambda type_: bool(_types.is_timestamp(type_) and type_.tz is None), named("datetime"), "ISO text"),
        Rule(_types.is_timestamp, named("datetime"), "ISO text, with the offset"),
        Rule(_types.is_duration, named("integer"), "a count of its unit"),
    ),
    back=_nowhere,
    otherwise="string",
    names=_NAMES,
    notes=(
        'pandas calls this format `orient="table"`; `FileConverter.json_load` returns every value and type.',
        "An infinity is the text `Infinity` or `-Infinity`, because JSON has no infinity.",
    ),
)

CSV = Types(
    target="CSV files",
    client="csv",
    rules=(
        Rule(is_json, named("in quotes"), "JSON text"),
        Rule(is_text, named("in quotes"), "text"),
        Rule(is_bytes, named("in quotes"), "base64 text"),
        Rule(_types.is_decimal, named("in quotes"), "text of its digits"),
        Rule(_types.is_uint64, named("in quotes where one is beyond 2⁶³"), "text of its digits"),
        Rule(_types.is_duration, named("in quotes"), "text of its seconds"),
        Rule(lambda type_: bool(_types.is_timestamp(type_) and type_.tz), named("bare"), "ISO text, with the offset"),
        Rule(_types.is_temporal, named("bare"), "ISO text"),
        Rule(_types.is_boolean, named("bare"), "text"),
        Rule(_is_any, named("bare"), "text of its digits"),
    ),
    back=_nowhere,
    otherwise="bare",
    names=f"{_NAMES} They may repeat.",
    notes=("CSV has no types, so everything is text. A null is an empty cell, an empty text is a pair of quotes.",),
)

PICKLE = Types(
    target="Pickle files",
    client="pandas",
    rules=(Rule(is_json, named("object"), "parsed JSON"), Rule(_is_any, named("the frame's dtype"))),
    back=_nowhere,
    otherwise="object",
    names=_NAMES,
    notes=("The pickle is a DataFrame. Ints and booleans with nulls are `Int64`, `boolean` and the like.",),
)
