"""Parquet: every type as it is. JSON cells are Parquet's own JSON type, which pandas reads as text and DuckDB as JSON.

Each page has a checksum: a flipped byte is found, not read.
"""

import base64
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["read", "write"]

_TINY_ROWS = 1_000


def write(table: pa.Table, file: BinaryIO) -> None:
    """Write a table, with the ``pandas`` metadata that it carries."""
    if table.num_rows < _TINY_ROWS:
        file.write(_tiny(table))
    else:
        pq.write_table(table, file, write_page_checksum=True)


def read(file: BinaryIO) -> pa.Table:
    """Read a table, and check that its values are what their types say."""
    opened = pq.ParquetFile(file, page_checksum_verification=True)
    table = opened.read()
    table.validate(full=True)
    return _as_written(table, opened.metadata.metadata)


def _as_written(table: pa.Table, metadata: dict[bytes, bytes] | None) -> pa.Table:
    # Parquet has no seconds, no category but text, no date in milliseconds: Arrow notes what they were.
    noted = (metadata or {}).get(b"ARROW:schema")
    if noted is None:
        return table
    for place, field in enumerate(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(noted)))):
        column = table.column(place)
        if not column.type.equals(field.type) and _is_noted_loss(field.type):
            table = table.set_column(place, table.field(place).with_type(field.type), _restored(column, field.type))
    return table


def _is_noted_loss(type_: pa.DataType) -> bool:
    return bool(pa.types.is_temporal(type_) or pa.types.is_dictionary(type_))


def _restored(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_dictionary(type_):
        return column.cast(type_)
    return column.dictionary_encode().unify_dictionaries().cast(type_)


def _tiny(table: pa.Table) -> pa.Buffer:
    # Dictionaries and many small writes cost more than the rows themselves.
    written = pa.BufferOutputStream()
    with pq.ParquetWriter(written, table.schema, use_dictionary=False, write_page_checksum=True) as writer:
        writer.write_table(table)
    return written.getvalue()
