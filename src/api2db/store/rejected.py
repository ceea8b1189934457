"""Rejected rows of a store: where they came from, and how their file becomes a shard again, by one rename."""

import errno
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from api2db.delivery import ADDED_COLUMNS, METADATA_KEY, without_added
from api2db.disk.atomic import publish, sync_folder
from api2db.errors import ConfigurationError, FormatError
from api2db.frames import one_batch
from api2db.objects import is_stand_in


def origin_of(folder: Path, fmt: str) -> str:
    """Encode where rejected rows came from, for their file."""
    return f"shards {fmt} {folder.absolute()}"


def is_of_store(file: str) -> bool:
    """Whether a file of rejected rows was written by a store: ``STORE/rejected/<collector>/store.…/<time>.parquet``."""
    parts = Path(file).parts
    return len(parts) == 5 and parts[:2] == ("STORE", "rejected") and parts[3].startswith("store.")


def put_back(home: Path, file: str) -> int:
    """Turn a file of rejected rows back into a shard, for the next round of its store.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: There is no such file, or its store takes shards of another format or file system.
        FormatError: It was not written by a store.
    """
    path = home / file
    if not path.is_file():
        raise ConfigurationError(f"there is no file {file}; see: api2db rejected list")
    with pq.ParquetFile(path) as opened:
        rows, folder = int(opened.metadata.num_rows), _folder_of(opened.schema_arrow, file)
    final = folder / path.name
    while True:
        try:
            publish(path, final)
            break
        except FileExistsError:
            final = final.with_stem(str(int(final.stem) + 1))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise ConfigurationError(
                f"{file} and {folder} are on two file systems; move the file there yourself"
            ) from error
    sync_folder(folder)
    sync_folder(path.parent)
    return rows


def drop(home: Path, file: str) -> int:
    """Delete a file of a store's rejected rows for good.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: There is no such file.
    """
    path = home / file
    if not path.is_file():
        raise ConfigurationError(f"there is no file {file}; see: api2db rejected list")
    rows = int(pq.read_metadata(path).num_rows)
    path.unlink()
    sync_folder(path.parent)
    return rows


def without_reasons(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Drop the columns of reasons if a shard holds rejected rows; else return the batch itself."""
    if not set(ADDED_COLUMNS) <= set(batch.schema.names):
        return batch
    return one_batch(without_added(pa.Table.from_batches([batch])))


def _folder_of(schema: pa.Schema, file: str) -> Path:
    try:
        kind, fmt, folder = json.loads((schema.metadata or {})[METADATA_KEY])["journal"].split(" ", 2)
    except (KeyError, ValueError) as error:
        raise FormatError(
            f"{file} does not say which shards its rows came from; it was not written by a store"
        ) from error
    if is_stand_in(Path(folder)):
        raise ConfigurationError(
            f"the shards of {file} are in an object store: upload its rows there as a shard yourself, without the "
            f"columns {', '.join(ADDED_COLUMNS)}, then remove it"
        )
    if kind != "shards" or fmt != "parquet" or not Path(folder).is_dir():
        raise ConfigurationError(
            f"{file} can't become a shard in {folder}: that must be a folder of parquet shards; write its rows there "
            f"as {fmt} yourself, without the columns {', '.join(ADDED_COLUMNS)}, then remove it"
        )
    return Path(folder)
