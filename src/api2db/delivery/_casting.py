"""A batch cast to what a table has: columns are widened where they can be, and rows that do not fit are named."""

import logging
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from api2db.delivery._fitting import Fitted, Mismatch, fit
from api2db.delivery._keys import rows_without_key
from api2db.delivery._origins import origins_of
from api2db.delivery._overflow import overflow_cells
from api2db.delivery.batch import Batch
from api2db.errors import BatchRefusedError, TableChangedError
from api2db.redaction import redact
from api2db.targets.port import Column, TableTarget

logger = logging.getLogger(__name__)


class Casting:
    """Casts batches for one table, and says once for each column what is cut there."""

    def __init__(self, target: TableTarget) -> None:
        self._target = target
        self._told: set[str] = set()

    def cast(
        self, batch: Batch, rows: pa.Table, columns: Sequence[Column]
    ) -> tuple[pa.Table, Sequence[Column], dict[int, str]]:
        """Cast to the table's types, widening those that need it; say which rows still do not fit, and why.

        Args:
            rows: The batch's, as the target wants them.
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
        return fitted.rows, columns, reasons

    def _altered(self, columns: Sequence[Column]) -> Sequence[Column] | None:
        """The table's columns, where somebody has altered them since they were asked for: no row is odd by old ones."""
        if self._target.replaces_table:
            return None
        columns_now = self._target.columns()
        if columns_now is None:
            raise TableChangedError("the table is gone; it is made anew")
        return columns_now if list(columns_now) != list(columns) else None

    def _fitted(self, rows: pa.Table, columns: Sequence[Column]) -> Fitted:
        fitted = fit(rows, columns, self._target.same_column, self._target.limits, self._target.unplaced)
        for name in set(fitted.truncated) - self._told:
            self._told.add(name)
            logger.warning("%r is kept to the microsecond: the target holds no nanoseconds there", name)
        return fitted

    def _with_overflow(
        self, batch: Batch, fitted: Fitted, columns: Sequence[Column], extra: str
    ) -> tuple[Fitted, Sequence[Column]]:
        """Odd values go into a JSON column of their own; but for those of a key, by which rows are known."""
        odd = [mismatch for mismatch in fitted.mismatches if mismatch.name not in self._target.keys]
        if not odd and all(column.name != extra for column in columns):
            return fitted, columns
        cells = overflow_cells(batch.put_rows, odd)  # nulls too: a row that is replaced has none of the old one's
        try:
            columns = self._target.prepare(batch.schema.append(pa.field(extra, cells.type)), origins_of(batch))
            if extra in self._target.unplaced:
                raise BatchRefusedError(self._target.unplaced[extra])
        except BatchRefusedError as error:
            logger.warning("there can be no column %r: %s", extra, redact(str(error)))
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


def reasons_of(mismatches: Sequence[Mismatch], forbidden: Mapping[str, str] | None = None) -> dict[int, str]:
    """Why rows with values that do not fit are rejected, by the row's number.

    Args:
        forbidden: By column why that can't be widened.
    """
    reasons: dict[int, str] = {}
    for mismatch in mismatches:
        reason = f"{mismatch.reason}{(forbidden or {}).get(mismatch.name, '')}"
        for row in pc.indices_nonzero(mismatch.mask).to_pylist():
            reasons[row] = f"{reasons[row]}; {reason}" if row in reasons else reason
    return reasons


def prepare_empty(target: TableTarget, batch: Batch) -> None:
    """Make the table of frames without rows, where the stream's dtypes tell the types of its columns."""
    schema = batch.dtypes.schema_of_empty(batch.put_schema)
    if schema is None:
        return
    try:
        target.prepare(schema, origins_of(batch))
    except BatchRefusedError as error:
        logger.warning("no table is made of a frame without rows: %s", redact(str(error)))


def without(rows: pa.Table, numbers: dict[int, str]) -> pa.Table:
    """The rows whose numbers are not among these."""
    keep = [row for row in range(rows.num_rows) if row not in numbers]
    return rows.take(pa.array(keep, pa.int64()))
