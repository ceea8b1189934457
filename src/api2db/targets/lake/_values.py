"""Rows in the types in which the files of a lake have them, and back."""

from collections.abc import Mapping

import pyarrow as pa

from api2db.frames import is_json
from api2db.targets.port import Column

_types = pa.types


def stored(rows: pa.Table, columns: Mapping[str, Column], schema: pa.Schema) -> pa.Table:
    """Rows with all columns of a table, in its order and types.

    Args:
        rows: Cast to the types of ``columns``; they may lack columns.
        columns: The table's columns by name.
        schema: The types in which the table's files have its columns.
    """
    given = set(rows.column_names)
    arrays = [
        _as_stored(rows.column(field.name), columns[field.name], field.type)
        if field.name in given
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema).combine_chunks()  # the library writes chunks in no order


def _as_stored(values: pa.ChunkedArray, column: Column, type_: pa.DataType) -> pa.ChunkedArray:
    if is_json(values.type):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], values.type.storage_type)
    if _types.is_time(column.type) and _types.is_string(type_):
        return pa.chunked_array([_as_text(chunk) for chunk in values.chunks], type_)
    if _types.is_duration(values.type):
        values = values.cast(pa.duration("ns")).cast(pa.int64())
    if _types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values if values.type.equals(type_) else values.cast(type_)


def _as_text(times: pa.Array) -> pa.Array:
    """ISO 8601 with as few digits as the values need."""
    texts = times.cast(pa.string()).to_pylist()
    return pa.array([text and (text.rstrip("0").rstrip(".") if "." in text else text) for text in texts], pa.string())


def read_back(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    """Stored values in the column's own type; as they are if that is not known."""
    if _types.is_null(column.type) and values.null_count < len(values):
        return values
    if is_json(column.type):
        chunks = [pa.ExtensionArray.from_storage(column.type, chunk.cast(pa.utf8())) for chunk in values.chunks]
        return pa.chunked_array(chunks, column.type)
    if _types.is_time(column.type):
        return values.cast(pa.string()).cast(column.type) if not _types.is_time(values.type) else values
    return values if values.type.equals(column.type) else values.cast(column.type)
