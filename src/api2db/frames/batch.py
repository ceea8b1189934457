"""The one way in: whatever a user puts becomes one record batch."""

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa

from api2db.errors import FrameError
from api2db.frames._from_arrow import Rows, one_batch, rows_of_batch, rows_of_table
from api2db.frames._from_pandas import rows_of_dataframe
from api2db.frames._from_rows import batch_of_rows

__all__ = ["to_batch", "to_rows"]


def to_batch(frame: object) -> pa.RecordBatch:
    """Express a DataFrame, an Arrow table or batch, or a sequence of dicts as one record batch, losing nothing.

    Missing values (None, NaN in pandas and in dicts, NaT, NA) are nulls. Dicts, lists, sets and mixed values are JSON
    cells. Categories stay dictionaries, periods and intervals become text, sparse columns dense. An index with a name
    becomes the leading columns; one without is dropped. Labels that are no text become text. Dicts may differ in their
    keys: the columns are all keys in order of first appearance. The ``pandas`` metadata says what dtypes a DataFrame
    had.

    The batch may share memory with the frame: don't change the frame in place before the batch has been written.

    Raises:
        FrameError: It is no frame, two columns have one name, the columns have levels, a text is no valid Unicode, or
            a cell or dtype (complex numbers, say) has no exact form. The message names the column, and the row where
            there is one.
    """
    return one_batch(to_rows(frame))


def to_rows(frame: object) -> Rows:
    """As ``to_batch``, but a table where a frame has columns of many chunks, which are not copied together.

    Raises:
        FrameError: As ``to_batch``.
    """
    if isinstance(frame, pd.DataFrame):
        return rows_of_dataframe(frame)
    if isinstance(frame, pa.RecordBatch):
        return rows_of_batch(frame)
    if isinstance(frame, pa.Table):
        return rows_of_table(frame)
    if isinstance(frame, Sequence) and not isinstance(frame, (str, bytes, bytearray, memoryview)):
        return batch_of_rows(frame)
    raise FrameError(f"{type(frame).__qualname__} is no frame; put a DataFrame, an Arrow table, or a list of dicts")
