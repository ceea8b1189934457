"""The entry point: converts whatever a user puts to one record batch."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import chain
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._columns import column_names
from api2db.frames._from_arrow import Rows, one_batch, rows_of_batch, rows_of_table
from api2db.frames._from_pandas import rows_of_dataframe
from api2db.frames._objects import array_of_objects

_NO_COLUMN = (str, bytes, bytearray, Mapping)
_ONE_COLUMN = (pd.Series, pd.Index, pa.Array, pa.ChunkedArray)


def to_batch(frame: object) -> pa.RecordBatch:
    """Convert a frame to one record batch, losing nothing.

    A frame is a pandas DataFrame, an Arrow table or batch, anything with ``__arrow_c_stream__`` (such as a polars
    DataFrame), or a sequence of dicts.

    Missing values (None, NaN in pandas and in dicts, NaT, NA) are nulls. Dicts, lists, sets and mixed values are JSON
    cells. Categories stay dictionaries, periods and intervals become text, sparse columns dense. An index with a name
    becomes the leading columns; so does one without, as ``index``, unless it holds only ints. Labels that are not text
    become text, a missing label ``None``. Dicts may have different keys: the columns are all keys in order of first
    appearance. The ``pandas`` metadata records the dtypes that a DataFrame had.

    The batch may share memory with the frame: don't change the frame in place before the batch has been written.

    Raises:
        FrameError: It is not a frame, two columns have the same name, the columns have levels, a text is not valid
            Unicode, or a cell or dtype (such as complex numbers) has no exact form. The message names the column, and
            the row if there is one.
    """
    return one_batch(to_rows(frame))


def to_rows(frame: object) -> Rows:
    """Convert as ``to_batch`` does, but to a table if columns have many chunks, which are then not copied together.

    Raises:
        FrameError: As ``to_batch``.
    """
    if isinstance(frame, pd.DataFrame):
        return rows_of_dataframe(frame)
    if isinstance(frame, pa.RecordBatch):
        return rows_of_batch(frame)
    if isinstance(frame, pa.Table):
        return rows_of_table(frame)
    if hasattr(frame, "__arrow_c_stream__") and not isinstance(frame, _ONE_COLUMN):
        return _rows_of_exported(frame)
    if isinstance(frame, Sequence) and not isinstance(frame, (str, bytes, bytearray, memoryview)):
        return _rows_of_mappings(frame)
    raise FrameError(f"{_kind(frame)} is not a frame; {_remedy(frame)}")


def _rows_of_exported(frame: Any) -> Rows:
    """Convert an object with Arrow's PyCapsule interface, such as a polars frame or a DuckDB relation."""
    try:
        table = pa.table(frame)
    except (pa.ArrowInvalid, TypeError, ValueError) as error:
        raise FrameError(f"{_kind(frame)} is not a frame: {error}; {_remedy(frame)}") from error
    _refuse_objects(frame)
    return rows_of_table(table)


def _refuse_objects(frame: Any) -> None:
    """Refuse Python objects: polars exports their addresses, which Arrow takes for bytes."""
    schema = getattr(frame, "schema", None)
    objects = [name for name, type_ in schema.items() if str(type_) == "Object"] if isinstance(schema, Mapping) else []
    if objects:
        raise FrameError(
            f"the column {objects[0]!r} of the {_kind(frame)} holds Python objects, which can't be exported; give it"
            " a type, or put frame.to_dicts()"
        )


def _rows_of_mappings(rows: Sequence[Mapping[Any, Any]]) -> pa.RecordBatch:
    """Return mappings as a batch. Its columns are the keys of all rows, in order of first appearance."""
    keys, columns = _alike(rows) or _unlike(rows)
    names = column_names(keys)
    arrays = [array_of_objects(cells, name) for cells, name in zip(columns, names, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))


_Columns: TypeAlias = tuple[Sequence[Any], Iterable[Sequence[Any]]]
"""Keys and, for each key, the cells of all rows."""


def _alike(rows: Sequence[Mapping[Any, Any]]) -> _Columns | None:
    """Return the columns of dicts with the same keys in the same order, which takes half the time."""
    if set(map(type, rows)) != {dict} or len(layouts := set(map(tuple, rows))) != 1:
        return None
    return layouts.pop(), zip(*map(dict.values, rows), strict=True)  # type: ignore[arg-type]


def _unlike(rows: Sequence[Mapping[Any, Any]]) -> _Columns:
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise FrameError(
                f"row {place} is a {type(row).__qualname__}, not a dict; put a list of dicts or a DataFrame"
            )
    keys = list(dict.fromkeys(chain.from_iterable(rows)))
    return keys, ([row.get(key) for row in rows] for key in keys)


def _kind(frame: object) -> str:
    class_ = type(frame)
    package = class_.__module__.partition(".")[0]
    return class_.__qualname__ if package == "builtins" else f"{package}.{class_.__qualname__}"


def _remedy(frame: object) -> str:
    if isinstance(frame, Mapping):
        columns = any(isinstance(cell, Sized) and not isinstance(cell, _NO_COLUMN) for cell in frame.values())
        return "put pandas.DataFrame(data)" if columns else "put [row], a list of dicts"
    if isinstance(frame, pd.Series):
        return "put series.to_frame('name')"
    if isinstance(frame, pd.Index):
        return "put index.to_frame(index=False, name='name')"
    if type(frame).__module__ == "numpy":
        return "put pandas.DataFrame(array, columns=['name', …])"
    if isinstance(frame, (pa.Array, pa.ChunkedArray)):
        return "put pyarrow.table({'name': array})"
    if hasattr(frame, "to_frame"):
        return "put series.to_frame()"
    if hasattr(frame, "collect"):
        return "put frame.collect()"
    return "put a pandas or polars DataFrame, an Arrow table, or a list of dicts"
