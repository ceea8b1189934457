"""Finds the rows of a batch that repeat an earlier row."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import DataError
from api2db.frames._kinds import is_json

_types = pa.types
_ODD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_LOOK_EVERY = 3
_SAMPLE_ROWS = 8192


def duplicate_rows(batch: pa.RecordBatch | pa.Table, keys: Sequence[str] | None = None) -> pa.Array:
    """Mark each row for which an earlier row has the same values under ``keys``, or in all columns.

    The result is that of ``DataFrame.duplicated(subset=keys)``: missing values (null, NaN) equal each other, as do 0.0
    and -0.0. JSON cells are compared as text.

    Raises:
        DataError: The batch has no column of that name.
    """
    columns = [batch.column(place) for place in _places(batch, keys)]
    return pa.array(_repeated(columns) if columns else np.zeros(batch.num_rows, bool))


def _places(batch: pa.RecordBatch | pa.Table, keys: Sequence[str] | None) -> list[int]:
    names = batch.schema.names
    unknown = [key for key in keys or () if key not in names]
    if unknown:
        raise DataError(
            f"no column is named {', '.join(map(repr, unknown))}; the columns are {', '.join(map(repr, names))}"
        )
    return [names.index(key) for key in (names if keys is None else keys)]


def _repeated(arrays: list[pa.Array | pa.ChunkedArray]) -> np.ndarray:
    """Hash each row, then compare the values of rows that have the same hash.

    Rows that differ in some columns can't be repeats, so the hashes are checked early, cheap columns first.
    """
    columns: list[np.ndarray] = []
    hashes = np.zeros(len(arrays[0]), np.uint64)
    for count, array in enumerate(sorted(arrays, key=_cost), 1):
        numbered = _numbered(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
        columns += numbered
        _mix_in(hashes, numbered)
        if count % _LOOK_EVERY == 0 and _all_differ(hashes):
            return np.zeros(len(hashes), bool)
    repeated = pd.Series(hashes).duplicated().to_numpy()
    if not repeated.any() or _are_repeats(columns, hashes, repeated):
        return repeated
    return pd.DataFrame(dict(enumerate(columns))).duplicated().to_numpy()


def _all_differ(hashes: np.ndarray) -> bool:
    """Whether all hashes differ; a sample usually shows that some do not."""
    return _differ(hashes[:_SAMPLE_ROWS]) and _differ(hashes)


def _differ(hashes: np.ndarray) -> bool:
    ordered = np.sort(hashes)  # NumPy sorts integers with vector instructions: a hash table takes four times as long
    return not (ordered[1:] == ordered[:-1]).any()


def _cost(array: pa.Array | pa.ChunkedArray) -> int:
    """Rank a column by cost: whole numbers are hashed as they are, floats checked for NaN, others encoded first."""
    if _number_type(array.type) is not None:
        return 0
    return 1 if _types.is_floating(array.type) else 2


def _are_repeats(columns: list[np.ndarray], hashes: np.ndarray, repeated: np.ndarray) -> bool:
    """Whether every row with a repeated hash has the same values as the first row with that hash."""
    groups, _ = pd.factorize(hashes)
    rows = np.flatnonzero(repeated)
    earlier = np.flatnonzero(~repeated)[groups[rows]]
    return all(np.array_equal(column[rows], column[earlier]) for column in columns)


def _mix_in(hashes: np.ndarray, columns: list[np.ndarray]) -> None:
    for column in columns:
        hashes ^= column
        hashes *= _ODD
        hashes ^= hashes >> _SHIFT


def _numbered(array: pa.Array) -> list[np.ndarray]:
    """Number the values so that equal values, and only those, have equal numbers; a second column marks the nulls."""
    if _types.is_floating(array.type):
        return _numbered_floats(array)
    numbers = _encoded(array) if _number_type(array.type) is None else _bits(array)
    return (
        [numbers, array.is_null().to_numpy(zero_copy_only=False).astype(np.uint64)] if array.null_count else [numbers]
    )


def _numbered_floats(array: pa.Array) -> list[np.ndarray]:
    floats = pc.fill_null(array, np.nan).to_numpy(zero_copy_only=False).astype(np.float64) + 0.0
    missing = np.isnan(floats)
    if not missing.any():
        return [floats.view(np.uint64)]
    return [np.where(missing, 0.0, floats).view(np.uint64), missing.astype(np.uint64)]


def _number_type(type_: pa.DataType) -> pa.DataType | None:
    if _types.is_integer(type_):
        return type_
    if _types.is_temporal(type_):
        return pa.int64() if type_.bit_width == 64 else pa.int32()
    return None


def _bits(array: pa.Array) -> np.ndarray:
    integers = array.view(_number_type(array.type))
    filled = pc.fill_null(integers, 0) if integers.null_count else integers
    return _unsigned(filled)


def _encoded(array: pa.Array) -> np.ndarray:
    if is_json(array.type):
        array = array.storage
    if _types.is_null(array.type):
        return np.zeros(len(array), np.uint64)
    if _types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return _unsigned(pc.fill_null(array.dictionary_encode().indices, 0))


def _unsigned(array: pa.Array) -> np.ndarray:
    numbers: np.ndarray = array.to_numpy()
    return numbers.astype(np.uint64, copy=False)
