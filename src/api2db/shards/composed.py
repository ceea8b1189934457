"""A composed file before it has its final name: durable under a temporary name, and named by a manifest.

The file's stamp in the manifest shows whether it has been published. A temporary file that is missing may have been
published, or removed by someone.
"""

import errno
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from api2db.disk.atomic import make_folders, publish, sync_folder, write_temporary
from api2db.disk.file_folder import Stamp, stamp_of
from api2db.errors import ConfigurationError, DataError
from api2db.formats import Format, write
from api2db.formats.folder_types import join_types, keeps_types, known_types
from api2db.objects import ObjectFolder, is_stand_in
from api2db.progress import tell
from api2db.shards.shards import NOWHERE, Elsewhere, Shards, owner_of


class Composed(NamedTuple):
    """A composed file that is durable under its temporary name, or has been published under its final name."""

    temporary: Path
    final: Path
    stamp: Stamp


def write_composed(
    folder: Path,
    shards: Shards,
    fmt: Format,
    parts: Iterable[tuple[str, pa.Table]] | None = None,
    into: ObjectFolder | None = None,
) -> tuple[Composed, ...]:
    """Write the rows of shards into files ``<first>_<last>.<fmt>``, durably, under temporary names.

    Args:
        folder: The folder of the composed files. The temporary files are there too.
        shards: The shards.
        fmt: The format.
        parts: The rows of each file, and the folder below ``folder`` that it is published in; by default one file.
        into: The folder in an object store for which ``folder`` stands, if it does.

    Raises:
        FileExistsError: A final name is taken.
        FormatError: The folder's file of types is damaged, or the format has no form for a column.
    """
    name = f"{shards.paths[0].stem}_{shards.paths[-1].stem}.{fmt}"
    shards_in, folder = shards.paths[0].parent, folder.absolute()
    written: list[Composed] = []
    try:
        for below, rows in [("", shards.table)] if parts is None else parts:
            published = f"{below}/{name}" if below else name
            if into is not None and into.has(published):
                raise _taken(f"{into}/{published}")
            written.append(_write(rows, folder / below / name, fmt, folder / owner_of(shards_in), shards_in))
        sync_folder(folder)  # The temporary names must be durable before the manifest is.
    except BaseException:
        for file in written:
            file.temporary.unlink(missing_ok=True)
        raise
    return tuple(written)


def publish_composed(files: Sequence[Composed], manifest: Path, elsewhere: Elsewhere = NOWHERE) -> None:
    """Give each file its final name, durably; it may have the name already, from an interrupted call.

    Raises:
        ConfigurationError: They are for an object store that is not known.
        DataError: A file exists under neither name; a person must decide.
        FileExistsError: A final name is taken.
        TargetUnavailableError: The object store can't be reached.
    """
    place = files[0].temporary.parent
    if is_stand_in(place):
        if place not in elsewhere:
            raise unknown_stand_in(manifest)
        _publish_objects(files, manifest, elsewhere[place])
        return
    for file in files:
        if file.temporary.exists():
            make_folders(file.final.parent)
            _publish(file)
        elif stamp_of(file.final) != file.stamp:
            raise _gone(file.final, manifest)
    for folder in sorted({place.parent for file in files for place in (file.temporary, file.final)}):
        sync_folder(folder)


def end_publication(files: Sequence[Composed], elsewhere: Elsewhere) -> None:
    """Let other stores take the files from an object store, now that the manifest says that they are there."""
    if files and files[0].temporary.parent in elsewhere:
        elsewhere[files[0].temporary.parent].settle(_plan(files))


def unknown_stand_in(manifest: Path) -> ConfigurationError:
    """The error for a manifest with a folder in an object store that the caller does not have."""
    return ConfigurationError(
        f"{manifest} was left by a round with another address of an object store: give the store the path, "
        "move_composed_path and move_shards_path that it had, so that it can finish"
    )


def _publish_objects(files: Sequence[Composed], manifest: Path, folder: ObjectFolder) -> None:
    names = [file.final.relative_to(folder.here).as_posix() for file in files]
    folder.begin(_plan(files), names)
    for file, name in zip(files, names, strict=True):
        if file.temporary.exists():
            try:
                folder.publish(file.temporary, name)
            except FileExistsError as error:
                raise _taken(f"{folder}/{name}") from error
        elif not folder.has(name):
            raise _gone(f"{folder}/{name}", manifest)


def _plan(files: Sequence[Composed]) -> str:
    return files[0].temporary.name.strip(".")


def _gone(final: Path | str, manifest: Path) -> DataError:
    return DataError(
        f"{final} held the rows of the shards that {manifest} names, and is gone or another file by now; "
        f"restore it with its time, or delete those of these shards whose rows are safe, "
        f"and then that file"
    )


def _write(rows: pa.Table, final: Path, fmt: Format, beside: Path, shards_in: Path) -> Composed:
    """Write one file beside a name in the folder of temporary files, with the types of that folder.

    Types are kept for composed files only if they are kept for the folder of the shards.
    """
    if final.exists():
        raise _taken(final)
    of_shards = known_types(shards_in, fmt)
    known = None
    if len(of_shards) or keeps_types(beside.parent, fmt):
        known = join_types(beside.parent, fmt, [of_shards, rows.schema], beside.name)
    tell(f"writing {rows.num_rows:,} rows")
    with write_temporary(beside) as temporary:
        write(rows, temporary.file, fmt, known)
    stamp = stamp_of(temporary.path)
    if stamp is None:
        raise FileNotFoundError(errno.ENOENT, "a file was removed while it was being written", str(temporary.path))
    return Composed(temporary.path, final, stamp)


def _publish(file: Composed) -> None:
    try:
        publish(file.temporary, file.final)
    except FileExistsError as error:
        raise _taken(file.final) from error


def _taken(final: Path | str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "the composed file's name is taken; move that file away", str(final))
