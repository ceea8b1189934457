"""Composition of a folder's shards into one frame and, if asked for, one file; the shards are then deleted or moved.

With a composed file, the steps are:

1. Write the composed file under a temporary name, durably.
2. Write a manifest into the shards' folder that names the file and the shards in it, durably.
3. Rename the composed file, fsync its folder, and mark the manifest.
4. Delete or move the shards, and fsync the folders.
5. Delete the manifest.

A call that finds a manifest first finishes the earlier call:

- Not marked, and the temporary file exists: the composed file was never published. Both are removed, and all shards
  stay.
- Not marked, and only the composed file exists: it is durable under its name once its folder is fsynced.
- Marked: the composed file holds those shards' rows. Shards that are left are deleted or moved, never read.
- Both files are gone: someone moved the composed file, or a disk is missing. A person must decide; nothing is changed.

Without a composed file the rows are handed to the caller, and the shards are removed last. One composer at a time works
in a folder and holds its lock; writers of new shards continue. A folder with a store's manifest belongs to that store
until its round is finished.
"""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import pandas as pd

from api2db.disk.atomic import make_folders, replacing, sync_folder
from api2db.disk.leftovers import owner_of, sweep
from api2db.errors import ConfigurationError
from api2db.formats.kinds import Format, check_format
from api2db.frames import consumed_to_pandas
from api2db.shards.composed import (
    Composed,
    composed_as_json,
    composed_from_json,
    discarded_on_failure,
    publish_composed,
    write_composed,
)
from api2db.shards.moving import check_they_can_go, put_away, settle_copies
from api2db.shards.shards import (
    Shard,
    Shards,
    join_shards,
    locked,
    shards_as_json,
    shards_from_json,
    shards_of,
    under_one_schema,
)

MANIFEST_NAME = ".api2db_compose.json"
STORE_MANIFEST = ".api2db_store.json"
"""The manifest of a store. It is defined here because only that store may take the shards that it names."""

_MANIFEST_VERSION = 2


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


class Finished(NamedTuple):
    """The result of finishing an interrupted call.

    Attributes:
        composed: Its composed file; None if there is none.
        problems: One error for each shard whose rows are composed but that could not be deleted or moved.
    """

    composed: Path | None = None
    problems: tuple[Exception, ...] = ()


@dataclass(frozen=True)
class _Manifest:
    """The shards that a composed file holds, and where they are to be moved."""

    file: Composed
    shards: tuple[Shard, ...]
    shards_to: Path | None
    published: bool = False


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
        _check_no_store(folder)
        check_folders(folder, shards_to, composed_to, make_missing=make_missing)
        earlier = finish_composing(folder)
        if earlier.problems:
            return Composition(None, (), None, earlier.problems, earlier.composed)
        clear_away(folder, shards_to, composed_to)
        return replace(_compose(folder, kind, result_of, shards_to, composed_to), finished=earlier.composed)


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
    for name in (MANIFEST_NAME, STORE_MANIFEST):
        sweep(folder, name)
    for place in (shards_to, composed_to):
        if place is not None:
            sweep(place, owner_of(folder))
    if shards_to is not None:
        settle_copies(folder, shards_to)


def compose_file(folder: Path, shards: Shards, fmt: Format) -> Composed:
    """Write the rows of shards into a temporary file whose final name consists of the first and last shard's names.

    Raises:
        FileExistsError: The name is taken.
    """
    final = folder / f"{shards.paths[0].stem}_{shards.paths[-1].stem}.{fmt}"
    shards_in = shards.paths[0].parent
    composed = write_composed(shards.table, final, fmt, folder / owner_of(shards_in), shards_in)
    sync_folder(composed.temporary.parent)  # Its name must be durable before the manifest is.
    return composed


def finish_composing(folder: Path) -> Finished:
    """Finish an interrupted call; the caller holds the folder's lock.

    Raises:
        ConfigurationError: Its manifest is damaged.
        DataError: Its composed file is gone while its shards are not.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        return Finished()
    if not manifest.published and manifest.file.temporary.exists():
        # In this order: a temporary file without a manifest is not used.
        _drop_manifest(folder)
        manifest.file.temporary.unlink()
        return Finished()
    return Finished(manifest.file.final, tuple(_finish(folder, manifest)))


def _check_no_store(folder: Path) -> None:
    if (folder / STORE_MANIFEST).exists():
        raise ConfigurationError(
            f"{folder / STORE_MANIFEST} says that a store was interrupted while it took these shards: run that store "
            "again, so that it can finish, or remove the file if none of their rows were loaded"
        )


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
    composed = compose_file(composed_to, shards, fmt)
    manifest = _Manifest(composed, taken, None if shards_to is None else shards_to.absolute())
    with discarded_on_failure([composed], lambda: _drop_manifest(folder)):
        result = result_of(shards)
        _write_manifest(folder, manifest)
    problems += _finish(folder, manifest)
    return Composition(result, paths, composed.final, tuple(problems))


def _finish(folder: Path, manifest: _Manifest) -> list[Exception]:
    if not manifest.published:
        publish_composed([manifest.file], folder / MANIFEST_NAME)
        _write_manifest(folder, replace(manifest, published=True))
    problems = put_away(folder, manifest.shards, manifest.shards_to)
    if not problems:
        _drop_manifest(folder)
    return problems


def _write_manifest(folder: Path, manifest: _Manifest) -> None:
    content = {
        "version": _MANIFEST_VERSION,
        "files": composed_as_json([manifest.file]),
        "shards": shards_as_json(manifest.shards),
        "shards_to": None if manifest.shards_to is None else str(manifest.shards_to),
        "published": manifest.published,
    }
    with replacing(folder / MANIFEST_NAME) as file:
        file.write(json.dumps(content).encode())


def _read_manifest(folder: Path) -> _Manifest | None:
    path = folder / MANIFEST_NAME
    try:
        return _parsed(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigurationError(
            f"{path} is damaged: {error!r}; check whether a composed file holds the shards beside it, then remove it"
        ) from error


def _parsed(content: dict[str, Any]) -> _Manifest:
    if content["version"] != _MANIFEST_VERSION:
        raise ValueError("it is of another version")
    (file,) = composed_from_json(content["files"])
    shards_to = None if content["shards_to"] is None else Path(content["shards_to"])
    return _Manifest(file, shards_from_json(content["shards"]), shards_to, bool(content["published"]))


def _drop_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    sync_folder(folder)
