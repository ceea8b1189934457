"""Columns of BigQuery, as REST, GoogleSQL and api2db write them, and their names."""

import json
import re
from collections.abc import Sequence

import pyarrow as pa
from google.cloud import bigquery

from api2db.errors import BatchRefusedError
from api2db.targets._evolve import replacement_columns
from api2db.targets.port import Column
from api2db.targets.types import BIGQUERY, BIGQUERY_DURATION, from_bigquery

_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_IN_SQL = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_LIST = re.compile(r"ARRAY<(\w+)>")
_DECIMAL = re.compile(r"((?:BIG)?NUMERIC)\((\d+), (\d+)\)")
_LIMITED = re.compile(r"(\w+)\((\d+)\)")
_NANOSECONDS = "nanoseconds"
UNDECIDED = "api2db: its type is settled by its first value"
_LONGEST_NAME = 300
# Source: Google's "Specify a schema", flexible column names; it forbids these characters, and periods are refused too.
_FORBIDDEN = re.compile(r"[!\"$()*,./;?@\[\\\]^`{}~\x00-\x1f]")
_RESERVED = (
    "_TABLE_",
    "_FILE_",
    "_PARTITION",
    "_ROW_TIMESTAMP",
    "__ROOT__",
    "_COLIDENTIFIER",
    "_CHANGE_SEQUENCE_NUMBER",
    "_CHANGE_TYPE",
    "_CHANGE_TIMESTAMP",
)


def field_of(name: str, declared: str, *, undecided: bool = False) -> bigquery.SchemaField:
    """A column as REST writes it."""
    if undecided:
        return bigquery.SchemaField(name, declared, description=UNDECIDED)
    if declared == BIGQUERY_DURATION:
        return bigquery.SchemaField(name, "INTEGER", description=_NANOSECONDS)
    if found := _LIST.fullmatch(declared):
        return bigquery.SchemaField(name, found[1], "REPEATED")
    if found := _DECIMAL.fullmatch(declared):
        return bigquery.SchemaField(name, found[1], precision=int(found[2]), scale=int(found[3]))
    if found := _LIMITED.fullmatch(declared):
        return bigquery.SchemaField(name, found[1], max_length=int(found[2]))
    return bigquery.SchemaField(name, declared)


def check_name(name: str) -> None:
    """Check that a table can have a column of this name.

    Raises:
        BatchRefusedError: It cannot; the message says why.
    """
    if not name or len(name) > _LONGEST_NAME or _FORBIDDEN.search(name) or name.upper().startswith(_RESERVED):
        raise BatchRefusedError(f"BigQuery has no columns named {name!r}; rename it before it is put")


def in_table(names: Sequence[str], columns: Sequence[Column]) -> tuple[str, ...]:
    """Names as the table writes them; BigQuery ignores their case."""
    known = {column.name.casefold(): column.name for column in columns}
    return tuple(known.get(name.casefold(), name) for name in names)


def column_of(field: bigquery.SchemaField) -> Column:
    """A column of REST as a ``Column``."""
    declared = _declared(field)
    return Column(field.name, from_bigquery(declared), declared)


def _declared(field: bigquery.SchemaField) -> str:
    name = _NAMES.get(field.field_type.upper(), field.field_type.upper())
    if field.mode == "REPEATED":
        return f"ARRAY<{name}>"
    if name == "INTEGER" and field.description == _NANOSECONDS:
        return BIGQUERY_DURATION
    if field.precision is not None:
        return f"{name}({field.precision}, {field.scale or 0})"
    return f"{name}({field.max_length})" if field.max_length is not None else name


def column_in_sql(field: bigquery.SchemaField) -> str:
    """A column as CREATE TABLE writes it."""
    rule = " NOT NULL" if field.mode == "REQUIRED" else ""
    options = f" OPTIONS(description={text_in_sql(field.description)})" if field.description else ""
    return f"{name_in_sql(field.name)} {type_in_sql(field)}{rule}{options}"


def type_in_sql(field: bigquery.SchemaField) -> str:
    """A column's type as GoogleSQL writes it."""
    name = _NAMES.get(field.field_type.upper(), field.field_type.upper())
    type_ = _IN_SQL.get(name, name)
    if name == "RECORD":
        type_ = f"STRUCT<{', '.join(f'{name_in_sql(each.name)} {type_in_sql(each)}' for each in field.fields)}>"
    elif field.precision is not None:
        type_ = f"{name}({field.precision}, {field.scale or 0})"
    elif field.max_length is not None:
        type_ = f"{name}({field.max_length})"
    return f"ARRAY<{type_}>" if field.mode == "REPEATED" else type_


def text_in_sql(value: str) -> str:
    """A text as GoogleSQL writes it; JSON's escapes are valid there."""
    return json.dumps(value)


def name_in_sql(name: str) -> str:
    """A column's name in backticks; names with backticks are refused."""
    check_name(name)
    return f"`{name}`"


def replacement_fields(fields: Sequence[bigquery.SchemaField], columns: Sequence[Column]) -> list[bigquery.SchemaField]:
    """The fields of a table that is created again; columns that it has already keep all their attributes."""
    known = {field.name: field for field in fields}
    return [
        known[column.name]
        if column.name in known and column_of(known[column.name]).declared == column.declared
        else field_of(column.name, column.declared)
        for column in columns
    ]


def replaced_columns(schema: pa.Schema, columns: Sequence[Column]) -> Sequence[Column]:
    """The columns of a table that becomes the newest frame; unchanged if the frame fits."""
    wanted = replacement_columns(schema, columns, _wanted)
    return columns if {*wanted} == {*columns} else wanted


def _wanted(field: pa.Field, known: Column | None) -> Column:
    declared = BIGQUERY.column(field.type)
    if known is not None and declared in {None, known.declared}:
        return known
    name = declared or "STRING"
    return Column(field.name, from_bigquery(name), name)
