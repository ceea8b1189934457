"""The newest rows of a target as a DataFrame, for people to look at."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import pandas as pd
import pyarrow as pa

from api2db.errors import ConfigurationError
from api2db.frames import to_pandas
from api2db.targets.duckdb import FileHeldError
from api2db.targets.port import NoOrderError, ReadableTarget

_HELD_S: Final = 5.0
_GLANCE_S: Final = 0.02


def newest_frame(
    open_reader: Callable[[], ReadableTarget], count: int, by: str | None, otherwise_by: str | None
) -> pd.DataFrame:
    """Read the newest rows.

    Args:
        open_reader: Makes a target that is only read.
        count: How many rows at most.
        by: The column to sort by; None for the order in which rows were added.
        otherwise_by: The column to sort by if the target does not keep that order.

    Raises:
        ConfigurationError: As ``ReadableTarget.newest`` does.
        TargetUnavailableError: Likewise; a DuckDB file that another process holds is tried again for some seconds.
    """
    deadline_s = time.monotonic() + _HELD_S
    while True:
        reader = open_reader()
        try:
            return _as_frame(_newest(reader, count, by, otherwise_by))
        except FileHeldError:
            if time.monotonic() > deadline_s:
                raise
        finally:
            reader.close()
        time.sleep(_GLANCE_S)  # the process that holds the file closes it between loads


def _newest(reader: ReadableTarget, count: int, by: str | None, otherwise_by: str | None) -> pa.Table | None:
    try:
        return reader.newest(count, by)
    except NoOrderError:
        if otherwise_by is None:
            raise
        with suppress(ConfigurationError):  # a column that the table does not have
            return reader.newest(count, otherwise_by)
        raise


def _as_frame(rows: pa.Table | None) -> pd.DataFrame:
    if rows is None:
        return pd.DataFrame()
    try:
        return to_pandas(rows)
    except (pa.ArrowException, ValueError, OverflowError):  # dates that Python's class does not reach
        return to_pandas(_with_far_dates(rows))


def _with_far_dates(rows: pa.Table) -> pa.Table:
    """Make timestamps of the dates; pandas has them beyond the year 9999."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_date(field.type):
            rows = rows.set_column(place, field.name, rows.column(place).cast(pa.timestamp("s")))
    return rows
