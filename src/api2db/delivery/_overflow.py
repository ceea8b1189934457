"""Values that fit no column, as one JSON cell a row: what ``on_conflict="json"`` does instead of rejecting the row."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from api2db.delivery._fitting import Mismatch
from api2db.frames import JSON, encode_cell, python_values


def overflow_cells(rows: pa.Table, mismatches: Sequence[Mismatch]) -> pa.Array:
    """For each row an object of its odd values by column, null where it has none."""
    odd: list[dict[str, str]] = [{} for _ in range(rows.num_rows)]
    for mismatch in mismatches:
        places = pc.indices_nonzero(mismatch.mask)
        cells = rows.column(mismatch.name).take(places)
        for place, text in zip(places.to_pylist(), _texts(cells), strict=True):
            odd[place][mismatch.name] = text
    texts = [_object(cells) if cells else None for cells in odd]
    return pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.utf8()))


def _texts(cells: pa.ChunkedArray) -> list[str]:
    if isinstance(cells.type, pa.BaseExtensionType):
        return [str(text).lstrip() for text in cells.cast(pa.utf8()).to_pylist()]  # is JSON already
    return [encode_cell(value) for value in python_values(cells)]


def _object(cells: dict[str, str]) -> str:
    return "{" + ", ".join(f"{encode_cell(name)}: {text}" for name, text in cells.items()) + "}"
