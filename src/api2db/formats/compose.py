"""Many shards of a folder joined into one frame, and, where asked for, into one file; then deleted or moved.

With a composed file, the steps are: the composed file under a temporary name, durable; a manifest in the shards' folder
that names it and the shards in it, durable; the composed file renamed, its folder fsynced; the shards deleted or moved,
the folders fsynced; the manifest deleted. A call that finds a manifest finishes first what it says:

- the temporary file is still there: the composed one was never published; both are dropped, all shards are as before;
- it is gone and the composed file is there: that holds those shards' rows, so what is left of them is deleted or moved,
  never read;
- both are gone: somebody took the composed file, or a disk is missing. A person decides; nothing is touched.

Without a composed file the rows are handed to the caller, and the shards go last. One composer at a time works in a
folder, which it holds by a lock; writers of new shards work beside it.
"""

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import pandas as pd

from api2db.errors import ConfigurationError, DataError
from api2db.formats.atomic import (
    is_temporary,
    make_folders,
    publish,
    removed_on_failure,
    replacing,
    sync_folder,
    write_temporary,
)
from api2db.formats.files import write
from api2db.formats.kinds import Format, check_format
from api2db.formats.putting_away import put_away
from api2db.formats.shards import Shards, join_shards, locked, shards_of
from api2db.frames import consumed_to_pandas

__all__ = [
    "MANIFEST_NAME",
    "Composed",
    "Composition",
    "as_frame",
    "check_folders",
    "compose",
    "finish_composing",
    "write_composed",
]

MANIFEST_NAME = ".api2db_compose.json"
_MANIFEST_VERSION = 1


_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Composition(Generic[_Result]):
    """What came of composing a folder.

    Attributes:
        result: What was asked for of the rows of all shards that could be read, in the order of the shards' names; None
            if there are none.
        shards: These shards, where they were.
        composed: The composed file; None where none was asked for.
        problems: A shard that could not be read, deleted or moved; each stays where it is.
    """

    result: _Result | None
    shards: tuple[Path, ...]
    composed: Path | None
    problems: tuple[Exception, ...]


@dataclass(frozen=True)
class _Manifest:
    """Says which shards a composed file holds, and what is to become of them."""

    temporary: Path
    final: Path
    shards: tuple[str, ...]
    shards_to: Path | None


def as_frame(shards: Shards) -> pd.DataFrame:
    """All rows as a DataFrame; the shards' own memory is freed on the way."""
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
    """Join the shards of a folder, then delete them or move them.

    Args:
        folder: Where the shards are.
        fmt: Their format.
        result_of: Makes of the rows what the caller wants, before any shard goes; it may take them.
        shards_to: The folder to move them to; without it they are deleted.
        composed_to: The folder for ``<first>_<last>.<fmt>``, which is durable before any shard goes.
        make_missing: Make these folders where they are missing.

    Raises:
        ConfigurationError: There is no such format, the shards would be moved onto themselves, or the manifest of an
            earlier call is damaged.
        DataError: Columns of one name have no common type, or the composed file of an earlier call is gone
            while its shards are not; nothing was deleted.
        FolderBusyError: Somebody else composes or stores this folder.
        OSError: A folder can't be read or written, or the composed file's name is taken; no row is lost.
    """
    kind = check_format(fmt)
    with locked(folder):
        check_folders(folder, (shards_to, composed_to), make_missing=make_missing)
        problems = finish_composing(folder)
        if problems:
            return Composition(None, (), None, tuple(problems))
        return _compose(folder, kind, result_of, shards_to, composed_to)


def check_folders(folder: Path, others: tuple[Path | None, Path | None], *, make_missing: bool) -> None:
    """See that the folders which shards and composed files go to are there, and that no shard is moved onto itself.

    Raises:
        ConfigurationError: The shards would be moved to where they are.
        FileNotFoundError: One is missing, and may not be made.
    """
    for other in others:
        if other is None:
            continue
        if make_missing:
            make_folders(other)
        if not other.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder; make it, or pass force=True", str(other))
    shards_to = others[0]
    if shards_to is not None and shards_to.samefile(folder):
        raise ConfigurationError(f"the shards in {folder} can't be moved to where they are; name another folder")


