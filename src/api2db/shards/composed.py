"""A composed file before it has its final name: durable under a temporary name, and named by a manifest.

The file's stamp in the manifest shows whether it has been published. A temporary file that is missing may have been
published, or removed by someone.
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from api2db.disk.atomic import is_temporary, make_folders, publish, sync_folder, write_temporary
from api2db.disk.stamps import Stamp, stamp_of
from api2db.errors import DataError
from api2db.formats.files import write
from api2db.formats.folder_types import join_types, keeps_types, known_types


class Composed(NamedTuple):
    """A composed file that is durable under its temporary name, or has been published under its final name."""

    temporary: Path
    final: Path
    stamp: Stamp


def write_composed(rows: pa.Table, final: Path, fmt: str, beside: Path, shards_in: Path) -> Composed:
    """Write rows into a file under a temporary name; the caller fsyncs the folder.

    Args:
        rows: The rows.
        final: The final name.
        fmt: The format.
        beside: The temporary name begins with this name, in this folder. The file gets that folder's types.
        shards_in: The folder of the shards. Types are kept for composed files only if they are kept for this folder.

    Raises:
        FileExistsError: The name is taken.
        FormatError: The folder's file of types is damaged, or the format has no form for a column.
    """
    final = final.absolute()
    if final.exists():
        raise _taken(final)
    folder = beside.absolute().parent
    of_shards = known_types(shards_in, fmt)
    known = None
    if len(of_shards) or keeps_types(folder, fmt):
        known = join_types(folder, fmt, [of_shards, rows.schema], beside.name)
    with write_temporary(beside.absolute()) as temporary:
        write(rows, temporary.file, fmt, known)
    stamp = stamp_of(temporary.path)
    if stamp is None:
        raise FileNotFoundError(errno.ENOENT, "a file was removed while it was being written", str(temporary.path))
    return Composed(temporary.path, final, stamp)


@contextmanager
def discarded_on_failure(files: Sequence[Composed], drop_manifest: Callable[[], None]) -> Iterator[None]:
    """If the block raises, remove the manifest that it may have written, and then the files."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            drop_manifest()  # Durably first: a manifest without its files would name rows that do not exist.
            for file in files:
                file.temporary.unlink(missing_ok=True)
        raise


def publish_composed(files: Sequence[Composed], manifest: Path) -> None:
    """Give each file its final name, durably; it may have the name already, from an interrupted call.

    Raises:
        DataError: A file exists under neither name; a person must decide.
        FileExistsError: A final name is taken.
    """
    for file in files:
        if file.temporary.exists():
            make_folders(file.final.parent)
            _publish(file)
        elif stamp_of(file.final) != file.stamp:
            raise DataError(
                f"{file.final} held the rows of the shards that {manifest} names, and is gone or another file by now; "
                f"restore it with its time, or delete those of these shards whose rows are safe, "
                f"and then that file"
            )
    for folder in sorted({place.parent for file in files for place in (file.temporary, file.final)}):
        sync_folder(folder)


def _publish(file: Composed) -> None:
    try:
        publish(file.temporary, file.final)
    except FileExistsError as error:
        raise _taken(file.final) from error


def _taken(final: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "the composed file's name is taken; move that file away", str(final))


def composed_as_json(files: Sequence[Composed]) -> list[Any]:
    """Encode composed files for a manifest."""
    return [[str(file.temporary), str(file.final), *file.stamp] for file in files]


def composed_from_json(content: Any) -> tuple[Composed, ...]:
    """Decode what ``composed_as_json`` encoded.

    Raises:
        ValueError: It was not written by ``composed_as_json``; TypeError likewise.
    """
    files = tuple(Composed(Path(temporary), Path(final), Stamp(*stamp)) for temporary, final, *stamp in content)
    if not all(is_temporary(file.temporary) for file in files):
        raise ValueError("it names files that api2db has not written")
    return files
