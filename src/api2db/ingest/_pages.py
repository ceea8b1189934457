"""What an import function gave, page by page, as record batches."""

from collections.abc import Iterator
from typing import Any

import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames import to_batch, to_pandas
from api2db.ingest.collector import Transform


def batches(result: Any, transform: Transform | None) -> Iterator[pa.RecordBatch | None]:
    """One record batch a page, None for a page without rows; nothing where there is nothing new.

    Raises:
        FrameError: A page is no frame.
    """
    if result is None:
        return
    if not isinstance(result, Iterator):
        yield _batch(result, transform)
        return
    for page in result:
        # A generator may go on to change its DataFrame in place; the rows must be those that it yielded.
        yield _batch(page.copy() if isinstance(page, pd.DataFrame) else page, transform)


def _batch(page: Any, transform: Transform | None) -> pa.RecordBatch | None:
    frame = page if page is None or transform is None else _transformed(page, transform)
    if frame is None:
        return None
    batch = to_batch(frame)
    return batch if batch.num_rows else None


def _transformed(page: Any, transform: Transform) -> pd.DataFrame | None:
    after: object = transform(page if isinstance(page, pd.DataFrame) else to_pandas(to_batch(page)))
    if after is None or isinstance(after, pd.DataFrame):
        return after
    raise FrameError(f"transform gave a {type(after).__qualname__}; give a DataFrame, or None for no rows")
