"""Deletion of shards whose rows are safe elsewhere, or their move to another folder or file system.

A move to another file system takes three steps: write a copy under a temporary name that says whose it is; unlink the
shard; give the copy the shard's name. Each step is durable before the next. So a shard is never visible in both
folders. After a crash it is in one of them, or the next call finishes the move.
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from api2db.disk.atomic import files_named, publish, removed_on_failure, sync_folder, write_temporary
from api2db.disk.file_folder import stamp_of
from api2db.errors import FormatError, TargetUnavailableError
from api2db.formats.folder_types import carry_types
from api2db.objects import ObjectFolder, is_stand_in
from api2db.progress import through
from api2db.shards.composed import unknown_stand_in
from api2db.shards.shards import NOWHERE, Elsewhere, Shard, owner_of

_COARSEST_TIME_NS = 2_000_000_000
"""FAT stores times in steps of two seconds."""


class _Copy(NamedTuple):
    """A shard that exists in both folders, in the new one under a temporary name."""

    shard: Path
    temporary: Path
    final: Path


def check_they_can_go(
    folder: Path, shards: Sequence[Shard], shards_to: Path | None, elsewhere: Elsewhere = NOWHERE
) -> None:
    """Check that shards can be deleted or moved, as far as that can be known in advance.

    Raises:
        FileExistsError: The new name of a moved shard is taken.
        PermissionError: Files can't be removed from the folder, or created in the other one.
    """
    for place in (folder, shards_to):
        if place is not None and not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "its files can't be changed, so no shard was touched", str(place))
    if shards_to is not None and shards_to in elsewhere:
        there = elsewhere[shards_to].stamps()
        if taken := next((shard.name for shard in shards if shard.name in there), None):
            raise _taken(f"{elsewhere[shards_to]}/{taken}")
    elif shards_to is not None:
        for shard in shards:
            if os.path.lexists(shards_to / shard.name):
                raise _taken(shards_to / shard.name)


def put_away(
    folder: Path, shards: Sequence[Shard], shards_to: Path | None, elsewhere: Elsewhere = NOWHERE
) -> list[Exception]:
    """Delete shards, or move them to another folder without replacing a file; durable when this returns.

    A file that was written under a shard's name after the shard was read is another shard, and stays.

    Returns:
        An error for each shard that could not be deleted or moved, which stays where it is, and for each folder that
        could not be fsynced.
    """
    problems: list[Exception] = []
    copies: list[_Copy] = []
    if shards_to is not None:
        with _noted(problems):
            carry_types(folder, shards_to, owner_of(folder))
        if problems:
            return problems
    if is_stand_in(folder):
        return problems + _put_away_objects(folder, shards, shards_to, elsewhere)
    left = [shard for shard in shards if shard.is_in(folder)]
    if shards_to is not None and len(left) < len(shards):
        with _noted(problems):
            settle_copies(folder, shards_to)
    for shard in through("removing shards", left):
        with _noted(problems):
            copies += _put_away_one(folder / shard.name, shards_to)
    with _noted(problems):
        _finish_moving(copies)
    for changed in (shards_to, folder):
        with _noted(problems):
            if changed is not None:
                sync_folder(changed)
    return problems


def _put_away_objects(
    folder: Path, shards: Sequence[Shard], shards_to: Path | None, elsewhere: Elsewhere
) -> list[Exception]:
    """As ``put_away``, in an object store. A moved shard is for a moment in both folders."""
    if folder not in elsewhere or (shards_to is not None and shards_to not in elsewhere):
        raise unknown_stand_in(folder)
    source, problems = elsewhere[folder], list[Exception]()
    with _noted(problems):
        there = source.stamps()
        left = [
            name  # A list may have the tag in another form than the answer in which the shard was read.
            for name, stamp in shards
            if name in there and (there[name] == stamp or source.stamp(name) == stamp)
        ]
        if shards_to is None:
            source.delete(left)
        else:
            _move_objects(left, source, elsewhere[shards_to], problems)
    return problems


def _move_objects(names: Sequence[str], source: ObjectFolder, to: ObjectFolder, problems: list[Exception]) -> None:
    for name in through("removing shards", names):
        with _noted(problems):
            source.move(name, to)


def settle_copies(folder: Path, shards_to: Path) -> None:
    """Finish interrupted moves: a copy whose shard still exists is removed, any other copy gets its name.

    Raises:
        FileExistsError: That name is taken.
    """
    ending = f".{owner_of(folder)}.tmp"
    copies = files_named(shards_to, lambda name: name.endswith(ending))
    if copies:
        sync_folder(folder)
    for copy in copies:
        name = copy.name.removeprefix(".").removesuffix(ending)
        if _is_copy(copy, folder / name):
            copy.unlink()
        else:
            publish(copy, shards_to / name)


@contextmanager
def _noted(problems: list[Exception]) -> Iterator[None]:
    try:
        yield
    except (OSError, FormatError, TargetUnavailableError) as error:
        problems.append(error)


def _put_away_one(shard: Path, shards_to: Path | None) -> list[_Copy]:
    if shards_to is None:
        shard.unlink()
        return []
    try:
        publish(shard, shards_to / shard.name)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return [_copied(shard, shards_to / shard.name)]
    return []


def _copied(shard: Path, final: Path) -> _Copy:
    if os.path.lexists(final):
        raise _taken(final)
    owner = owner_of(shard.parent)
    with shard.open("rb") as source, write_temporary(final.with_name(owner)) as temporary:
        shutil.copyfileobj(source, temporary.file)
        temporary.file.flush()
        found = os.fstat(source.fileno())
        os.utime(temporary.file.fileno(), ns=(found.st_atime_ns, found.st_mtime_ns))
    with removed_on_failure(temporary.path):
        complete = temporary.path.replace(final.with_name(f".{shard.name}.{owner}.tmp"))
    return _Copy(shard, complete, final)


def _finish_moving(copies: Sequence[_Copy]) -> None:
    for folder in {copy.final.parent for copy in copies}:
        sync_folder(folder)
    for copy in copies:
        copy.shard.unlink()
    for folder in {copy.shard.parent for copy in copies}:
        sync_folder(folder)
    for copy in copies:
        publish(copy.temporary, copy.final)


def _taken(final: Path | str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "a moved shard's name is taken; move that file away", str(final))


def _is_copy(copy: Path, shard: Path) -> bool:
    one, other = stamp_of(copy), stamp_of(shard)
    if one is None or other is None or one.size_bytes != other.size_bytes:
        return False
    return abs(one.modified_ns - other.modified_ns) <= _COARSEST_TIME_NS
