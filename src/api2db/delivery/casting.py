"""A batch cast to what a table has: columns are widened where they can be, and rows that do not fit are named."""

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from api2db.delivery.fitting import Misfit, fit
from api2db.delivery.keys import rows_without_key
from api2db.errors import BatchRefusedError
from api2db.targets.port import Column, TableTarget

__all__ = ["Casting", "without"]

_log = logging.getLogger(__name__)


class Casting:
    """Casts batches for one table, and says once for each column what is cut there."""

    def __init__(self, target: TableTarget) -> None:
        self._target = target
        self._told: set[str] = set()

    def cast(self, rows: pa.Table, columns: Sequence[Column]) -> tuple[pa.Table, Sequence[Column], dict[int, str]]:
        """Cast to the table's types, widening those that need it; say which rows still do not fit, and why."""
        fitted = fit(rows, columns, self._target.same_column)
        wider = [column for misfit in fitted.misfits if (column := self._widen(misfit))]
        if wider:
            changed = {column.name: column for column in wider}
            columns = [changed.get(column.name, column) for column in columns]
            fitted = fit(rows, columns, self._target.same_column)
        for name in set(fitted.truncated) - self._told:
            self._told.add(name)
            _log.warning("%r is kept to the microsecond: the target holds no nanoseconds there", name)
        reasons: dict[int, str] = {}
        for misfit in fitted.misfits:
            for row in pc.indices_nonzero(misfit.mask).to_pylist():
                reasons[row] = f"{reasons[row]}; {misfit.reason}" if row in reasons else misfit.reason
        for row, reason in rows_without_key(fitted.rows, self._target.keys).items():
            reasons.setdefault(row, reason)
        return fitted.rows, columns, reasons

    def _widen(self, misfit: Misfit) -> Column | None:
        if misfit.column is None:
            return None
        try:
            return self._target.widen(misfit.column, misfit.type)
        except BatchRefusedError as error:
            _log.warning("the column %r stays %s: %s", misfit.name, misfit.column.declared, error)
            return None


def without(rows: pa.Table, numbers: dict[int, str]) -> pa.Table:
    """The rows whose numbers are not among these."""
    keep = [row for row in range(rows.num_rows) if row not in numbers]
    return rows.take(pa.array(keep, pa.int64()))
