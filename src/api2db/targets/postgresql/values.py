"""Values as binary COPY of PostgreSQL takes them, encoded by pgpq."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from api2db.errors import from_extra
from api2db.frames import is_json
from api2db.targets.port import Column
from api2db.targets.sql.encoding import encoded

__all__ = ["as_copied", "encoder"]


def as_copied(rows: pa.Table) -> pa.Table:
    """Rows whose numbers of too many digits for COPY are text."""
    for number, field in enumerate(rows.schema):
        if pa.types.is_decimal256(field.type):
            rows = rows.set_column(number, field.name, rows.column(number).cast(pa.string()))
    return rows


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
