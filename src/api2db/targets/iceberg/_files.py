"""The library's access to files, which flushes local ones to the disk before a commit can name them."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

from api2db.disk.atomic import FILE_MODE, make_folders, sync_file, sync_folder


class DurableFileIO(PyArrowFileIO):
    """Reads and writes where the library's own class does. A local file is durable once it is closed."""

    def new_output(self, location: str) -> PyArrowFile:
        """The file at a place, to be written."""
        scheme, netloc, path = self.parse_location(location, self.properties)
        made = _DurableFile if scheme == "file" else PyArrowFile
        return made(fs=self.fs_by_scheme(scheme, netloc), location=location, path=path)


class _DurableFile(PyArrowFile):
    def create(self, overwrite: bool = False) -> Any:  # noqa: FBT001, FBT002 - the library's signature
        path = Path(self._path)
        make_folders(path.parent)
        return _Flushed(path, "wb" if overwrite else "xb")


class _Flushed:
    """A file that is flushed to the disk, with its name in the folder, when it is closed."""

    def __init__(self, path: Path, mode: str) -> None:
        self._path = path
        self._file = open(path, mode, opener=lambda name, flags: os.open(name, flags, FILE_MODE))  # noqa: SIM115

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            with suppress(OSError):
                self._file.close()

    def close(self) -> None:
        """Flush and close the file."""
        if self._file.closed:
            return
        try:
            self._file.flush()
            sync_file(self._file.fileno())
        finally:
            self._file.close()
        sync_folder(self._path.parent)
