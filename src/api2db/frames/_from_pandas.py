"""DataFrames as Arrow rows."""

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._blocks import Column, columns
from api2db.frames._columns import column_names, with_index_as_columns
from api2db.frames._from_arrow import Rows, one_chunk, plain_column, rows_of_columns
from api2db.frames._objects import array_of_objects


def rows_of_dataframe(frame: pd.DataFrame) -> Rows:
    if isinstance(frame.columns, pd.MultiIndex):
        raise FrameError(
            "the columns are a MultiIndex, which tables do not have; join the levels first, as in "
            "frame.columns = ['_'.join(map(str, label)) for label in frame.columns]"
        )
    frame = with_index_as_columns(frame)
    labels = _labels(frame.columns)
    found = columns(frame)
    names = _names(labels, tuple(map(type, labels)))
    arrays = [column_array(column, name) for column, name in zip(found, names, strict=True)]
    schema = _schema(names, tuple(_key(dtype) for dtype, _ in found), tuple(array.type for array in arrays))
    return rows_of_columns(arrays, schema)


def _labels(columns: pd.Index) -> tuple[object, ...]:
    """Return all labels in one pass, unless one is missing: then return the values that pandas has for them."""
    if isinstance(columns.dtype, pd.StringDtype):
        labels = tuple(pa.array(columns.array, from_pandas=True).to_pylist())
        if None not in labels:
            return labels
    return tuple(columns)


@lru_cache(maxsize=1024)
def _names(labels: tuple[object, ...], _types: tuple[type, ...]) -> tuple[str, ...]:
    # The types are part of the key: 1, 1.0 and True are equal, but their names are not.
    return column_names(labels)


def _key(dtype: Any) -> object:
    # A category dtype hashes all its categories, which vary from frame to frame.
    return ("category", dtype.ordered) if isinstance(dtype, pd.CategoricalDtype) else dtype


@lru_cache(maxsize=1024)
def _schema(names: tuple[str, ...], dtypes: tuple[Any, ...], types: tuple[pa.DataType, ...]) -> pa.Schema:
    kept = [_kept_dtype(dtype, type_) for dtype, type_ in zip(dtypes, types, strict=True)]
    empty = pd.DataFrame({name: pd.Series([], dtype=dtype) for name, dtype in zip(names, kept, strict=True)})
    empty.columns = pd.Index(list(names), dtype=object) if not names else pd.Index(names)
    metadata = pa.Schema.from_pandas(empty, preserve_index=False).metadata
    return pa.schema(list(zip(names, types, strict=True)), {b"pandas": metadata[b"pandas"]})


def _kept_dtype(dtype: Any, type_: pa.DataType) -> Any:
    if isinstance(dtype, tuple):
        is_category = pa.types.is_dictionary(type_) or pa.types.is_null(type_)
        return pd.CategoricalDtype(ordered=dtype[1]) if is_category else "object"
    if isinstance(dtype, pd.SparseDtype):
        return dtype.subtype
    if isinstance(dtype, np.dtype):
        return dtype.newbyteorder("=")
    return dtype if type_ == _arrow_type(dtype) else "object"


@lru_cache(maxsize=1024)
def _arrow_type(dtype: Any) -> pa.DataType | None:
    try:
        return pa.Array.from_pandas(pd.Series([], dtype=dtype)).type
    except (pa.ArrowException, TypeError, ValueError):
        return None


def column_array(column: Column, name: str) -> pa.Array | pa.ChunkedArray:
    dtype, values = column
    if isinstance(dtype, np.dtype):
        return _numpy_array(dtype, values, name)
    if isinstance(dtype, pd.DatetimeTZDtype):
        return pa.array(values).view(_arrow_type(dtype))  # takes a third of the time of passing the type at once
    if isinstance(dtype, pd.CategoricalDtype):
        return _category_array(values, name)
    if isinstance(dtype, pd.SparseDtype):
        dense = values.to_dense()
        return column_array((dense.dtype, dense), name)
    if isinstance(dtype, (pd.PeriodDtype, pd.IntervalDtype)):
        return pa.array(
            [None if missing else str(value) for value, missing in zip(values, values.isna(), strict=True)], pa.utf8()
        )
    return _extension_array(values, name)


def _numpy_array(dtype: "np.dtype[Any]", values: np.ndarray, name: str) -> pa.Array:
    kind = dtype.kind
    if kind == "O":
        return array_of_objects(values, name)
    if not dtype.isnative:
        values = values.astype(dtype.newbyteorder("="))
    if kind == "f":
        if dtype.itemsize == 2:
            values = values.astype(np.float32)
        if dtype.itemsize > 8:
            raise _no_type(name, dtype)
        array = pa.array(values, from_pandas=True)
        # pandas makes missing values float64 by itself, so this dtype says nothing about later values.
        is_undecided = dtype == np.float64 and 0 < len(array) == array.null_count
        return pa.nulls(len(array)) if is_undecided else array
    if kind in "biumM":
        return pa.array(values)
    raise _no_type(name, dtype)


def _no_type(name: str, dtype: object) -> FrameError:
    return FrameError(
        f"column {name!r} is of dtype {dtype}, which tables can't store; split or cast it, as to float64, first"
    )


def _category_array(values: pd.Categorical, name: str) -> pa.Array:
    codes = values.codes
    if len(codes) > 0 and (codes < 0).all():
        return pa.nulls(len(codes))
    categories = values.categories
    dictionary = column_array((categories.dtype, public_values(categories)), name)
    if isinstance(dictionary, pa.ChunkedArray):
        dictionary = one_chunk(dictionary)
    if pa.types.is_null(dictionary.type):
        dictionary = dictionary.cast(pa.utf8())
    indices = pa.array(codes.astype(np.int32), mask=codes < 0)
    if isinstance(dictionary.type, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(dictionary.type, dictionary.storage.take(indices))
    return pa.DictionaryArray.from_arrays(indices, dictionary, ordered=bool(values.ordered))


def public_values(index: pd.Index) -> Any:
    if isinstance(index.dtype, pd.DatetimeTZDtype):
        return index.tz_convert("UTC").tz_localize(None).to_numpy()  # type: ignore[attr-defined]
    return index.to_numpy() if isinstance(index.dtype, np.dtype) else index.array


def _extension_array(values: Any, name: str) -> pa.Array | pa.ChunkedArray:
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError):
        return array_of_objects(np.asarray(values, dtype=object), name)
    return plain_column(array, name)
