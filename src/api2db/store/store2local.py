"""Store2Local: many small shards into one file a round, or into one file for each date."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from api2db.errors import ConfigurationError, DataError
from api2db.frames import is_json, is_text, text_cells
from api2db.shards.composed import write_composed
from api2db.shards.shards import Shards
from api2db.store._loading import Load
from api2db.store._steps import Written, without_repeats
from api2db.store.store import Store

logger = logging.getLogger(__name__)
_types = pa.types
_NO_DATE = "none"
"""Hive's own name for a null, __HIVE_DEFAULT_PARTITION__, can't be read by pandas.read_parquet beside dates."""


class Store2Local(Store):
    """Composes the shards of a collector into one file a round: it compacts small files.

    The files are ``<first>_<last>.<fmt>`` in ``move_composed_path``. With ``partition_by`` there is a folder for each
    date, ``<column>_date=2026-01-31/<first>_<last>.<fmt>``, which pandas, pyarrow, DuckDB and Spark read as a column
    ``<column>_date`` beside the columns of the files. A file appears whole, under a name that was free, and never
    changes: a reader of that folder sees a row once or not yet.

    Args:
        move_composed_path: The folder of the composed files; by default ``STORE/<name>/composed/``. Or an address in an
            object store, such as ``s3://bucket/folder``, whatever ``path`` is.
        partition_by: A column of dates, of times, or of text that begins with an ISO 8601 date. Times with a zone are
            partitioned by their date in that zone. Rows without a value go to the folder ``<column>_date=none``; so do
            rows whose text does not begin with a date, if other rows have dates.

    The other arguments are those of ``Store``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        path: str | None = None,
        fmt: str = "parquet",
        drop_duplicate_exclude: list[str] | None = None,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        *,
        partition_by: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        auth_path: str | None = None,
        home: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(
            name,
            seconds,
            path,
            fmt,
            drop_duplicate_exclude,
            move_shards_path,
            move_composed_path,
            storage_options=storage_options,
            auth_path=auth_path,
            home=home,
        )
        self.move_composed_path: str = move_composed_path or str(self.home / "STORE" / name / "composed")
        self.stream_type = "store.local"
        self.partition_by = _folder_name(partition_by)

    def describe(self) -> str:
        """The folder of the composed files, for display."""
        return f"{self.fmt} files {self._shown(self._place(self.move_composed_path) or self.home)}"

    def _load(self) -> Load | None:
        return super()._load() if type(self).stream is not Store.stream else None

    def _write(self, shards: Shards, composed_to: Path | None) -> Written:
        if composed_to is None:
            raise AssertionError("a Store2Local has a folder for composed files")
        duplicates = without_repeats(shards, self.drop_duplicate_exclude or ())
        parts = None if self.partition_by is None else _parts(shards, self.partition_by)
        into = self._elsewhere.get(composed_to)
        return Written(write_composed(composed_to, shards, self._format, parts, into), duplicates)


def _parts(shards: Shards, column: str) -> Iterator[tuple[str, pa.Table]]:
    table = shards.table
    dates = _dates(table, column, shards.paths[0].parent)
    for date in sorted(pc.unique(dates).to_pylist(), key=lambda date: date or ""):
        chosen = pc.is_null(dates) if date is None else pc.fill_null(pc.equal(dates, date), fill_value=False)
        yield f"{_key(column)}={date or _NO_DATE}", table.filter(chosen)


def _key(column: str) -> str:
    """Name the column of the folders. It can't be the column itself: readers would replace the files' values by it."""
    return f"{column}_date"


def _dates(table: pa.Table, column: str, folder: Path) -> pa.ChunkedArray:
    """Return the date of each row as text."""
    if column not in table.column_names:
        raise DataError(f"the shards in {folder} have no column {column!r} to partition by")
    if _key(column) in table.column_names:
        raise DataError(
            f"the shards in {folder} have a column {_key(column)!r} of their own, which readers would not see beside "
            f"the folders {_key(column)}=…; partition by another column"
        )
    values = _plain(table.column(column))
    if _types.is_timestamp(values.type):
        return pc.strftime(values, format="%Y-%m-%d")
    if _types.is_date(values.type):
        return values.cast(pa.date32()).cast(pa.string())
    if is_text(values.type):
        dates = pc.utf8_slice_codeunits(values.cast(pa.string()), 0, 10)
        are_dates = pc.match_substring_regex(dates, r"^\d{4}-\d{2}-\d{2}$")
        if pc.any(are_dates).as_py() in {True, None}:
            return _without_odd(dates, are_dates, column)
    raise DataError(
        f"the column {column!r} of the shards in {folder} has no dates ({values.type}); partition by another"
    )


def _plain(values: pa.ChunkedArray) -> pa.ChunkedArray:
    if is_json(values.type):  # The shards have no common type for it.
        return pa.chunked_array([text_cells(chunk) for chunk in values.chunks], pa.large_utf8())
    return values.cast(values.type.value_type) if _types.is_dictionary(values.type) else values


def _without_odd(dates: pa.ChunkedArray, are_dates: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
    odd = pc.sum(pc.invert(are_dates)).as_py() or 0
    if odd:
        logger.warning("%d rows are in %s=%s: their %r does not begin with a date", odd, _key(column), _NO_DATE, column)
    return pc.if_else(are_dates, dates, pa.scalar(None, dates.type))


def _folder_name(column: str | None) -> str | None:
    if column is None or (column and not column.startswith(".") and not set(column) & set("/\0=%")):
        return column
    raise ConfigurationError(
        f"partition_by={column!r} can't be the name of a folder that readers understand; give a column that can"
    )
