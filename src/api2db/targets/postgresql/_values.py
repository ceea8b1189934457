"""Values as binary COPY of PostgreSQL takes them, encoded by pgpq."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import from_extra
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.sql.encoding import encoded


def as_copied(rows: pa.Table) -> pa.Table:
    """Rows whose lists, and numbers of too many digits for COPY, are text."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_list(field.type):
            rows = rows.set_column(number, field.name, _array_texts(rows.column(number).combine_chunks()))
        elif pa.types.is_decimal256(field.type):
            rows = rows.set_column(number, field.name, rows.column(number).cast(pa.string()))
    return rows


# What PostgreSQL puts in quotes itself.
_QUOTED = r'(?i)^$|^null$|[\s"\\{},]'


def _array_texts(lists: pa.Array) -> pa.Array:
    """Lists as PostgreSQL writes arrays."""
    if isinstance(lists, pa.ChunkedArray):  # of no chunks
        return pa.array([], pa.string())
    items = _storage_of(lists.flatten())
    texts = items.cast(pa.string())
    if pa.types.is_string(items.type) or pa.types.is_timestamp(items.type):
        escaped = pc.replace_substring_regex(texts, r'(["\\])', r"\\\1")
        quoted = pc.binary_join_element_wise('"', escaped, '"', "")
        texts = pc.if_else(pc.match_substring_regex(texts, _QUOTED), quoted, texts)
    lengths = pc.fill_null(pc.list_value_length(lists), 0)
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths).cast(pa.int32())])
    joined = pc.binary_join(pa.ListArray.from_arrays(offsets, pc.fill_null(texts, "NULL")), ",")
    arrays = pc.binary_join_element_wise("{", joined, "}", "")
    return pc.if_else(lists.is_valid(), arrays, pa.scalar(None, pa.string()))


def _storage_of(items: pa.Array) -> pa.Array:
    return items.storage if is_json(items.type) else items


def encoder(schema: pa.Schema, columns: Mapping[str, Column]) -> Any:
    """What makes bytes of the batches of a schema, for columns of a table.

    Raises:
        BatchRefusedError: A column has no form there.
        MissingExtraError: pgpq is not installed.
    """
    with from_extra("pgpq", "postgresql"):
        import pgpq
        from pgpq.encoders import LargeStringEncoderBuilder, StringEncoderBuilder
        from pgpq.schema import Jsonb
    builders: dict[str, Any] = {}
    for field in schema:
        infer = pgpq.ArrowToPostgresBinaryEncoder.infer_encoder
        if is_json(columns[field.name].type):
            text = pa.field(field.name, _storage(field.type))
            kind = LargeStringEncoderBuilder if pa.types.is_large_string(text.type) else StringEncoderBuilder
            builders[field.name] = kind.new_with_output(text, Jsonb())
        else:
            builders[field.name] = encoded(infer, field)
    return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, builders)


def _storage(type_: pa.DataType) -> pa.DataType:
    return getattr(type_, "storage_type", type_)