def _compose(
    folder: Path,
    fmt: Format,
    result_of: Callable[[Shards], _Result],
    shards_to: Path | None,
    composed_to: Path | None,
) -> Composition[_Result]:
    shards = join_shards(shards_of(folder, fmt), fmt)
    paths, problems = tuple(shards.paths), shards.problems
    if not paths:
        return Composition(None, (), None, tuple(problems))
    if composed_to is None:
        result = result_of(shards)  # what could fail must fail before a shard goes
        problems += put_away(paths, folder, shards_to)
        return Composition(result, paths, None, tuple(problems))
    composed = write_composed(composed_to, shards, fmt)
    with removed_on_failure(composed.temporary):
        result = result_of(shards)
    manifest = _Manifest(composed.temporary, composed.final, tuple(path.name for path in paths), shards_to)
    _write_manifest(folder, manifest)
    publish(manifest.temporary, manifest.final)
    sync_folder(composed_to)
    problems += _finish(folder, manifest)
    return Composition(result, paths, manifest.final, tuple(problems))


class Composed(NamedTuple):
    """A composed file that is durable under its temporary name."""

    temporary: Path
    final: Path


def write_composed(folder: Path, shards: Shards, fmt: Format) -> Composed:
    """Write the rows of shards into a file that is named by the first and the last of them, but not yet under its name.

    Raises:
        FileExistsError: The name is taken.
    """
    final = (folder / f"{shards.paths[0].stem}_{shards.paths[-1].stem}.{fmt}").absolute()
    if final.exists():
        raise FileExistsError(errno.EEXIST, "the composed file's name is taken; move that file away", str(final))
    with write_temporary(final) as temporary:
        write(shards.table, temporary.file, fmt)
    # Its name must be durable before the manifest is: a temporary file that is gone means that it was published.
    sync_folder(folder)
    return Composed(temporary.path, final)


def finish_composing(folder: Path) -> list[Exception]:
    """Finish what a call that was cut short has left; the folder is held by the caller.

    Returns:
        Why a shard whose rows are composed could not be put away, one each.
    """
    manifest = _read_manifest(folder)
    if manifest is None:
        return []
    if manifest.temporary.exists():
        # In this order: without its manifest a temporary file means nothing.
        _drop_manifest(folder)
        manifest.temporary.unlink()
        return []
    if not manifest.final.exists():
        raise DataError(
            f"{manifest.final} held the rows of {len(manifest.shards)} shards in {folder} and is gone; "
            f"put it back; or, if its rows are safe, delete those shards that {folder / MANIFEST_NAME} names; "
            f"if they are lost, delete that file alone"
        )
    return _finish(folder, manifest)


def _finish(folder: Path, manifest: _Manifest) -> list[Exception]:
    left = [folder / name for name in manifest.shards if (folder / name).exists()]
    problems = put_away(left, folder, manifest.shards_to)
    if not problems:
        _drop_manifest(folder)
    return problems


def _write_manifest(folder: Path, manifest: _Manifest) -> None:
    content = {
        "version": _MANIFEST_VERSION,
        "temporary": str(manifest.temporary),
        "final": str(manifest.final),
        "shards": manifest.shards,
        "shards_to": None if manifest.shards_to is None else str(manifest.shards_to.absolute()),
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
            f"{path} is damaged: {error!r}; see whether a composed file holds the shards beside it, then remove it"
        ) from error


def _parsed(content: dict[str, object]) -> _Manifest:
    temporary, final, names, shards_to = (content[key] for key in ("temporary", "final", "shards", "shards_to"))
    if content["version"] != _MANIFEST_VERSION or not isinstance(names, list):
        raise ValueError("it is of another version")
    if any(Path(str(name)).name != name for name in names) or not is_temporary(Path(str(temporary))):
        raise ValueError("it names files elsewhere")
    target = None if shards_to is None else Path(str(shards_to))
    return _Manifest(Path(str(temporary)), Path(str(final)), tuple(map(str, names)), target)


def _drop_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()
    sync_folder(folder)
