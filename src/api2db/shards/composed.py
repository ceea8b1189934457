"""Composed files on their way: durable under a temporary name, named by a manifest, then under a name of their own.

Whoever finds such a manifest knows by its stamp whether the file has that name by now: a temporary file that is missing
may have been published, or removed by somebody.
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
    """A composed file that is durable under its temporary name, or has been published under its final one."""

    temporary: Path
    final: Path
    stamp: Stamp


def write_composed(rows: pa.Table, final: Path, fmt: str, beside: Path, shards_in: Path) -> Composed:
    """Write rows into a file that does not have its name yet; the caller syncs the folder.

    Args:
        rows: What it holds.
        final: The name that it will have.
        fmt: Its format.
        beside: A name in the folder that it waits in, which its temporary name begins with. It has that folder's types.
        shards_in: The folder of the shards. Only where its types are kept, they are kept for composed files as well.

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
        raise FileNotFoundError(errno.ENOENT, "somebody has removed a file that was being written", str(temporary.path))
    return Composed(temporary.path, final, stamp)


@contextmanager
def discarded_on_failure(files: Sequence[Composed], drop_manifest: Callable[[], None]) -> Iterator[None]:
    """Where the block raises, remove the manifest that it may have kept, and then the files that this names."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            drop_manifest()  # durably first: a manifest without its files would stand for rows that are nowhere
            for file in files:
                file.temporary.unlink(missing_ok=True)
        raise


def publish_composed(files: Sequence[Composed], manifest: Path) -> None:
    """See that each file has its final name, durably, whether now or since an earlier call that was cut short.

    Raises:
        DataError: A file is there under neither name; a person decides.
        FileExistsError: A final name is taken.
    """
    for file in files:
        if file.temporary.exists():
            make_folders(file.final.parent)
            _publish(file)
        elif stamp_of(file.final) != file.stamp:
            raise DataError(
                f"{file.final} held the rows of the shards that {manifest} names, and is gone, or another file by now; "
                f"put it back as it was, with its time; or delete of these shards those whose rows are safe, "
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
    """What a manifest keeps of them."""
    return [[str(file.temporary), str(file.final), *file.stamp] for file in files]


def composed_from_json(content: Any) -> tuple[Composed, ...]:
    """Read that again.

    Raises:
        ValueError: It was not written by ``composed_as_json``; TypeError likewise.
    """
    files = tuple(Composed(Path(temporary), Path(final), Stamp(*stamp)) for temporary, final, *stamp in content)
    if not all(is_temporary(file.temporary) for file in files):
        raise ValueError("it names files that nobody here has written")
    return files
