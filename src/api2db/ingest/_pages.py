"""The pages that an import function returns, as Arrow rows."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from api2db.errors import FrameError
from api2db.frames import Frame, Refused, frame_and_refused, rows_and_refused, to_pandas
from api2db.ingest._collector import Transform


def batches(result: Any, transform: Transform | None, collector: str = "") -> Iterator[list[Frame | Refused]]:
    """Yield the parts of each page, none for a page without rows; yield nothing if there is nothing new.

    The rows of a page that no target takes come before its other rows.

    Raises:
        FrameError: A page is not a frame.
    """
    if result is None:
        return
    if not isinstance(result, Iterator):
        yield list(_batches(result, transform, collector, copied=False))
        return
    for page in result:
        # A resource of api2db.rest yields the frames of a page in a tuple.
        parts = page if isinstance(page, tuple) else (page,)
        # A generator may change its DataFrame in place after the yield; the rows must be those that it yielded.
        yield [batch for part in parts for batch in _batches(part, transform, collector, copied=True)]


def _batches(page: Any, transform: Transform | None, collector: str, *, copied: bool) -> Iterator[Frame | Refused]:
    if copied and transform is not None and isinstance(page, pd.DataFrame):
        page = page.copy()
    if page is not None and transform is not None and not isinstance(page, (pd.DataFrame, Refused)):
        *refused, rows = rows_and_refused(page, collector)
        yield from refused
        page = to_pandas(rows) if not isinstance(rows, Refused) else rows
    if isinstance(page, Refused):
        yield page
        return
    frame = page if page is None or transform is None else _transformed(page, transform)
    if frame is not None:
        is_copied = copied and transform is None
        yield from (batch for batch in frame_and_refused(frame, collector, copied=is_copied) if batch.num_rows)


def _transformed(page: pd.DataFrame, transform: Transform) -> object:
    after: object = transform(page)
    if after is None or isinstance(after, pd.DataFrame) or hasattr(after, "__arrow_c_stream__"):
        return after
    raise FrameError(f"transform returned a {type(after).__qualname__}; return a DataFrame, or None for no rows")
