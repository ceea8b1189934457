"""Write values as CSV or one by one, and find those that a column would not give back unchanged."""

import io
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from api2db.errors import BatchRefusedError
from api2db.frames import is_bytes, is_json
from api2db.targets.port import Column

_types = pa.types
_WORD = re.compile(r"'((?:[^']|'')*)'")
# Quotes are around each text, so that the word NULL in a text is none, and around nothing else: the server reads less.
_CSV = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed", null_string="NULL")


def check_held(values: pa.ChunkedArray, column: Column) -> None:
    """Refuse values that the column would change: pad, strip, reorder, or take as a number's meaning.

    Raises:
        BatchRefusedError: There is such a value.
    """
    kind, _, length = column.declared.partition("(")
    if kind not in {"enum", "set", "year", "bit", "char", "binary"} or values.null_count == len(values):
        return
    if kind == "binary":
        is_held = pc.all(pc.equal(pc.binary_length(values), int(length.removesuffix(")")))).as_py()
    else:
        is_held = _are_held(kind, pc.drop_null(values.cast(pa.string())), _members(column.declared))
    if not is_held:
        raise BatchRefusedError(f"{column.name!r}: a value is not one of the column's type {column.declared}")


def _are_held(kind: str, texts: pa.ChunkedArray, members: list[str]) -> bool:
    if kind == "year":
        known = pc.match_substring_regex(texts, "^(0000|19[0-9]{2}|20[0-9]{2}|21[0-5][0-9])$")
    elif kind == "char":
        known = pc.invert(pc.ends_with(texts, " "))
    elif kind == "enum":
        known = pc.is_in(texts, pa.array(members, pa.string()))
    elif kind == "set":
        known = pa.array([_in_order(text, members) == text for text in pc.unique(texts).to_pylist()])
    else:
        known = pa.array([False])
    return bool(pc.all(known).as_py())


def _members(declared: str) -> list[str]:
    return [word.replace("''", "'") for word in _WORD.findall(declared)]


def _in_order(text: str, members: list[str]) -> str:
    """The words of a set in the order in which the server returns them."""
    words = text.split(",")
    return ",".join(member for member in members if member in words)


def as_csv(rows: pa.RecordBatch) -> memoryview:
    """Rows as the CSV that LOAD DATA reads."""
    sink = io.BytesIO()
    plain = pa.record_batch(list(map(_written, rows.columns)), names=list(map(str, range(rows.num_columns))))
    pyarrow.csv.write_csv(plain, sink, _CSV)
    return sink.getbuffer()


def _written(column: pa.Array) -> pa.Array:
    """Cast a column to a type whose CSV text the server reads exactly."""
    if is_bytes(column.type):
        return pa.array([None if value is None else value.hex() for value in column.to_pylist()], pa.string())
    if _types.is_floating(column.type):
        return _without_nan(column)
    if _types.is_date(column.type) or _types.is_time(column.type):
        return column
    if _types.is_timestamp(column.type):
        return column.cast(pa.timestamp(column.type.unit))
    return _plain(column)


def plain_values(column: pa.Array) -> list[Any]:
    """Values as the driver writes them into a statement."""
    values: list[Any] = _plain(column).to_pylist()
    return values


def _plain(column: Any) -> Any:
    type_ = column.type
    if is_json(type_):
        return column.cast(pa.string())
    if _types.is_boolean(type_):
        return column.cast(pa.int8())
    if _types.is_duration(type_):
        return column.cast(pa.duration("ns")).cast(pa.int64())
    if _types.is_timestamp(type_):
        return column.cast(pa.timestamp(type_.unit)).cast(pa.string())
    if _types.is_decimal(type_) or _types.is_date(type_) or _types.is_time(type_):
        return column.cast(pa.string())
    if _types.is_floating(type_):
        return pc.cast(_without_nan(column), pa.string())
    return column


def _without_nan(column: Any) -> Any:
    return pc.if_else(pc.is_nan(column), None, column)
