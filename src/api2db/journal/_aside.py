"""The folders on this disk in which streams set rows aside: ``STORE/rejected/<collector>/<stream_type>``."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from api2db.disk.atomic import is_temporary, make_folders, publish, sync_folder, write_temporary
from api2db.journal._refusals import file_below
from api2db.journal.port import RejectedFile, Written

METADATA_KEY: Final = b"api2db"  # of the Parquet files of rows that are set aside: journal, stream and range


class DiskFolder:
    """See ``AsideFolder``: a folder on this disk. A published file is never replaced.

    Args:
        folder: Its path.
        key: The key of the stream. Streams to two targets of one kind share the folder.
    """

    has_copies = True

    def __init__(self, folder: Path, key: str) -> None:
        self._folder = folder
        self._key = key

    def write(self, content: Callable[[BinaryIO], object]) -> Written:
        make_folders(self._folder)
        with write_temporary(self._folder / self._key) as temporary:
            content(temporary.file)
        return Written(temporary.path.name, temporary.path.stat().st_size)

    def publish(self, temporary: str, final: str, _: Mapping[str, Any]) -> None:
        path, number = self._folder / temporary, int(Path(final).stem)
        while path.exists():
            try:
                publish(path, self._folder / f"{number}.parquet")
            except FileExistsError:
                number += 1
        sync_folder(self._folder)

    def remove(self, temporary: str) -> None:
        (self._folder / temporary).unlink(missing_ok=True)

    def sweep(self) -> None:
        for path in self._folder.glob(f".{self._key}.*"):
            if is_temporary(path):
                path.unlink(missing_ok=True)

    def __str__(self) -> str:
        return str(self._folder)


def rejected_on_disk(home: Path) -> list[RejectedFile]:
    """The files of rejected rows below a home, those of stores too."""
    paths = (home / "STORE" / "rejected").glob("*/*/*.parquet")
    return [RejectedFile(str(path.relative_to(home))) for path in paths if path.stem.isdigit()]


def read_rejected_on_disk(home: Path, file: str) -> bytes | None:
    """The content of a file of rejected rows; None if there is no such file.

    Raises:
        ConfigurationError: The name leads out of the home.
    """
    with suppress(FileNotFoundError):
        return file_below(home, file).read_bytes()
    return None
