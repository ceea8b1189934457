"""The cast of a batch to a table's columns: the table follows the data, and rows that do not fit are found."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.delivery._fitting import Fitted, Mismatch, fit
from api2db.delivery.batch import Batch
from api2db.errors import BatchRefusedError, TableChangedError
from api2db.frames import JSON, duplicate_rows, encode_cell, is_bytes, is_text, python_values
from api2db.targets.port import ChangeOrigin, ChangeOrigins, Column, TableTarget
from api2db.texts import redact

logger = logging.getLogger(__name__)
_MOST_SAMPLES = 3
_LONGEST_SAMPLE = 40  # characters


class Casting:
    """Casts batches for one table, and warns once for each column whose values are truncated there.

    Attributes:
        columns: The table's columns after the last batch.
    """

    def __init__(self, target: TableTarget) -> None:
        self._target = target
        self._told: set[str] = set()
        self.columns: Sequence[Column] = ()

    def prepare(self, batch: Batch) -> tuple[Batch, Sequence[Column] | None]:
        """Make the table follow a batch.

        Returns:
            The batch and the table's columns. If one table can't have the columns of all frames: the first frames that
            have the same columns, and None; the caller delivers these alone.

        Raises:
            BatchRefusedError: The table can't have the columns of a single frame.
        """
        try:
            columns = self._target.prepare(self._checked(batch.schema), origins_of(batch))
        except BatchRefusedError:
            if (alike := batch.leading_alike()) is batch:
                raise
            return alike, None
        if self._target.unplaced and (alike := batch.leading_alike()) is not batch:
            return alike, None
        self.columns = columns
        return batch, columns

    def _checked(self, schema: pa.Schema) -> pa.Schema:
        if self._target.overflow_column in schema.names:
            raise BatchRefusedError(
                f"the frame has a column {self._target.overflow_column!r}, "
                "which on_conflict='json' keeps for itself; rename it"
            )
        return schema

    def cast(
        self, batch: Batch, rows: pa.Table, columns: Sequence[Column]
    ) -> tuple[pa.Table, Sequence[Column], dict[int, str]]:
        """Cast to the table's types, and widen columns if needed; return the reason for each row that does not fit.

        Args:
            rows: The batch's rows, in the form that the target wants.
        """
        fitted = self._fitted(rows, columns)
        if fitted.mismatches and (columns_now := self._altered(columns)):
            columns, fitted = columns_now, self._fitted(rows, columns_now)
        forbidden: dict[str, str] = {}
        wider = [column for mismatch in fitted.mismatches if (column := self._widen(batch, mismatch, forbidden))]
        if wider:
            changed = {column.name: column for column in wider}
            columns = [changed.get(column.name, column) for column in columns]
            fitted = self._fitted(rows, columns)
        fitted.mismatches = [*batch.mismatches, *fitted.mismatches]
        if self._target.overflow_column and (fitted.mismatches or self._target.keys):
            fitted, columns = self._with_overflow(batch, fitted, columns, self._target.overflow_column)
        reasons = reasons_of(fitted.mismatches, forbidden)
        for row, reason in rows_without_key(fitted.rows, self._target.keys).items():
            reasons.setdefault(row, reason)
        self.columns = columns
        return fitted.rows, columns, reasons

    def cast_ahead(self, batch: Batch, columns: Sequence[Column]) -> pa.Table | None:
        """Cast to the table's types, in any thread; None if a value does not fit."""
        fitted = self._fitted(batch.rows, columns)
        return None if fitted.mismatches or batch.mismatches else fitted.rows

    def cast_mixed(self, batch: Batch, columns: Sequence[Column]) -> pa.Table | None:
        """Cast entries of several schemas to the table's columns; None if that is not possible as the table is.

        Args:
            batch: Its ``put_schema`` is that of the first entries only.
        """
        if self._target.keys and self._target.overflow_column:
            return None
        tables = [self._cast_as_is(part, columns) for part in batch.by_schema() if part.num_rows]
        found = [table for table in tables if table is not None]
        if len(found) < len(tables):
            return None
        # A column that rows lack keeps its value if they replace others, or gets the table's default.
        names = {frozenset(table.column_names) for table in found}
        if len(names) > 1 and (self._target.keys or any(column.fills for column in columns)):
            return None
        try:
            return batch.in_order(pa.concat_tables(found, promote_options="default"))
        except pa.ArrowException:
            return None

    def _cast_as_is(self, batch: Batch, columns: Sequence[Column]) -> pa.Table | None:
        """Rows of one schema, cast to the table's columns as they are; None if a value does not fit."""
        fitted = self._fitted(batch.rows, columns)
        if fitted.mismatches or batch.mismatches or rows_without_key(fitted.rows, self._target.keys):
            return None
        types = {column.name: column.type for column in columns}
        return fitted.rows.cast(
            pa.schema([(each.name, _one_kind(each.type, types[each.name])) for each in fitted.rows.schema])
        )

    def _altered(self, columns: Sequence[Column]) -> Sequence[Column] | None:
        """The table's columns if another program has altered them; None if not. No row is rejected by old columns."""
        if self._target.replaces_table:
            return None
        columns_now = self._target.columns()
        if columns_now is None:
            raise TableChangedError("the table is gone; it is created again")
        return columns_now if list(columns_now) != list(columns) else None

    def _fitted(self, rows: pa.Table, columns: Sequence[Column]) -> Fitted:
        fitted = fit(rows, columns, self._target.fold, self._target.limits, self._target.unplaced)
        for name in set(fitted.truncated) - self._told:
            self._told.add(name)
            logger.warning("%r is truncated to microseconds: the column's type has no nanoseconds", name)
        return fitted

    def _with_overflow(
        self, batch: Batch, fitted: Fitted, columns: Sequence[Column], extra: str
    ) -> tuple[Fitted, Sequence[Column]]:
        """Move mismatches into the overflow column, except those of the keys, which identify rows."""
        odd = [mismatch for mismatch in fitted.mismatches if mismatch.name not in self._target.keys]
        if not odd and all(column.name != extra for column in columns):
            return fitted, columns
        cells = overflow_cells(batch.put_rows, odd)  # nulls too: a row that is replaced keeps none of the old values
        try:
            columns = self._target.prepare(batch.schema.append(pa.field(extra, cells.type)), origins_of(batch))
            if extra in self._target.unplaced:
                raise BatchRefusedError(self._target.unplaced[extra])
        except BatchRefusedError as error:
            logger.warning("the table can't have the column %r: %s", extra, redact(str(error)))
            return fitted, columns
        beside = self._fitted(pa.table({extra: cells}), columns)
        kept = [mismatch for mismatch in fitted.mismatches if mismatch not in odd]
        rows = fitted.rows.append_column(extra, beside.rows.column(extra))
        return Fitted(rows, [*kept, *beside.mismatches]), columns

    def _widen(self, batch: Batch, mismatch: Mismatch, forbidden: dict[str, str]) -> Column | None:
        if mismatch.column is None or mismatch.beyond:
            return None
        try:
            return self._target.widen(
                mismatch.column, mismatch.type, origins_of(batch, {mismatch.column.name: mismatch.mask})
            )
        except BatchRefusedError as error:
            forbidden[mismatch.name] = f", which can't be changed: {error}"
            logger.warning("the column %r stays %s: %s", mismatch.name, mismatch.column.declared, redact(str(error)))
            return None


