"""The shapes of DataFrames that have been converted: the next frame of a known shape is encoded without Arrow arrays.

A shape is the labels, dtypes and places of the columns. A small frame of a known shape needs no decisions: its values
are copied into the body of a message. The frame that a shape is learnt from is encoded both ways, and the shape is
used only if both give the same batch. Everything else is converted as ``to_rows`` does.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._encoded import Body, EncodedRows, Metadata
from api2db.frames._messages import UnknownFormError
from api2db.frames._objects import array_of_objects

_MOST_CELLS = 4096
_MOST_BYTES = 32 * 1024
_SHAPES_KEPT = 4
_VARIANTS_KEPT = 8
# What pandas raises if its internals differ from those that are known here.
_UNKNOWN = (UnknownFormError, FrameError, AttributeError, TypeError, IndexError, ValueError, NotImplementedError)

_Add: TypeAlias = Callable[[Body, Any, list[int]], None]


class _Variant(NamedTuple):
    """What the types of those columns lead to whose dtypes do not tell them.

    Attributes:
        odd: These columns and their types; see ``Body``.
    """

    odd: list[tuple[int, pa.DataType]]
    schema: pa.Schema
    serialized_schema: bytes
    metadata: Metadata


class _Block(NamedTuple):
    """The columns that pandas keeps in one array.

    Attributes:
        places: The places of the columns, as ``_places`` returns them.
        columns: The same as a list.
        add: Adds the columns to a body.
    """

    dtype: Any
    places: slice | bytes
    columns: list[int]
    add: _Add

    def fits(self, block: Any) -> bool:
        """Whether a block holds the same columns."""
        dtype = block.values.dtype
        return (dtype is self.dtype or dtype == self.dtype) and _places(block) == self.places


class Shapes:
    """The last few shapes of the frames of one collector."""

    def __init__(self) -> None:
        self._recent: tuple[_Shape, ...] = ()

    def encoded(self, frame: pd.DataFrame) -> EncodedRows | None:
        """Encode a frame of a known shape; return None for any other frame."""
        try:
            if not _is_encodable(frame):
                return None
            for shape in self._recent:
                if (body := shape.body(frame)) is not None:
                    return shape.encoded(body)
        except _UNKNOWN:
            pass
        return None

    def learn(self, frame: pd.DataFrame, batch: pa.RecordBatch) -> None:
        """Remember the shape of a frame that was converted to a batch."""
        try:
            if not _is_encodable(frame):
                return
            shape = next((shape for shape in self._recent if shape.fits(frame)), None)
            if shape is None:
                shape = _Shape(frame)
                self._recent = (shape, *self._recent[: _SHAPES_KEPT - 1])
            if (body := shape.body(frame)) is not None:
                shape.learn(body, batch)
        except _UNKNOWN:
            return


@lru_cache(maxsize=1024)
def shapes_of(_collector: str) -> Shapes:
    """Return the shapes of a collector's frames."""
    return Shapes()


def _is_encodable(frame: pd.DataFrame) -> bool:
    """Whether a frame is not of a subclass, is small, has rows, and has an index that is dropped.

    ``index_names`` decides which index is dropped.
    """
    if type(frame) is not pd.DataFrame:
        return False
    manager = frame._mgr
    index = manager.axes[1]
    if not 0 < len(index) * len(manager.blocks) <= _MOST_CELLS or index.name is not None:
        return False
    return type(index) is pd.RangeIndex or (isinstance(index.dtype, np.dtype) and index.dtype.kind in "iu")


