"""Conversion of records to rows: selects and renames fields, casts values, flattens objects, adds constants."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from api2db.errors import FrameError, PollError
from api2db.frames import JSON, Refused, encode_cell, rows_and_refused, set_aside, to_batch
from api2db.rest._casts import Cast
from api2db.rest._paths import Path

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """How records become rows.

    Attributes:
        fields: For each column its path in a record. If empty, all fields keep their names.
        casts: The types of columns.
        flatten: Whether nested objects become columns with dotted names.
        include: Columns with the same value in every row.
    """

    fields: Mapping[str, Path] = field(default_factory=dict)
    casts: Mapping[str, Cast] = field(default_factory=dict)
    flatten: bool = False
    include: Mapping[str, Any] = field(default_factory=dict)

    def row(self, record: Any) -> Row:
        """Return a record as a row.

        Raises:
            PollError: It is not an object, and ``fields`` is empty.
        """
        if self.fields:
            row = {name: find(record) for name, find in self.fields.items()}
        elif isinstance(record, dict):
            row = (_flattened(record) or record) if self.flatten else record
        else:
            raise PollError(
                f"a record is a {type(record).__name__}, not an object; give fields=, such as {{'first': '[0]'}}, or "
                "the path of the objects as records="
            )
        return {**row, **self.include} if self.include else row

    def cast(self, row: Row) -> tuple[Row, str | None]:
        """Return a row with its values cast and None; or the unchanged row and the reason why it is refused."""
        if self.flatten and not self.fields and (name := _repeated(row)) is not None:
            return row, f"flatten=True gives {name!r} to two of its values; name them with fields="
        made = dict(row) if self.casts else row
        for name, cast in self.casts.items():
            value = row.get(name)
            try:
                made[name] = None if value is None else cast.value(value)
            except ValueError as error:
                return row, f"{name!r} {error}"
        return made, None

    def pages(self, rows: Sequence[Row]) -> list[Any]:
        """Return rows as frames. Columns are typed even if a page holds only nulls."""
        if not self.casts or not rows:
            return [rows]
        try:
            return [self._typed(rows)]
        except FrameError as error:
            if not isinstance(error.__cause__, UnicodeEncodeError):
                raise
        found = [rows_and_refused([row]) for row in rows]
        good = [row for row, parts in zip(rows, found, strict=True) if not isinstance(parts[0], Refused)]
        refused = [part for parts in found for part in parts if isinstance(part, Refused)]
        return [*refused, self._typed(good)] if good else list(refused)

    def _typed(self, rows: Sequence[Row]) -> pa.RecordBatch:
        batch = to_batch(rows)
        arrays = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
        arrays |= {name: _array([row[name] for row in rows], cast.column) for name, cast in self.casts.items()}
        return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def rejected(rows: Sequence[tuple[Row, str]]) -> list[Refused]:
    """Return rows that a cast refused, unchanged, grouped by reason."""
    by_reason: dict[str, list[Row]] = {}
    for row, reason in rows:
        by_reason.setdefault(reason, []).append(row)
    return [part for reason, refused in by_reason.items() for part in set_aside(refused, reason)]


def _array(values: list[Any], column: pa.DataType) -> pa.Array:
    if column == JSON:
        texts = [None if value is None else encode_cell(value) for value in values]
        return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))
    return pa.array(values, column)


def _flattened(record: Mapping[str, Any]) -> Row | None:
    """Return a record with dotted names; None if two of its values would have the same name."""
    leaves = list(_leaves(record, ""))
    row = dict(leaves)
    return row if len(row) == len(leaves) else None


def _repeated(record: Mapping[str, Any]) -> str | None:
    """Return a dotted name that two values of a record have; None if all names differ."""
    if not any(isinstance(value, dict) and value for value in record.values()):
        return None
    counts = Counter(name for name, _ in _leaves(record, ""))
    return next((name for name, count in counts.items() if count > 1), None)


def _leaves(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the values that are not objects, and empty objects, with their dotted names."""
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
