"""The port to a folder whose files appear whole, and its form on a disk; ``objects`` has its form in an object store.

A file is first written under a temporary name into ``here``, a folder on this machine's disk, and fsynced. ``publish``
or ``replace`` then gives it its name. When that returns, the temporary file is gone: so a temporary file that is
missing has been published.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from api2db.disk.atomic import make_folders, publish, sweep, sync_folder


class Stamp(NamedTuple):
    """Size and time of a file; another file under the same name has another stamp.

    The inode is not part of it, so that a project copied or restored with its file times continues. An object has a
    number made of its entity tag instead of a time.
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


class FileFolder(Protocol):
    """A folder of files. Its ``str`` is the place for display, and contains no secret.

    Attributes:
        is_near: Whether ``has`` answers without a request to a server.
    """

    is_near: bool

    @property
    def here(self) -> Path:
        """The folder on this machine's disk where files wait to be published; on a disk, the folder itself."""

    def reach(self) -> None:
        """Create the folder if it is missing, or reach the object store.

        Raises:
            TargetUnavailableError: The object store can't be reached.
            OSError: The disk refuses.
        """

    def sweep(self, owner: str) -> None:
        """Remove temporary files that a crash has left.

        Args:
            owner: Their names begin with a dot and this; the caller knows that nobody writes them.
        """

    def names(self) -> list[str]:
        """List the files, without folders; on a disk, hidden files too."""

    def has(self, name: str) -> bool:
        """Whether there is a file with this name."""

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading.

        Raises:
            FileNotFoundError: There is none.
        """

    def begin(self, plan: str, names: Sequence[str]) -> None:
        """Say that the files of a plan are about to be published; ``settle`` ends that.

        Args:
            plan: A name that no other plan has.
            names: The files' names.
        """

    def publish(self, temporary: Path, name: str) -> None:
        """Give a file in ``here`` its name, without replacing another file.

        Raises:
            FileExistsError: The name is taken; nothing has changed.
        """

    def replace(self, temporary: Path, name: str) -> None:
        """Give a file in ``here`` its name; the file that had the name is replaced."""

    def settle(self, plan: str) -> None:
        """Make the names given durable, and end the plan."""


class LocalFolder:
    """A folder on a disk; see ``FileFolder``."""

    is_near = True

    def __init__(self, path: Path) -> None:
        self.here = path

    def __str__(self) -> str:
        return str(self.here)

    def reach(self) -> None:
        make_folders(self.here)

    def sweep(self, owner: str) -> None:
        if self.here.is_dir():
            sweep(self.here, owner)

    def names(self) -> list[str]:
        return [path.name for path in self.here.iterdir()] if self.here.is_dir() else []

    def has(self, name: str) -> bool:
        return (self.here / name).exists()

    def open(self, name: str) -> BinaryIO:
        return (self.here / name).open("rb")

    def begin(self, plan: str, names: Sequence[str]) -> None:
        return  # A rename is one step: nobody takes a file away between its publication and a note of it.

    def publish(self, temporary: Path, name: str) -> None:
        publish(temporary, self.here / name)

    def replace(self, temporary: Path, name: str) -> None:
        temporary.replace(self.here / name)

    def settle(self, plan: str) -> None:
        sync_folder(self.here)
