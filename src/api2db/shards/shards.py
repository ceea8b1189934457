"""The shards of a folder: find, lock and read them, and cast them to common types."""

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from api2db.disk.atomic import is_temporary
from api2db.disk.file_folder import Stamp, stamp_of
from api2db.errors import Api2dbError, DataError, FolderBusyError, FormatError, TargetUnavailableError
from api2db.formats import Format, read, read_open
from api2db.formats.folder_types import types_that_hold
from api2db.frames import (
    JSON,
    conform,
    is_json,
    json_cells,
    long_numbers,
    text_cells,
    to_batch,
    unify,
    whole_numbers_as_floats,
    widened,
)
from api2db.objects import ObjectFolder
from api2db.progress import through

Elsewhere = Mapping[Path, ObjectFolder]
"""The folders in object stores, by the folders on the disk that stand for them; see ``objects``."""
NOWHERE: Elsewhere = {}
_HELD_ELSEWHERE = frozenset({errno.EAGAIN, errno.EACCES})
_OWNER_DIGITS = 16


class Shard(NamedTuple):
    """The name and stamp of a shard as it was read."""

    name: str
    stamp: Stamp

    def is_in(self, folder: Path) -> bool:
        """Whether the file still exists and is still the same one."""
        return stamp_of(folder / self.name) == self.stamp


@dataclass(slots=True)
class Shards:
    """The contents of shards.

    Attributes:
        paths: The shards that could be read, in the order of their names.
        stamps: The stamps of these files.
        batches: One batch for each of them, with its own columns. A column that all shards can have in one type has
            that type; any other keeps the type of its shard. A caller that removes batches from the list is their only
            owner.
        cleaned: For each, whether ``clean`` of ``join_shards`` has changed it.
        schema: All columns, for all rows as one table; None if there are none. A column without a common type holds
            JSON cells, as it would in one frame; in CSV it holds text.
        problems: One error for each shard that could not be read.
        types: The types by which CSV shards were read. Read by other types, a shard may have other rows after repeats
            are dropped.
    """

    paths: list[Path]
    stamps: list[Stamp]
    batches: list[pa.RecordBatch]
    cleaned: list[bool]
    schema: pa.Schema | None
    problems: list[Exception]
    types: pa.Schema

    @property
    def taken(self) -> tuple[Shard, ...]:
        """The shards that could be read, with their stamps."""
        return tuple(Shard(path.name, stamp) for path, stamp in zip(self.paths, self.stamps, strict=True))

    @property
    def table(self) -> pa.Table:
        """All rows as one table; batches that have the table's types are not copied."""
        return pa.Table.from_batches([under_one_schema(batch, self.schema) for batch in self.batches], self.schema)


def under_one_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Convert the rows of a shard to ``Shards.schema``."""
    for place, field in enumerate(batch.schema):
        to = schema.field(field.name).type
        if _is_mixed(field.type, to):
            cells = json_cells(batch.column(place)) if is_json(to) else text_cells(batch.column(place))
            batch = batch.set_column(place, pa.field(field.name, to), cells)
    return conform(batch, schema)


def _is_mixed(type_: pa.DataType, to: pa.DataType) -> bool:
    return widened(type_, to) is None


def owner_of(folder: Path) -> str:
    """Return the part of a temporary file's name that identifies a folder of shards.

    A composer or store holds the lock of its folder. Temporary files of that folder therefore have no living owner;
    temporary files of other folders may be in use.
    """
    named = f"{folder.stat().st_ino} {folder.resolve()}"
    return hashlib.sha256(named.encode(errors="surrogateescape")).hexdigest()[:_OWNER_DIGITS]


@contextmanager
def locked(folder: Path, *, waiting: bool = False) -> Iterator[None]:
    """Lock a folder of shards, so that only one caller composes or stores it; writers of shards continue.

    Args:
        folder: The folder, or another one that only one caller may change.
        waiting: Wait until the lock is free, in this process or another.

    Raises:
        FolderBusyError: It is locked, and ``waiting`` is false.
        OSError: The folder can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, folder, waiting=waiting)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # A child process forked meanwhile would keep holding the lock.
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, *, waiting: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD_ELSEWHERE:
            raise
        raise FolderBusyError(
            f"the shards in {folder} are being composed or stored by another caller; try again later"
        ) from error


