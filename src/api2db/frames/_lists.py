"""JSON cells that are lists of one type, as Arrow lists: for targets with array or repeated columns."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from api2db.frames._cells import decode_cell
from api2db.frames._kinds import is_json
from api2db.frames._objects import array_of_objects

_types = pa.types
_Cast = Callable[[pa.Array, pa.DataType], tuple[pa.Array, np.ndarray]]


def lists_of_json(cells: pa.Array, to: pa.DataType, cast: _Cast) -> tuple[pa.Array, np.ndarray]:
    """Return each cell as a list, and mark those that are not lists or have items that the type can't hold exactly.

    Args:
        cells: JSON cells, or texts, which are read if they are JSON.
        to: A null within a list is accepted only if its items are nullable.
        cast: Casts the items of all lists together.
    """
    texts = (cells.storage if is_json(cells.type) else cells).to_pylist()
    found = [None if text is None else _list(text) for text in texts]
    inexact = np.array([value is None and text is not None for value, text in zip(found, texts, strict=True)], bool)
    items = [item for value in found for item in value or ()]
    lengths = np.array([len(value or ()) for value in found], np.int64)
    rows = np.repeat(np.arange(len(found)), lengths)
    values, odd = _items(items, to, cast)
    inexact[rows[odd]] = True
    kept = values.filter(pa.array(~inexact[rows]))
    offsets = np.concatenate(([0], np.cumsum(np.where(inexact, 0, lengths)))).astype(np.int32)
    missing = np.array([value is None for value in found], bool) | inexact
    lists = pa.ListArray.from_arrays(pa.array(offsets), kept, type=pa.list_(to.value_field), mask=pa.array(missing))
    return lists.cast(to), inexact


def _list(text: str) -> list[Any] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        value = decode_cell(text)
    except (json.JSONDecodeError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _items(items: list[Any], to: pa.DataType, cast: _Cast) -> tuple[pa.Array, np.ndarray]:
    """Cast all items together; a dict or a list within a list is not a text."""
    if not items:
        return pa.array([], to.value_type), np.zeros(0, bool)
    is_nested = _types.is_list(to.value_type) or is_json(to.value_type)
    odd = np.array([not is_nested and isinstance(item, (dict, list)) for item in items], bool)
    values = array_of_objects([None if bad else item for bad, item in zip(odd, items, strict=True)], "")
    held, inexact = cast(values, to.value_type)
    if not to.value_field.nullable:
        inexact = inexact | np.array([item is None for item in items], bool)
    return held, odd | inexact
