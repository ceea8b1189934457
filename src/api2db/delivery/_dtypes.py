"""The dtypes of a stream, to which rows are cast on their way into the target.

The journal and rejected rows keep the values as they were put, so rejected rows can be retried after the dtypes have
been corrected. The result depends on the row and the dtypes only, never on the batch, so a restart does not change it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from api2db.delivery._fitting import Mismatch
from api2db.frames import cast_as_asked
from api2db.targets.types import in_words


@dataclass(frozen=True)
class Dtypes:
    """The type that each named column is cast to.

    Attributes:
        types: By the column's name.
        said: The dtypes as the user wrote them, for messages.
    """

    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)

    def schema(self, schema: pa.Schema) -> pa.Schema:
        """The schema after the cast, without pandas' metadata of the columns that change."""
        if not self.types:
            return schema
        changed = {each.name for each in schema if self._wanted(each) != each.type}
        if not changed:
            return schema
        fields = [pa.field(each.name, self._wanted(each)) for each in schema]
        return pa.schema(fields, _without(schema.metadata, changed))

    def schema_of_empty(self, schema: pa.Schema) -> pa.Schema | None:
        """The columns of a frame without rows, or of ``types`` if it has no columns; None if no column has a type."""
        known = self.schema(schema) if len(schema) else pa.schema(list(self.types.items()))
        has_type = self.types and not all(pa.types.is_null(type_) for type_ in known.types)
        return known if has_type else None

    def applied(self, rows: pa.Table) -> tuple[pa.Table, list[Mismatch]]:
        """Rows cast to these types, with null for each value that can't be cast, and a list of these values."""
        schema = self.schema(rows.schema)
        if schema is rows.schema:
            return rows, []
        columns, mismatches = [], []
        for wanted, column in zip(schema, rows.columns, strict=True):
            if wanted.type == column.type:
                columns.append(column)
                continue
            cast, mask = cast_as_asked(column.combine_chunks(), wanted.type)
            columns.append(pa.chunked_array([cast]))
            if mask is not None:
                mismatches.append(
                    Mismatch(wanted.name, column.type, None, mask, self._reason(wanted.name, column.type))
                )
        return pa.table(columns, schema=schema), mismatches

    def _wanted(self, column: pa.Field) -> pa.DataType:
        return self.types.get(column.name, column.type)

    def _reason(self, name: str, type_: pa.DataType) -> str:
        return (
            f"{name!r}: the {in_words(type_)} can't be cast to {self.said[name]!r}, as dtypes= asks, without loss;"
            " correct the value, or give the column another dtype"
        )


def _without(metadata: Mapping[bytes, bytes] | None, changed: set[str]) -> dict[bytes, bytes] | None:
    if not metadata or b"pandas" not in metadata:
        return dict(metadata) if metadata else None
    described = json.loads(metadata[b"pandas"])
    described["columns"] = [each for each in described["columns"] if each.get("field_name") not in changed]
    return {**metadata, b"pandas": json.dumps(described).encode()}