def shards_of(folder: Path, fmt: Format) -> list[Path]:
    """List the shards of a folder by name, without temporary, hidden and foreign files."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if _is_shard(entry, fmt))


def shards_in(source: ObjectFolder, fmt: Format) -> list[Path]:
    """List the shards of a folder in an object store, as paths that stand for them, without those being published.

    Raises:
        TargetUnavailableError: It can't be reached.
    """
    found = source.names()
    announced = source.announced()  # after the files: what is no longer announced then may be taken
    return [source.here / name for name in found if _is_name_of_shard(name, fmt) and name not in announced]


def _is_shard(entry: os.DirEntry[str], fmt: Format) -> bool:
    return _is_name_of_shard(entry.name, fmt) and entry.is_file()


def _is_name_of_shard(name: str, fmt: Format) -> bool:
    return name.endswith(f".{fmt}") and not name.startswith(".") and not is_temporary(Path(name))


def join_shards(
    paths: Sequence[Path],
    fmt: Format,
    clean: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
    types: pa.Schema | None = None,
    source: ObjectFolder | None = None,
) -> Shards:
    """Read shards and cast each column to its common type, if it has one; report the shards that can't be read.

    Whole numbers become floats if the column has floats in other shards and no digit is lost: a JSON API returns 5 in
    one frame and 5.5 in the next.

    Args:
        paths: The shards.
        fmt: Their format.
        clean: Removes columns that are not part of the rows; returns the batch itself if there are none.
        types: The types to read CSV by; by default those that the folder keeps now.
        source: Their folder, if it is in an object store; then the paths stand for objects.

    Raises:
        FormatError: The folder's file of types is damaged.
        OSError: It can't be read.
        TargetUnavailableError: The object store can't be reached.
    """
    if types is None:
        types = types_that_hold(paths[0], fmt) if paths and fmt == "csv" else pa.schema([])
    found = Shards([], [], [], [], None, [], types)
    contents = iter(()) if source is None else source.read_all([path.name for path in paths])
    for path in through("reading shards", paths):
        try:
            if source is None:
                batch, stamp = _read(path, fmt, types)
            else:
                batch, stamp = _decoded(next(contents), path, fmt, types, source)
        except TargetUnavailableError:
            raise
        except (Api2dbError, OSError) as error:
            found.problems.append(error)
        else:
            found.paths.append(path)
            found.stamps.append(stamp)
            found.batches.append(clean(batch))
            found.cleaned.append(found.batches[-1] is not batch)
    if found.paths:
        _join(found, pa.large_utf8() if fmt == "csv" else JSON)
    return found


def _read(path: Path, fmt: Format, types: pa.Schema) -> tuple[pa.RecordBatch, Stamp]:
    before = stamp_of(path)
    batch = to_batch(read(path, fmt, types))
    if before is None or stamp_of(path) != before:
        raise FormatError(f"{path} was changed while it was read; the next round or call reads it again")
    return batch, before


def _decoded(
    found: tuple[bytes, Stamp] | Exception, path: Path, fmt: Format, types: pa.Schema, source: ObjectFolder
) -> tuple[pa.RecordBatch, Stamp]:
    if isinstance(found, Exception):
        raise found
    content, stamp = found
    return to_batch(read_open(BytesIO(content), path, fmt, types, said=f"{source}/{path.name}")), stamp


def _join(shards: Shards, mixed: pa.DataType) -> None:
    """Cast the shards' columns to their common types, and set the schema of all rows."""
    schema = unify([batch.schema for batch in shards.batches])
    if schema is not None and _conform_own(shards.batches, schema):
        shards.schema = schema
        return
    names = dict.fromkeys(name for batch in shards.batches for name in batch.schema.names)
    shards.schema = pa.schema([pa.field(name, _join_column(shards.batches, name) or mixed) for name in names])


def _join_column(batches: list[pa.RecordBatch], name: str) -> pa.DataType | None:
    """Cast one column to its common type in all batches; return None and change nothing if there is none."""
    places = [place for place, batch in enumerate(batches) if name in batch.schema.names]
    columns = [batches[place].select([name]) for place in places]
    for brought_together in (list, whole_numbers_as_floats, long_numbers):
        columns = brought_together(columns)
        schema = unify([column.schema for column in columns])
        if schema is not None and _conform_own(columns, schema):
            for place, column in zip(places, columns, strict=True):
                index = batches[place].schema.get_field_index(name)
                batches[place] = batches[place].set_column(index, column.schema.field(0), column.column(0))
            return schema.field(0).type
    return None


def _conform_own(batches: list[pa.RecordBatch], schema: pa.Schema) -> bool:
    """Cast each batch to the schema's types, in its own columns; return False if a value does not allow it."""
    cast = []
    try:
        for batch in batches:
            own = pa.schema([schema.field(name) for name in batch.schema.names], schema.metadata)
            cast.append(conform(batch, own))
    except DataError:
        return False
    batches[:] = cast
    return True
