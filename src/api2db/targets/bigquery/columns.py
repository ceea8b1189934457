"""Columns of BigQuery: how REST, GoogleSQL and we write them, and what they may be called."""

import json
import re
from collections.abc import Sequence

import pyarrow as pa
from google.cloud import bigquery

from api2db.errors import BatchRefusedError
from api2db.targets._evolve import replacement_columns
from api2db.targets.port import Column
from api2db.targets.types import BIGQUERY_DURATION, bigquery_type, from_bigquery

_NAMES = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_IN_SQL = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
_LIST = re.compile(r"ARRAY<(\w+)>")
_DECIMAL = re.compile(r"((?:BIG)?NUMERIC)\((\d+), (\d+)\)")
_LIMITED = re.compile(r"(\w+)\((\d+)\)")
_NANOSECONDS = "nanoseconds"
UNDECIDED = "api2db: its type is settled by its first value"
_LONGEST_NAME = 300
# Source: Google's "Specify a schema", flexible column names; a period is refused there, and so are these.
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
    """A column of ours as REST takes it."""
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
    """See whether a table can have a column of this name.

    Raises:
        BatchRefusedError: It can't; the message says why.
    """
    if not name or len(name) > _LONGEST_NAME or _FORBIDDEN.search(name) or name.upper().startswith(_RESERVED):
        raise BatchRefusedError(f"BigQuery has no columns named {name!r}; rename it before it is put")


def in_table(names: Sequence[str], columns: Sequence[Column]) -> tuple[str, ...]:
    """Names as the table has them: to BigQuery their case is all one."""
    known = {column.name.casefold(): column.name for column in columns}
    return tuple(known.get(name.casefold(), name) for name in names)


def column_of(field: bigquery.SchemaField) -> Column:
    """A column of REST as we take it."""
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
    """A column as CREATE TABLE has it."""
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
    """A text as GoogleSQL takes it, whose escapes are JSON's among others."""
    return json.dumps(value)


def name_in_sql(name: str) -> str:
    """A column's name in backticks; none that could end them gets here."""
    check_name(name)
    return f"`{name}`"


def as_newest(fields: Sequence[bigquery.SchemaField], columns: Sequence[Column]) -> list[bigquery.SchemaField]:
    """The columns of a table that is made anew; those that it has already stay as they are, with all that they say."""
    known = {field.name: field for field in fields}
    return [
        known[column.name]
        if column.name in known and column_of(known[column.name]).declared == column.declared
        else field_of(column.name, column.declared)
        for column in columns
    ]


def newest_columns(schema: pa.Schema, columns: Sequence[Column]) -> Sequence[Column]:
    """The columns of a table that becomes the newest frame; it stays as it is where that fits."""
    wanted = replacement_columns(schema, columns, _wanted)
    return columns if {*wanted} == {*columns} else wanted


def _wanted(field: pa.Field, known: Column | None) -> Column:
    declared = bigquery_type(field.type)
    if known is not None and declared in {None, known.declared}:
        return known
    name = declared or "STRING"
    return Column(field.name, from_bigquery(name), name)
