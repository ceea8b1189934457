"""Rows that no target can take: they are separated from their frame when it is put, and set aside later.

These are rows with a text that holds half of a surrogate pair, which is not a character and has no bytes to store.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._batch import to_batch, to_rows
from api2db.frames._cell_values import value_of
from api2db.frames._cells import decode_cell, encode_cell
from api2db.frames._columns import naming_collector, with_index_as_columns
from api2db.frames._encoded import Frame
from api2db.frames._from_arrow import Rows
from api2db.frames._shapes import shapes_of

_REASON = b"api2db.refused"
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Refused:
    """Rows that no target can take, in a form that can be stored.

    Attributes:
        rows: Their schema holds the reason, for ``reason_of``.
    """

    rows: pa.RecordBatch

    @property
    def num_rows(self) -> int:
        """Their number."""
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        """Their size in memory."""
        return int(self.rows.nbytes)


def reason_of(schema: pa.Schema) -> str:
    """Return the reason why no target takes rows of this schema."""
    return str((schema.metadata or {}).get(_REASON, b"").decode())


def set_aside(rows: Sequence[Mapping[str, Any]], reason: str) -> list[Refused]:
    """Return rows that their source refuses, with the reason; rows with invalid text get that reason instead.

    Raises:
        FrameError: As ``to_batch``.
    """
    return [
        part
        if isinstance(part, Refused)
        else Refused(to_batch(part).replace_schema_metadata({_REASON: reason.encode()}))
        for part in rows_and_refused(rows)
    ]


def rows_and_refused(frame: object, collector: str = "") -> list[Rows | Refused]:
    """Convert as ``to_rows`` does, but return rows with invalid text separately, before the others.

    Args:
        frame: See ``to_batch``.
        collector: Whose frame it is, for the log.

    Raises:
        FrameError: As ``to_batch``.
    """
    with naming_collector(collector):
        try:
            return [to_rows(frame)]
        except FrameError as error:
            if not isinstance(error.__cause__, UnicodeEncodeError):
                raise
        return _sorted_dataframe(frame) if isinstance(frame, pd.DataFrame) else _sorted_rows(frame)  # type: ignore[arg-type]


def frame_and_refused(frame: object, collector: str = "", *, copied: bool = False) -> list[Frame | Refused]:
    """Convert as ``rows_and_refused`` does, but encode a small DataFrame at once if its shape is known.

    Args:
        frame: See ``to_batch``.
        collector: Whose frame it is; its last shapes are known.
        copied: Whether to copy a DataFrame that may be changed before what is returned has been written.

    Raises:
        FrameError: As ``to_batch``.
    """
    if not isinstance(frame, pd.DataFrame):
        return list(rows_and_refused(frame, collector))
    shapes = shapes_of(collector)
    encoded = shapes.encoded(frame)
    if encoded is not None:
        return [encoded]
    found = rows_and_refused(frame.copy() if copied else frame, collector)
    if len(found) == 1 and isinstance(found[0], pa.RecordBatch):
        shapes.learn(frame, found[0])
    return list(found)


def _sorted_dataframe(frame: pd.DataFrame) -> list[Rows | Refused]:
    frame = _without_unused_categories(with_index_as_columns(frame))
    broken = np.zeros(len(frame), bool)
    columns: dict[int, list[Any]] = {}
    for place in range(frame.shape[1]):
        here = np.array([_is_broken(cell) for cell in frame.iloc[:, place]], bool)
        if here.any():
            broken |= here
            columns[place] = [_escaped(cell) for cell in frame.iloc[:, place].astype(object)]
    escaped = frame.copy()
    for place, cells in columns.items():
        escaped.isetitem(place, np.fromiter(cells, object, len(cells)))
    others = _without_unused_categories(frame[~broken])
    return _both(escaped[broken], others, [str(frame.columns[place]) for place in columns])


def _without_unused_categories(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for place, dtype in enumerate(frame.dtypes):
        if isinstance(dtype, pd.CategoricalDtype):
            frame.isetitem(place, frame.iloc[:, place].array.remove_unused_categories())
    return frame


def _sorted_rows(rows: Sequence[Mapping[Any, Any]]) -> list[Rows | Refused]:
    broken = [any(map(_is_broken, row.values())) for row in rows]
    columns = dict.fromkeys(str(key) for row in rows for key, cell in row.items() if _is_broken(cell))
    escaped = [
        {key: _escaped(cell) for key, cell in row.items()}
        for row, is_broken in zip(rows, broken, strict=True)
        if is_broken
    ]
    return _both(escaped, [row for row, is_broken in zip(rows, broken, strict=True) if not is_broken], list(columns))


def _both(escaped: Any, others: Any, columns: Sequence[str]) -> list[Rows | Refused]:
    if not columns:
        return [to_batch(others)]
    rows = to_batch(escaped)
    reason = (
        f"the text in {', '.join(map(repr, columns))} holds half of a surrogate pair, which is not a character; it is"
        " escaped here, as in \\ud800; correct it and put the row again"
    )
    metadata = {**(rows.schema.metadata or {}), _REASON: reason.encode()}
    refused = Refused(rows.replace_schema_metadata(metadata))
    return [refused, to_batch(others)] if len(others) else [refused]


def _is_broken(cell: object) -> bool:
    value = value_of(cell)
    if not isinstance(value, (str, Mapping, Sequence, set, frozenset, np.ndarray)) or isinstance(
        value, (bytes, bytearray)
    ):
        return False
    try:
        return _HALF.search(value if isinstance(value, str) else encode_cell(value)) is not None
    except FrameError:  # put raises it
        return False


def _escaped(cell: Any) -> Any:
    if not _is_broken(cell):
        return cell
    value = value_of(cell)
    if isinstance(value, str):
        return _HALF.sub(lambda half: f"\\u{ord(half[0]):x}", value)
    return decode_cell(_HALF.sub(lambda half: f"\\\\u{ord(half[0]):x}", encode_cell(value)))
