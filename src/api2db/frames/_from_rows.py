"""Rows that are mappings, as one batch: the columns are all keys of all rows, in order of first appearance."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._names import column_names
from api2db.frames._objects import array_of_objects


def batch_of_rows(rows: Sequence[Mapping[Any, Any]]) -> pa.RecordBatch:
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise FrameError(
                f"row {place} is a {type(row).__qualname__}, not a dict; put a list of dicts or a DataFrame"
            )
    keys = list(dict.fromkeys(chain.from_iterable(rows)))
    names = column_names(keys)
    arrays = [array_of_objects([row.get(key) for row in rows], name) for key, name in zip(keys, names, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=list(names))