def _one_kind(type_: pa.DataType, home: pa.DataType) -> pa.DataType:
    """The column's own type for text and bytes, which Arrow has several types for."""
    is_same = (is_text(type_) and is_text(home)) or (is_bytes(type_) and is_bytes(home))
    return home if is_same else type_


def reasons_of(mismatches: Sequence[Mismatch], forbidden: Mapping[str, str] | None = None) -> dict[int, str]:
    """The reasons to reject rows with mismatches, by the row's number.

    Args:
        forbidden: For each column that can't be widened, the reason.
    """
    reasons: dict[int, str] = {}
    for mismatch in mismatches:
        reason = f"{mismatch.reason}{(forbidden or {}).get(mismatch.name, '')}"
        for row in pc.indices_nonzero(mismatch.mask).to_pylist():
            reasons[row] = f"{reasons[row]}; {reason}" if row in reasons else reason
    return reasons


def prepare_empty(target: TableTarget, batch: Batch) -> None:
    """Create the table for frames without rows if the stream's dtypes give the types of its columns."""
    schema = batch.dtypes.schema_of_empty(batch.put_schema)
    if schema is None:
        return
    try:
        target.prepare(schema, origins_of(batch))
    except BatchRefusedError as error:
        logger.warning("no table is created from a frame without rows: %s", redact(str(error)))


