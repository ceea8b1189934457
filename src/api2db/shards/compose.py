"""Composition of a folder's shards into one frame and, if asked for, one file; the shards are then deleted or moved.

With a composed file, it is first written under a temporary name, durably. Then a manifest names it and its shards
(see ``manifest``) and is finished: the composed file is published, the shards are removed. A call that finds a
manifest first finishes the earlier call:

- The file was not published, and the temporary file exists: file and manifest are removed, and all shards stay.
- Otherwise the composed file holds the shards' rows. The call publishes it durably and removes what is left of the
  shards.

Without a composed file the rows are handed to the caller, and the shards are removed last. One composer at a time works
in a folder and holds its lock; writers of new shards continue. A folder with a store's manifest belongs to that store
until its round is finished.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

import pandas as pd

from api2db.disk.atomic import make_folders, sweep
from api2db.errors import ConfigurationError
from api2db.formats import Format, check_format
from api2db.frames import consumed_to_pandas
from api2db.shards.composed import write_composed
from api2db.shards.manifest import (
    MANIFEST_NAME,
    Manifest,
    discarded_on_failure,
    drop_manifest,
    finish,
    read_manifest,
    write_manifest,
)
from api2db.shards.moving import check_they_can_go, put_away, settle_copies
from api2db.shards.shards import Shards, join_shards, locked, owner_of, shards_of, under_one_schema

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Composition(Generic[_Result]):
    """The result of composing a folder.

    Attributes:
        result: What ``result_of`` returned for the rows of all shards that could be read, in the order of the shards'
            names; None if there are none.
        shards: The paths of these shards before they were removed.
        composed: The composed file; None if none was asked for.
        problems: Errors of shards that could not be read, deleted or moved; such a shard stays where it is.
        finished: The composed file of an earlier, interrupted call that this call has finished.
    """

    result: _Result | None
    shards: tuple[Path, ...]
    composed: Path | None
    problems: tuple[Exception, ...]
    finished: Path | None = None


def as_frame(shards: Shards) -> pd.DataFrame:
    """Return all rows as a DataFrame; the memory of the shards is freed on the way."""
    for place in range(len(shards.batches)):
        shards.batches[place] = under_one_schema(shards.batches[place], shards.schema)
    return consumed_to_pandas(shards.batches, shards.schema)


def compose(
    folder: Path,
    fmt: str,
    result_of: Callable[[Shards], _Result],
    *,
    shards_to: Path | None = None,
    composed_to: Path | None = None,
    make_missing: bool = True,
) -> Composition[_Result]:
    """Join the shards of a folder, then delete or move them.

    Args:
        folder: The folder of the shards.
        fmt: Their format.
        result_of: Makes the caller's result from the rows, before any shard is removed; it may consume the rows.
        shards_to: The folder to move the shards to; without it they are deleted.
        composed_to: The folder for ``<first>_<last>.<fmt>``, which is durable before any shard is removed.
        make_missing: Create these folders if they are missing.

    Raises:
        ConfigurationError: There is no such format, the shards would be moved onto themselves or into the folder of
            the composed files, the manifest of an earlier call is damaged, or a store was interrupted in this folder.
        DataError: The composed file of an earlier call is gone while its shards are not; nothing was deleted.
        FolderBusyError: Another call or a store is working in this folder.
        OSError: A folder can't be read or written, a shard could not be deleted or moved, or the composed file's name
            is taken; no row is lost.
    """
    kind = check_format(fmt)
    with locked(folder):
        manifest = read_manifest(folder)
        if manifest is not None and manifest.store is not None:
            raise ConfigurationError(
                f"{folder / MANIFEST_NAME} says that a store was interrupted while it took these shards: run that "
                "store again, so that it can finish, or remove the file if none of their rows were loaded"
            )
        check_folders(folder, shards_to, composed_to, make_missing=make_missing)
        finished, problems = finish_composing(folder, manifest) if manifest is not None else (None, [])
        if problems:
            return Composition(None, (), None, tuple(problems), finished)
        clear_away(folder, shards_to, composed_to)
        return replace(_compose(folder, kind, result_of, shards_to, composed_to), finished=finished)


def check_folders(folder: Path, shards_to: Path | None, composed_to: Path | None, *, make_missing: bool) -> None:
    """Check that the folders for shards and composed files exist and can be used together.

    Raises:
        ConfigurationError: The shards would be moved to where they are, or into the folder of the composed files.
        FileNotFoundError: One is missing and may not be created.
    """
    for other in (shards_to, composed_to):
        if other is None:
            continue
        if make_missing:
            make_folders(other)
        if not other.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder; make it, or pass force=True", str(other))
    if shards_to is not None and shards_to.samefile(folder):
        raise ConfigurationError(f"the shards in {folder} can't be moved to where they are; name another folder")
    if shards_to is not None and composed_to is not None and shards_to.resolve().is_relative_to(composed_to.resolve()):
        raise ConfigurationError(
            f"readers of the composed files in {composed_to} would see each row again in the shards in {shards_to}; "
            "move the shards to a folder outside (move_shards_path)"
        )


def clear_away(folder: Path, shards_to: Path | None, composed_to: Path | None) -> None:
    """Remove the temporary files that an interrupted call or round for this folder has left; the caller holds its lock.

    The move of a shard to another file system is finished.
    """
    sweep(folder, MANIFEST_NAME)
    for place in (shards_to, composed_to):
        if place is not None:
            sweep(place, owner_of(folder))
    if shards_to is not None:
        settle_copies(folder, shards_to)


def finish_composing(folder: Path, manifest: Manifest) -> tuple[Path | None, list[Exception]]:
    """Finish an interrupted call; the caller holds the folder's lock.

    Returns:
        The composed file, or None if it was discarded; and one error for each shard that could not be deleted or moved.

    Raises:
        DataError: Its composed file is gone while its shards are not.
    """
    (file,) = manifest.files
    if not manifest.published and file.temporary.exists():
        # In this order: a temporary file without a manifest is not used.
        drop_manifest(folder)
        file.temporary.unlink()
        return None, []
    return file.final, finish(folder, manifest)


def _compose(
    folder: Path,
    fmt: Format,
    result_of: Callable[[Shards], _Result],
    shards_to: Path | None,
    composed_to: Path | None,
) -> Composition[_Result]:
    shards = join_shards(shards_of(folder, fmt), fmt)
    paths, taken, problems = tuple(shards.paths), shards.taken, shards.problems
    if not paths:
        return Composition(None, (), None, tuple(problems))
    check_they_can_go(folder, taken, shards_to)
    if composed_to is None:
        result = result_of(shards)  # Everything that can fail must come before the first shard is removed.
        problems += put_away(folder, taken, shards_to)
        return Composition(result, paths, None, tuple(problems))
    files = write_composed(composed_to, shards, fmt)
    manifest = Manifest(taken, files, None if shards_to is None else shards_to.absolute())
    with discarded_on_failure(folder, files):
        result = result_of(shards)
        write_manifest(folder, manifest)
    problems += finish(folder, manifest)
    return Composition(result, paths, files[0].final, tuple(problems))
