"""Rows of a batch that are loaded by key: none without a key, and of each key the last alone."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from api2db.frames import duplicate_rows


def rows_without_key(rows: pa.Table, keys: Sequence[str]) -> dict[int, str]:
    """The rows that have no value in a column of the key, with the reason to reject them."""
    reasons: dict[int, str] = {}
    for key in keys:
        if key not in rows.column_names:
            return dict.fromkeys(range(rows.num_rows), f"the frame has no column {key!r}, which is part of the key")
        for row in pc.indices_nonzero(rows.column(key).is_null()).to_pylist():
            reasons.setdefault(row, f"{key!r} is part of the key and has no value")
    return reasons


def last_of_each_key(rows: pa.Table, keys: Sequence[str]) -> pa.Table:
    """The rows whose key does not come again in a later row."""
    repeated = comes_again(rows, keys)
    return rows.filter(pa.array(~repeated)) if repeated.any() else rows


def comes_again(rows: pa.Table, keys: Sequence[str]) -> np.ndarray:
    """Tell which rows have a key that comes again in a later row."""
    backwards = pa.array(np.arange(rows.num_rows - 1, -1, -1))
    repeated: np.ndarray = duplicate_rows(rows.select(list(keys)).take(backwards)).to_numpy(zero_copy_only=False)
    return repeated[::-1]
