"""Encode values for binary COPY with pgpq, and cast those that binary COPY does not accept."""

import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import from_extra
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.sql.port import encoded
from api2db.targets.types import from_postgresql

# Types for which binary COPY accepts no Arrow type, but to which numbers can be cast.
_BY_CAST = {"oid": pa.uint32(), "money": pa.decimal128(19, 2)}
# Types, and arrays of them, that may write a value in another form, for instance without a space, without loss.
_RESPELLED = frozenset(
    {
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "numeric",
        "text",
        "character varying",
        "bytea",
        "bit varying",
        '"bit"',
    }
    | {"uuid", "inet", "cidr", "macaddr", "macaddr8", "pg_lsn", "interval", "time with time zone"}
    | {"json", "jsonb", "jsonpath", "xml", "tsvector", "tsquery", "int4range", "int8range", "numrange", "daterange"}
)
_WIDE = re.compile(r"numeric\(\d+,-?\d+\)")
# What PostgreSQL itself quotes.
_QUOTED = r'(?i)^$|^null$|[\s"\\{},]'


def as_copied(rows: pa.Table) -> pa.Table:
    """Turn lists, and numbers with too many digits for COPY, into text."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_list(field.type):
            rows = rows.set_column(number, field.name, _array_texts(rows.column(number).combine_chunks()))
        elif pa.types.is_decimal256(field.type):
            rows = rows.set_column(number, field.name, rows.column(number).cast(pa.string()))
    return rows


def _array_texts(lists: pa.Array) -> pa.Array:
    """Lists as PostgreSQL's array literals."""
    if isinstance(lists, pa.ChunkedArray):  # it has no chunks
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
    """The encoder for batches of a schema into columns of a table.

    Raises:
        BatchRefusedError: A column has no binary form.
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


def held(base: str) -> pa.DataType:
    """The Arrow type to send for a column of a base type; text if only text can be cast to it."""
    if is_array(base):
        return pa.list_(held(base.removesuffix("[]")))
    type_ = from_postgresql(base) or _BY_CAST.get(base, pa.string())
    return from_postgresql("numeric") if pa.types.is_string(type_) and _WIDE.fullmatch(base) else type_


def is_array(base: str) -> bool:
    """Whether a type is an array; PostgreSQL also parses text for it."""
    return base.endswith("[]")


def is_copied(base: str) -> bool:
    """Whether COPY accepts values in a base type."""
    type_ = from_postgresql(base)
    return type_ is not None and not pa.types.is_decimal256(type_)


def respells(base: str) -> bool:
    """Whether a type may write a value in another form without loss."""
    return base.removesuffix("[]") in _RESPELLED


def changed(name: str, cast: str, base: str, *, respelled: bool) -> str:
    """The condition that a cast has changed what was sent."""
    if base == "oid":
        return "false"  # its cast from a number raises for what does not fit
    if base in {"numeric", "money"}:
        return f"{cast}::numeric IS DISTINCT FROM {name}::numeric"
    condition = f"{cast}::text IS DISTINCT FROM {name}"
    return f"{condition} AND {cast}::text IS DISTINCT FROM {name}::{base}::text" if respelled else condition
