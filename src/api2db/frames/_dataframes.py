"""The way back to pandas, for users' code and for the file formats that pandas writes."""

from typing import Any

import pandas as pd
import pyarrow as pa

from api2db.frames._cells import decode_cell, is_json
from api2db.frames._dtypes import told_dtypes, whole_name

_types = pa.types
_WORTH_FREEING_BYTES = 64 << 20
_WITHOUT_COPY: dict[str, Any] = {} if int(pd.__version__.split(".")[0]) >= 3 else {"copy": False}
_UNDECIDED = frozenset({"float64", "category"})
_FINE_TIME = pa.time64("ns")


def to_pandas(frame: pa.RecordBatch | pa.Table) -> pd.DataFrame:
    """Return a DataFrame with the dtypes that the frame had, if its schema records them.

    Ints and booleans with nulls take the nullable dtypes (``Int64``, ``boolean``) and never become floats. JSON cells
    become dicts, lists and so on again. Decimals, dates and times are Python objects.
    """
    table = pa.Table.from_batches([frame]) if isinstance(frame, pa.RecordBatch) else frame
    told = told_dtypes(table.schema)
    ours = {
        name: place for place, name in enumerate(table.column_names) if _is_ours(table.column(place), told.get(name))
    }
    converted = _by_arrow(table.drop_columns(list(ours)), table.num_rows)
    for name, place in ours.items():
        converted.insert(place, name, _series(table.column(place), told.get(name)))
    return converted


def consumed_to_pandas(batches: list[pa.RecordBatch], schema: pa.Schema) -> pd.DataFrame:
    """Return the same as ``to_pandas`` for all batches together, in little more memory than the result takes.

    The batches are removed from the list. Their columns are converted and freed one by one, if nothing else holds them.
    """
    table = pa.Table.from_batches(batches, schema)
    batches.clear()
    if table.nbytes < _WORTH_FREEING_BYTES or not table.num_columns:
        return to_pandas(table)
    columns = table.columns[::-1]
    del table  # it would keep every column alive
    converted = []
    for field in schema:
        converted.append(to_pandas(pa.table([columns.pop()], pa.schema([field], schema.metadata))))
        pa.default_memory_pool().release_unused()
    joined: pd.DataFrame = pd.concat(converted, axis=1, **_WITHOUT_COPY)
    return joined


def _is_ours(column: pa.ChunkedArray, told: str | None) -> bool:
    """Whether Arrow's own conversion would lose something."""
    if is_json(column.type) or column.type == _FINE_TIME:
        return True
    if _types.is_null(column.type):
        return told in _UNDECIDED
    whole = _types.is_integer(column.type) or _types.is_boolean(column.type)
    return whole and column.null_count > 0 and not (told or "").endswith("[pyarrow]")


def _by_arrow(table: pa.Table, rows: int) -> pd.DataFrame:
    return (
        table.to_pandas()
        if table.num_columns
        else pd.DataFrame(index=pd.RangeIndex(rows), columns=pd.Index([], dtype=str))
    )


def _series(column: pa.ChunkedArray, told: str | None) -> "pd.Series[Any]":
    if _types.is_null(column.type):
        return pd.Series([None] * len(column), dtype=pd.api.types.pandas_dtype(told))
    if is_json(column.type):
        cells = [None if text is None else decode_cell(text) for text in column.cast(pa.utf8()).to_pylist()]
        return pd.Series(cells, dtype=object)
    if column.type == _FINE_TIME:  # Python's times hold only microseconds
        return pd.Series(pd.arrays.ArrowExtensionArray(column))
    dtype = pd.api.types.pandas_dtype(whole_name(column.type, nullable=True))
    series: pd.Series[Any] = column.to_pandas(types_mapper=lambda _: dtype)
    return series