def without(rows: pa.Table, numbers: dict[int, str]) -> pa.Table:
    """The rows without those of these numbers."""
    keep = [row for row in range(rows.num_rows) if row not in numbers]
    return rows.take(pa.array(keep, pa.int64()))


def rows_without_key(rows: pa.Table, keys: Sequence[str]) -> dict[int, str]:
    """The rows without a value in a column of the key, by number, with the reason to reject them."""
    reasons: dict[int, str] = {}
    for key in keys:
        if key not in rows.column_names:
            return dict.fromkeys(range(rows.num_rows), f"the frame has no column {key!r}, which is part of the key")
        for row in pc.indices_nonzero(rows.column(key).is_null()).to_pylist():
            reasons.setdefault(row, f"{key!r} is part of the key and has no value")
    return reasons


def last_of_each_key(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows whose key no later row has."""
    repeated = comes_again(rows, keys)
    return rows.filter(pa.array(~repeated)) if repeated.any() else rows


def comes_again(rows: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """For each row, whether a later row has the same key."""
    backwards = pa.array(np.arange(rows.num_rows - 1, -1, -1))
    repeated: np.ndarray = duplicate_rows(rows.select(list(keys)).take(backwards)).to_numpy(zero_copy_only=False)
    return repeated[::-1]


def overflow_cells(rows: pa.Table, mismatches: Sequence[Mismatch]) -> pa.Array:
    """For each row a JSON object of its mismatches by column; null if it has none."""
    odd: list[dict[str, str]] = [{} for _ in range(rows.num_rows)]
    for mismatch in mismatches:
        places = pc.indices_nonzero(mismatch.mask)
        cells = rows.column(mismatch.name).take(places)
        for place, text in zip(places.to_pylist(), _overflow_texts(cells), strict=True):
            odd[place][mismatch.name] = text
    texts = [_overflow_object(cells) if cells else None for cells in odd]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))


def _overflow_texts(cells: pa.ChunkedArray) -> list[str]:
    if isinstance(cells.type, pa.BaseExtensionType):
        return [str(text).lstrip() for text in cells.cast(pa.utf8()).to_pylist()]  # is JSON already
    return [encode_cell(value) for value in python_values(cells)]


def _overflow_object(cells: dict[str, str]) -> str:
    return "{" + ", ".join(f"{encode_cell(name)}: {text}" for name, text in cells.items()) + "}"


def origins_of(batch: Batch, masks: dict[str, pa.Array] | None = None) -> ChangeOrigins:
    """Return a function that gives the origin of a change, by the column's name.

    Args:
        batch: The rows that the table follows.
        masks: By column, the values that caused its change; by default all that are not null.
    """

    def cause_of(column: str) -> ChangeOrigin:
        if column not in batch.rows.column_names:
            return ChangeOrigin(next((time for time, _ in batch.frame_times()), 0))
        values = batch.rows.column(column)
        chosen = (masks or {}).get(column)
        places = pc.indices_nonzero(values.is_valid() if chosen is None else chosen).slice(0, 100)
        first = places[0].as_py() if len(places) else 0
        return ChangeOrigin(_frame_of(batch, first), _samples(column, python_values(values.take(places))))

    return cause_of


def _frame_of(batch: Batch, row: int) -> int:
    for time, rows in batch.frame_times():
        if row < rows:
            return time
        row -= rows
    return 0


def _samples(column: str, values: list[object]) -> str:
    """At most three different values, each after the column's name, so that secrets are recognized and redacted."""
    texts = list(dict.fromkeys(encode_cell(value) for value in values))[:_MOST_SAMPLES]
    told = [redact(f"{column}={text}") for text in texts]
    return ", ".join(
        text if len(text) <= _LONGEST_SAMPLE + len(column) else f"{text[: _LONGEST_SAMPLE + len(column)]}…"
        for text in told
    )
