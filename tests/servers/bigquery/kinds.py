"""BigQuery's column types: which there are, how DuckDB keeps them, which Arrow types they take, which values."""

import datetime
import decimal
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Field = Mapping[str, Any]  # as REST has it: name, type, mode, precision, scale, maxLength, description

_t = pa.types
ALIASES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
IN_DUCKDB = {
    "INTEGER": "BIGINT",
    "FLOAT": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "STRING": "VARCHAR",
    "BYTES": "BLOB",
    "DATE": "DATE",
    "TIME": "TIME",
    "DATETIME": "TIMESTAMP",
    "TIMESTAMP": "TIMESTAMP WITH TIME ZONE",
    "NUMERIC": "DECIMAL(38,9)",
    "BIGNUMERIC": "VARCHAR",  # DuckDB has no decimals of 76 digits
    "JSON": "JSON",
}
# Google: "Supported Apache Arrow data types". Time64 is not in that table, but in Google's own sample for Python.
_TAKES: dict[str, Callable[[pa.DataType], bool]] = {
    "INTEGER": _t.is_signed_integer,
    "FLOAT": lambda type_: type_ in {pa.float32(), pa.float64()},
    "BOOLEAN": _t.is_boolean,
    "STRING": lambda type_: type_ == pa.string(),
    "BYTES": lambda type_: type_ == pa.binary(),
    "DATE": _t.is_date32,
    "TIME": lambda type_: type_ == pa.time64("us"),
    "DATETIME": lambda type_: type_ == pa.timestamp("us"),
    "TIMESTAMP": lambda type_: type_ == pa.timestamp("us", "UTC"),
    "NUMERIC": lambda type_: _t.is_decimal128(type_) and type_.scale <= 9 and type_.precision - type_.scale <= 29,
    "BIGNUMERIC": lambda type_: _t.is_decimal256(type_) and type_.scale <= 38,
    "JSON": lambda type_: type_ == pa.string(),
}
RESERVED = (
    "_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER", "_CHANGE_TYPE", "_CHANGE_TIMESTAMP",
)  # fmt: skip
_FORBIDDEN = re.compile(r"[!\"$()*,./;?@\[\\\]^`{}~\x00-\x1f]")
DEEPEST_JSON = 500  # Google: "The JSON data type has a nesting limit of 500"
_FIRST, _LAST = datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999)  # noqa: DTZ001


def kind(field: Field) -> str:
    name = str(field["type"]).upper()
    return ALIASES.get(name, name)


def is_repeated(field: Field) -> bool:
    return field.get("mode") == "REPEATED"


def duckdb_column(field: Field) -> str:
    return IN_DUCKDB[kind(field)] + ("[]" if is_repeated(field) else "")


def fault_of_schema(fields: Sequence[Field]) -> str | None:
    """What is wrong with the columns of a new table, in BigQuery's manner; None for nothing."""
    seen: set[str] = set()
    for field in fields:
        name = str(field["name"])
        if not name or len(name) > 300 or _FORBIDDEN.search(name):
            return f'Invalid field name "{name}". Fields must contain the allowed characters, and be at most 300 long.'
        if name.upper().startswith(RESERVED):
            return f'Invalid field name "{name}". Field names are not allowed to start with a reserved prefix'
        if name.lower() in seen:
            return f"Field {name} already exists in schema"
        seen.add(name.lower())
        if kind(field) not in IN_DUCKDB:
            return f"Invalid value for type: {field['type']} is not a valid value"
    return None if fields else "Empty schema specified for the table."


def takes(field: Field, type_: pa.DataType) -> bool:
    if is_repeated(field):
        return bool(_t.is_list(type_)) and _TAKES[kind(field)](type_.value_type)
    return _TAKES[kind(field)](type_)


def row_faults(field: Field, column: pa.Array) -> dict[int, str]:
    """The rows whose value the column does not hold, each with the reason."""
    if is_repeated(field):
        lists = column.to_pylist()
        return {
            row: f"Field {field['name']}: array has a null element"
            for row, each in enumerate(lists)
            if None in (each or ())
        }
    bad: dict[int, str] = {}
    for mask, reason in _masks(field, column):
        for row in pc.indices_nonzero(pc.fill_null(mask, False)).to_pylist():
            bad.setdefault(row, f"Field {field['name']}: {reason}")
    return bad


def _masks(field: Field, column: pa.Array) -> list[tuple[pa.Array, str]]:
    found: list[tuple[pa.Array, str]] = []
    if field.get("mode") == "REQUIRED":
        found.append((column.is_null(), "Missing required field"))
    name = kind(field)
    if name in {"DATETIME", "TIMESTAMP"}:
        low, high = (pa.scalar(each, pa.timestamp("us")).cast(column.type) for each in (_FIRST, _LAST))
        found.append((pc.or_(pc.less(column, low), pc.greater(column, high)), f"{name} is out of range"))
    elif name == "DATE":
        days = column.cast(pa.int32())
        found.append((pc.or_(pc.less(days, -719162), pc.greater(days, 2932896)), "DATE is out of range"))
    elif name == "JSON":
        found.append((pa.array([_is_no_json(text) for text in column.to_pylist()], pa.bool_()), "invalid JSON"))
    elif field.get("maxLength"):
        found.append((pc.greater(_length(column), int(field["maxLength"])), "value is too long"))
    elif field.get("precision"):
        most = 10 ** (int(field["precision"]) - int(field.get("scale") or 0))
        found.append(
            (pa.array([value is not None and abs(value) >= most for value in column.to_pylist()]), "out of range")
        )
    return found


def _length(column: pa.Array) -> pa.Array:
    return pc.utf8_length(column) if _t.is_string(column.type) else pc.binary_length(column)


def _is_no_json(text: str | None) -> bool:
    """Or JSON with numbers that neither 64 bits nor a double hold, or nested too deep: as PARSE_JSON has it."""
    try:
        return text is not None and _depth(json.loads(text, parse_int=_whole, parse_float=_fraction)) > DEEPEST_JSON
    except ValueError:
        return True


def _whole(digits: str) -> int:
    if not -(2**63) <= int(digits) < 2**64:
        raise ValueError(digits)
    return int(digits)


def _fraction(digits: str) -> float:
    if decimal.Decimal(repr(float(digits))) != decimal.Decimal(digits):
        raise ValueError(digits)
    return float(digits)


def _depth(value: Any) -> int:
    """Level by level: the server's threads have no deep stacks."""
    depth, level = 0, [value]
    while nested := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [inner for each in nested for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def keepable(table: pa.Table) -> pa.Table:
    """The same rows with what DuckDB does not take from Arrow as text."""
    for place, field in enumerate(table.schema):
        if _t.is_decimal256(field.type):
            texts = [None if value is None else _shortest(value) for value in table.column(place).to_pylist()]
            table = table.set_column(place, field.name, pa.array(texts, pa.string()))
    return table


def _shortest(value: Any) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
