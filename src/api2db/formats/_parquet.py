"""The Parquet format: every type as it is.

JSON cells have Parquet's JSON type, which pandas reads as text and DuckDB as JSON.

Each page has a checksum, so a flipped byte is detected. The order of categories, which Parquet can't store, is kept in
the file's metadata.

A file may have wider types than the rows that were put, or more or fewer columns, so that it can be read together with
the others of its folder (``folder_types``). The metadata then holds the rows' own schema, which is restored when the
file is read here.
"""

import base64
from functools import lru_cache
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from api2db.formats.folder_types import in_types
from api2db.frames import cast_exactly, is_text

_TINY_ROWS = 1_000
_OWN_SCHEMA = b"api2db.schema"
_types = pa.types


def write(table: pa.Table, file: BinaryIO, known: pa.Schema | None = None) -> None:
    """Write a table, with its ``pandas`` metadata, in the types that its folder is known to have."""
    if known is not None and len(known):
        table = _with_own_schema(in_types(table, known), table.schema)
    table = _with_categories(table)
    if table.num_rows < _TINY_ROWS:
        file.write(_tiny(table))
    else:
        pq.write_table(table, file, write_page_checksum=True)


def read(file: BinaryIO) -> pa.Table:
    """Read a table, and check that its values are valid for their types."""
    opened = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
    is_tiny = opened.metadata.num_rows < _TINY_ROWS
    table = opened.read(use_threads=not is_tiny)  # for a few rows, starting threads takes longer than reading
    table.validate(full=True)
    metadata = opened.metadata.metadata or {}
    table = _as_written(table, metadata)
    own = metadata.get(_OWN_SCHEMA)
    return table if own is None else _as_put(table, _noted_schema(own))


def _with_own_schema(table: pa.Table, own: pa.Schema) -> pa.Table:
    if table.schema.equals(own):
        return table
    kept = {_OWN_SCHEMA: base64.b64encode(own.serialize())}
    return table.replace_schema_metadata((table.schema.metadata or {}) | kept)


def _as_put(table: pa.Table, own: pa.Schema) -> pa.Table:
    columns = [_own_column(table, field) for field in own]
    return (
        pa.Table.from_arrays(columns, schema=own) if columns else table.select([]).replace_schema_metadata(own.metadata)
    )


def _own_column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray:
    if pa.types.is_null(field.type):
        return pa.chunked_array([pa.nulls(table.num_rows)])
    column = table.column(field.name)
    if column.type == field.type:
        return column
    chunks = []
    for chunk in column.chunks:
        cast, inexact = cast_exactly(chunk, field.type)
        if inexact is not None:
            raise ValueError(f"the column {field.name!r} can't hold the values that were put ({field.type})")
        chunks.append(cast)
    return pa.chunked_array(chunks, field.type)


def _with_categories(table: pa.Table) -> pa.Table:
    places = [place for place, field in enumerate(table.schema) if _forgets_categories(field.type)]
    if not places:
        return table
    table = table.unify_dictionaries()
    kept = {_categories_key(place): _packed(table.column(place)) for place in places}
    return table.replace_schema_metadata((table.schema.metadata or {}) | kept)


def _forgets_categories(type_: pa.DataType) -> bool:
    return _types.is_dictionary(type_) and (type_.ordered or not is_text(type_.value_type))


def _categories_key(place: int) -> bytes:
    return f"api2db.categories.{place}".encode()


def _packed(column: pa.ChunkedArray) -> bytes:
    categories = column.chunk(0).dictionary if column.num_chunks else pa.array([], column.type.value_type)
    written = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([categories], ["categories"])
    with pa.ipc.new_stream(written, batch.schema) as stream:
        stream.write_batch(batch)
    return base64.b64encode(written.getvalue())


def _unpacked(packed: bytes) -> pa.Array:
    with pa.ipc.open_stream(pa.py_buffer(base64.b64decode(packed))) as stream:
        table = stream.read_all()
    table.validate(full=True)
    return table.column(0).combine_chunks()


def _as_written(table: pa.Table, metadata: dict[bytes, bytes]) -> pa.Table:
    # Parquet has no seconds, only categories of text, and no dates in milliseconds: Arrow's schema records them.
    noted = metadata.get(b"ARROW:schema")
    if noted is None:
        return table
    for place, field in enumerate(_noted_schema(noted)):
        column, categories = table.column(place), metadata.get(_categories_key(place))
        if categories is not None:
            restored = _recategorised(column, field.type, _unpacked(categories))
        elif _is_noted_loss(field.type) and not column.type.equals(field.type):
            restored = _recast(column, field.type)
        else:
            continue
        table = table.set_column(place, table.field(place).with_type(field.type), restored)
    return table.replace_schema_metadata(_without_categories(table.schema.metadata))


@lru_cache(maxsize=8)
def _noted_schema(noted: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(noted)))


def _without_categories(metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes] | None:
    kept = {key: value for key, value in (metadata or {}).items() if not key.startswith(b"api2db.categories.")}
    return kept or None


def _is_noted_loss(type_: pa.DataType) -> bool:
    return bool(_types.is_temporal(type_) or _types.is_dictionary(type_))


def _recast(column: pa.ChunkedArray, type_: pa.DataType) -> pa.ChunkedArray:
    if not _types.is_dictionary(type_):
        return column.cast(type_)
    return column.dictionary_encode().unify_dictionaries().cast(type_)


def _recategorised(column: pa.ChunkedArray, type_: pa.DataType, categories: pa.Array) -> pa.Array:
    values = column.combine_chunks().cast(type_.value_type)
    indices = pc.index_in(values, categories, skip_nulls=True)
    if indices.null_count != values.null_count:
        raise ValueError("a value is not one of its column's categories")
    return pa.DictionaryArray.from_arrays(indices.cast(type_.index_type), categories, ordered=type_.ordered)


def _tiny(table: pa.Table) -> pa.Buffer:
    # Dictionaries and many small writes cost more than the rows themselves; only categories need their dictionary.
    written, categories = pa.BufferOutputStream(), [field.name for field in table.schema if _is_category(field)]
    with pq.ParquetWriter(written, table.schema, use_dictionary=categories, write_page_checksum=True) as writer:
        writer.write_table(table)
    return written.getvalue()


def _is_category(field: pa.Field) -> bool:
    return bool(_types.is_dictionary(field.type))
