"""Which file it is: its name may be another file's by the time that somebody acts on it."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["Stamp", "stamp_of"]


class Stamp(NamedTuple):
    """A file as it was; what is written under its name later has another one.

    The inode does not count: a project that was copied or restored, with the times of its files, goes on.
    """

    size_bytes: int
    modified_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """The file that has this name now; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stamp(found.st_size, found.st_mtime_ns)
