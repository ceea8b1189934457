"""The stamp of a file, which shows whether a name still belongs to the same file."""

from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """Size and time of a file; another file under the same name has another stamp.

    The inode is not part of it, so that a project copied or restored with its file times continues.
    """

    size_bytes: int
    modified_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """Return the stamp of the file with this name; None if there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stamp(found.st_size, found.st_mtime_ns)
