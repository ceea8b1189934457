"""JSON cells that are lists of one type, as lists: for targets whose columns repeat."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from api2db.frames.cells import decode_cell

__all__ = ["lists_of_json"]

_types = pa.types


def lists_of_json(cells: pa.Array, to: pa.DataType) -> tuple[pa.Array, np.ndarray]:
    """Give each cell as a list, and tell which are none, or hold what the lists' type does not hold exactly.

    Whole numbers, floats, booleans and texts are taken, since JSON tells these apart; a null within a list is not.
    """
    fits = next((fits for is_kind, fits in _FITS if is_kind(to.value_type)), lambda _: False)
    values: list[list[Any] | None] = []
    inexact = np.zeros(len(cells), bool)
    for row, text in enumerate(cells.storage.to_pylist()):
        value = None if text is None else decode_cell(text)
        inexact[row] = text is not None and not (isinstance(value, list) and all(map(fits, value)))
        values.append(None if inexact[row] else value)
    return pa.array(values, to), inexact


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_float(value: Any) -> bool:
    return isinstance(value, float) or (_is_whole(value) and float(value) == value)


_FITS: tuple[tuple[Callable[[pa.DataType], bool], Callable[[Any], bool]], ...] = (
    (_types.is_int64, _is_whole),
    (_types.is_float64, _is_float),
    (_types.is_boolean, lambda value: isinstance(value, bool)),
    (_types.is_string, lambda value: isinstance(value, str)),
)