class _Shape:
    """One shape.

    Args:
        frame: A frame that has it.

    Raises:
        UnknownFormError: It has labels that are not text, or columns that can't be encoded here.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        self._texts = _texts(frame.columns)
        if self._texts is None:
            raise UnknownFormError
        self._blocks = [_block(block) for block in frame._mgr.blocks]
        self._width = len(frame.columns)
        self._variants: tuple[_Variant, ...] = ()

    def fits(self, frame: pd.DataFrame) -> bool:
        """Whether a frame has this shape."""
        blocks = frame._mgr.blocks
        if len(blocks) != len(self._blocks) or not self._has_labels(frame._mgr.axes[0]):
            return False
        return all(known.fits(block) for block, known in zip(blocks, self._blocks, strict=True))

    def _has_labels(self, labels: pd.Index) -> bool:
        texts = _texts(labels)  # Labels can be changed in place, as by frame.columns.values[0] = "a".
        return texts is self._texts or _same(texts, self._texts)

    def body(self, frame: pd.DataFrame) -> Body | None:
        """Return the body of a frame's message; None if it does not have this shape.

        Raises:
            UnknownFormError: The frame is too large, or values are kept in another way than those of the first frame.
        """
        manager = frame._mgr
        blocks = manager.blocks
        if len(blocks) != len(self._blocks) or not self._has_labels(manager.axes[0]):
            return None
        height = len(manager.axes[1])
        if height * self._width > _MOST_CELLS:
            raise UnknownFormError
        body = Body(height, self._width)
        for block, known in zip(blocks, self._blocks, strict=True):
            if not known.fits(block):
                return None
            known.add(body, block.values, known.columns)
        if body.size > _MOST_BYTES:
            raise UnknownFormError
        if len(body.odd) > 1:
            body.odd.sort(key=_place)
        return body

    def encoded(self, body: Body) -> EncodedRows | None:
        """Return a body as a message; None if the types that its values lead to are new."""
        for variant in self._variants:
            if variant.odd == body.odd:
                message = variant.metadata.message(body)
                return EncodedRows(variant.schema, variant.serialized_schema, body.height, message)
        return None

    def learn(self, body: Body, batch: pa.RecordBatch) -> None:
        """Remember what the types of a frame lead to, if both ways to encode it give the same batch."""
        if any(variant.odd == body.odd for variant in self._variants):
            return
        schema = batch.schema
        metadata = Metadata(batch.serialize().to_pybytes())
        variant = _Variant(body.odd, schema, schema.serialize().to_pybytes(), metadata)
        rows = EncodedRows(schema, variant.serialized_schema, body.height, metadata.message(body))
        if rows.batch().equals(batch, check_metadata=True):
            self._variants = (variant, *self._variants[: _VARIANTS_KEPT - 1])


def _place(odd: tuple[int, pa.DataType]) -> int:
    return odd[0]


def _texts(labels: pd.Index) -> Any:
    """Return labels that are all text in a form that ``_same`` compares; None for others."""
    values: Any = labels._values  # type: ignore[attr-defined]
    if isinstance(labels.dtype, pd.StringDtype):
        return getattr(values, "_pa_array", None)
    texts = values.tolist() if values.dtype == object else []
    return texts if set(map(type, texts)) == {str} else None


def _same(texts: Any, others: Any) -> bool:
    if type(texts) is not type(others):
        return False
    return bool(texts == others if isinstance(texts, list) else texts.equals(others))


def _block(block: Any) -> _Block:
    return _Block(block.values.dtype, _places(block), block.mgr_locs.as_array.tolist(), _adding(block.values))


def _places(block: Any) -> slice | bytes:
    places = block.mgr_locs.indexer
    return places if places.__class__ is slice else places.tobytes()


def _adding(values: Any) -> _Add:
    dtype = values.dtype
    if isinstance(dtype, pd.DatetimeTZDtype):
        return _add_times
    if hasattr(values, "_pa_array"):
        return _add_arrow
    if not isinstance(dtype, np.dtype) or not dtype.isnative or dtype.kind not in _ADDING:
        raise UnknownFormError
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        raise UnknownFormError
    return _ADDING[dtype.kind]


def _add_whole(body: Body, values: np.ndarray, columns: list[int]) -> None:
    body.add_values(values, columns, b"")


def _add_floats(body: Body, values: np.ndarray, columns: list[int]) -> None:
    body.add_values(values, columns, np.isnan(values).tobytes())


def _add_times(body: Body, values: Any, columns: list[int]) -> None:
    ticks = values._ndarray
    body.add_values(ticks, columns, np.isnat(ticks).tobytes())


def _add_booleans(body: Body, values: np.ndarray, columns: list[int]) -> None:
    body.add_booleans(values, columns)


def _add_objects(body: Body, values: np.ndarray, columns: list[int]) -> None:
    if values.ndim == 1:
        raise UnknownFormError
    for column, cells in zip(columns, values, strict=True):
        body.add_array(array_of_objects(cells, ""), column)


def _add_arrow(body: Body, values: Any, columns: list[int]) -> None:
    (column,), chunks = columns, values._pa_array
    if chunks.num_chunks != 1:
        raise UnknownFormError
    body.add_array(chunks.chunk(0), column)


_ADDING: dict[str, _Add] = {
    "b": _add_booleans,
    **dict.fromkeys("iu", _add_whole),
    "f": _add_floats,
    **dict.fromkeys("mM", _add_times),
    "O": _add_objects,
}
