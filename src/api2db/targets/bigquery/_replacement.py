"""What becomes of a table's columns where the newest frame is the table."""

from collections.abc import Sequence

import pyarrow as pa
from google.cloud.bigquery import SchemaField

from api2db.targets.bigquery.columns import column_of, field_of
from api2db.targets.port import Column
from api2db.targets.types import bigquery_type, from_bigquery


def as_newest(fields: Sequence[SchemaField], columns: Sequence[Column]) -> list[SchemaField]:
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
    known = {column.name: column for column in columns}
    wanted = [_wanted(field, known.get(field.name)) for field in schema]
    return columns if {*wanted} == {*columns} else wanted


def _wanted(field: pa.Field, known: Column | None) -> Column:
    declared = bigquery_type(field.type)
    if known is not None and declared in {None, known.declared}:
        return known
    name = declared or "STRING"
    return Column(field.name, from_bigquery(name), name)
