"""What is read from the batches of a lake's rows, none of which needs the whole table in memory."""

from collections.abc import Iterable, Sequence
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from api2db.targets.lake._values import read_back
from api2db.targets.port import Column

_LARGEST_EXACT_INTEGER: Final = 2**53


def is_empty(batches: Iterable[pa.RecordBatch]) -> bool:
    """Whether the one column of batches has no value."""
    return all(batch.column(0).null_count == batch.num_rows for batch in batches)


def is_exact_as_float(batches: Iterable[pa.RecordBatch]) -> bool:
    """Whether a double holds all integers of the one column of batches."""
    found = (pc.min_max(batch.column(0)).as_py() for batch in batches)
    return all(
        each["min"] is None or (each["min"] >= -_LARGEST_EXACT_INTEGER and each["max"] <= _LARGEST_EXACT_INTEGER)
        for each in found
    )


def newest_rows(
    batches: Iterable[pa.RecordBatch], columns: Sequence[Column], schema: pa.Schema, count: int, by: str
) -> pa.Table:
    """The rows with the greatest values in a column, the greatest first.

    Args:
        batches: All rows of a table.
        columns: The columns to return, in their own types.
        schema: The types in which the table's files have them.
        count: The most rows to return.
        by: The column that decides.
    """
    best: pa.Table | None = None
    for batch in batches:
        rows = pa.Table.from_batches([batch])
        rows = rows if best is None else pa.concat_tables([best, rows])
        rows = rows.filter(rows.column(by).is_valid())
        best = rows.take(pc.select_k_unstable(rows, k=count, sort_keys=[(by, "descending")]))
    if best is None:
        best = schema.empty_table()
    arrays = [read_back(best.column(column.name), column) for column in columns]
    return pa.table(arrays, [column.name for column in columns])
