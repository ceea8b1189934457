"""A file's stamp, by which it is known again: its name may belong to another file by then."""

from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """Size and time of a file; another file written under its name has another stamp.

    The inode does not count, so that a project copied or restored with its file times continues.
    """

    size_bytes: int
    modified_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of the file with this name; None if there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stamp(found.st_size, found.st_mtime_ns)
