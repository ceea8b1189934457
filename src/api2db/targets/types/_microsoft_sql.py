"""The types of Microsoft SQL Server. Source: "Data types (Transact-SQL)" at learn.microsoft.com."""

import re

import pyarrow as pa

from api2db.frames import is_bytes, is_json, is_text
from api2db.targets.types._rules import (
    Rule,
    Types,
    ValueLimit,
    decimal_type,
    infinite,
    is_exact_decimal,
    is_naive,
    named,
)
from api2db.targets.types._sqlalchemy import YEARS, noted_type, split_note, with_note

_types = pa.types
_NUMERIC = re.compile(r"(?:NUMERIC|DECIMAL)\((\d+), ?(\d+)\)")
_TEXT = "NVARCHAR(max)"
_RULES = (
    Rule(is_json, named(with_note(_TEXT, "JSON")), "JSON text"),
    Rule(_types.is_boolean, named("BIT")),
    Rule(lambda type_: type_ in {pa.int8(), pa.int16()}, named("SMALLINT")),
    Rule(_types.is_uint8, named("TINYINT")),
    Rule(lambda type_: type_ in {pa.int32(), pa.uint16()}, named("INTEGER")),
    Rule(lambda type_: type_ in {pa.int64(), pa.uint32()}, named("BIGINT")),
    Rule(_types.is_uint64, named("NUMERIC(20, 0)"), "Decimal"),
    Rule(_types.is_floating, named("FLOAT(53)")),
    Rule(is_text, named(_TEXT)),
    Rule(is_bytes, named("VARBINARY(max)")),
    Rule(
        lambda type_: is_exact_decimal(type_) and 0 <= type_.scale <= type_.precision,
        lambda type_: f"NUMERIC({type_.precision}, {type_.scale})",
    ),
    Rule(_types.is_date, named("DATE")),
    Rule(_types.is_time, named("TIME(6)")),
    Rule(is_naive, named("DATETIME2(6)")),
    Rule(_types.is_timestamp, named("DATETIMEOFFSET(6)")),
    Rule(_types.is_duration, named(with_note("BIGINT", "duration")), "nanoseconds, an int"),
)
_BACK = {
    "BIT": pa.bool_(),
    "TINYINT": pa.uint8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "REAL": pa.float32(),
    "FLOAT(53)": pa.float64(),
    "VARBINARY(MAX)": pa.binary(),
    "IMAGE": pa.binary(),
    "DATE": pa.date32(),
    "TIME(6)": pa.time64("us"),
    "TIME": pa.time64("us"),
    "DATETIME2(6)": pa.timestamp("us"),
    "DATETIME2": pa.timestamp("us"),
    "DATETIMEOFFSET(6)": pa.timestamp("us", "UTC"),
    "DATETIMEOFFSET": pa.timestamp("us", "UTC"),
}


def from_microsoft_sql(declared: str) -> pa.DataType:
    """Return the Arrow type for a column of SQL Server; text if there is no other."""
    base, note = split_note(declared)
    if note:
        return noted_type(note) or pa.string()
    if found := _NUMERIC.fullmatch(base):
        return decimal_type(int(found[1]), int(found[2]))
    return pa.binary() if base.startswith(("VARBINARY(", "BINARY(")) else _BACK.get(base.upper(), pa.string())


MICROSOFT_SQL = Types(
    target="SQL Server",
    client="mssql-python",
    rules=_RULES,
    back=from_microsoft_sql,
    otherwise=_TEXT,
    limits=(
        ValueLimit(lambda type_: bool(_types.is_floating(type_)), infinite, "infinity, which SQL Server can't store"),
        YEARS,
    ),
    has_nan=False,
    names="Kept as they are. Names that differ only in case are one column. A name has at most 128 characters.",
    notes=(
        "This is from Microsoft's documentation. It has not run on a real server yet.",
        "That a NVARCHAR is JSON, or a BIGINT a timedelta, is in the table `_api2db_columns`.",
        "A zoned timestamp is stored as its instant, with the offset +00:00.",
    ),
)
