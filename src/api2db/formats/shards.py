"""The shards of a folder: which files they are, what is in them, and how they become one table."""

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from api2db.errors import Api2dbError, DataError, FolderBusyError, FormatError
from api2db.formats.atomic import is_temporary
from api2db.formats.files import read
from api2db.formats.kinds import Format
from api2db.formats.stamps import Stamp, stamp_of
from api2db.frames import conform, to_batch, unify, whole_numbers_as_floats

__all__ = ["Shard", "Shards", "join_shards", "locked", "shards_as_json", "shards_from_json", "shards_of"]

_HELD_ELSEWHERE = frozenset({errno.EAGAIN, errno.EACCES})


class Shard(NamedTuple):
    """A shard as it was when it was read."""

    name: str
    stamp: Stamp

    def is_in(self, folder: Path) -> bool:
        """Whether it is there, and no other file has its name by now."""
        return stamp_of(folder / self.name) == self.stamp


@dataclass(slots=True)
class Shards:
    """What was read of some shards, under one schema.

    Attributes:
        paths: Those that could be read, in the order of their names.
        stamps: Which files they were.
        batches: A batch for each of them; whoever takes them out of the list has them alone.
        schema: What all batches have; None where there are none.
        problems: Why a shard could not be read, one each.
    """

    paths: list[Path]
    stamps: list[Stamp]
    batches: list[pa.RecordBatch]
    schema: pa.Schema | None
    problems: list[Exception]

    @property
    def taken(self) -> tuple[Shard, ...]:
        """Those that could be read, to be known again."""
        return tuple(Shard(path.name, stamp) for path, stamp in zip(self.paths, self.stamps, strict=True))

    @property
    def table(self) -> pa.Table:
        """All rows, without a copy."""
        return pa.Table.from_batches(self.batches, self.schema)


@contextmanager
def locked(folder: Path, *, waiting: bool = False) -> Iterator[None]:
    """Hold a folder of shards, so that one alone composes or stores what is in it; writers of shards go on.

    Args:
        folder: The folder, or another one that is changed by one alone.
        waiting: Wait for whoever holds it, in this process or in another.

    Raises:
        FolderBusyError: Somebody else holds it, and is not waited for.
        OSError: The folder can't be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, folder, waiting=waiting)
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a child forked meanwhile would hold it on
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, *, waiting: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if waiting else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _HELD_ELSEWHERE:
            raise
        raise FolderBusyError(
            f"the shards in {folder} are being composed or stored by somebody else at this moment; try again later"
        ) from error


def shards_of(folder: Path, fmt: Format) -> list[Path]:
    """List the shards of a folder in the order of their names; temporary, hidden and foreign files are none."""
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if _is_shard(entry, fmt))


def _is_shard(entry: os.DirEntry[str], fmt: Format) -> bool:
    name = entry.name
    return name.endswith(f".{fmt}") and not name.startswith(".") and not is_temporary(Path(name)) and entry.is_file()


def join_shards(paths: Sequence[Path], fmt: Format) -> Shards:
    """Read shards and bring them under one schema; one that can't be read is left out, and named.

    Whole numbers become floats where a column has floats in other shards and no digit is lost: whoever polls JSON gets
    5 in one frame and 5.5 in the next.

    Raises:
        DataError: Columns of one name have no common type.
    """
    found = Shards([], [], [], None, [])
    for path in paths:
        try:
            batch, stamp = _read(path, fmt)
        except (Api2dbError, OSError) as error:
            found.problems.append(error)
        else:
            found.paths.append(path)
            found.stamps.append(stamp)
            found.batches.append(batch)
    if found.paths:
        found.schema = _unified(found)
        found.batches[:] = (conform(found.batches[place], found.schema) for place in range(len(found.paths)))
    return found


def shards_as_json(shards: Sequence[Shard]) -> list[Any]:
    """What a manifest keeps of them."""
    return [[shard.name, *shard.stamp] for shard in shards]


def shards_from_json(content: Any) -> tuple[Shard, ...]:
    """Read that again.

    Raises:
        ValueError: It was not written by ``shards_as_json``; TypeError likewise.
    """
    shards = tuple(Shard(str(name), Stamp(*map(int, stamp))) for name, *stamp in content)
    if any(Path(shard.name).name != shard.name for shard in shards):
        raise ValueError("it names files elsewhere")
    return shards


def _read(path: Path, fmt: Format) -> tuple[pa.RecordBatch, Stamp]:
    before = stamp_of(path)
    batch = to_batch(read(path, fmt))
    if before is None or stamp_of(path) != before:
        raise FormatError(f"{path} was written while it was read; the next time takes it as it is then")
    return batch, before


def _unified(shards: Shards) -> pa.Schema:
    schema = unify([batch.schema for batch in shards.batches])
    if schema is None:
        shards.batches = whole_numbers_as_floats(shards.batches)
        schema = unify([batch.schema for batch in shards.batches])
    if schema is None:
        raise DataError(_why_not_joined(shards.paths, shards.batches))
    return schema


def _why_not_joined(shards: Sequence[Path], batches: Sequence[pa.RecordBatch]) -> str:
    schema = batches[0].schema
    for shard, batch in zip(shards, batches, strict=True):
        wider = unify([schema, batch.schema])
        if wider is None:
            clash = next(name for name in batch.schema.names if _clashes(schema, batch.schema, name))
            types = f"{schema.field(clash).type} before it and {batch.schema.field(clash).type} in it"
            return f"{shard}: column {clash!r} is {types}, which have no common type; move it away, or cast it"
        schema = wider
    return f"the shards of {shards[0].parent} have no common schema; compose them in smaller groups"


def _clashes(earlier: pa.Schema, later: pa.Schema, name: str) -> bool:
    if name not in earlier.names:
        return False
    return unify([pa.schema([earlier.field(name)]), pa.schema([later.field(name)])]) is None
