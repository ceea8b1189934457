"""Stream2Local, which writes frames to files."""

from collections.abc import Mapping
from typing import Literal, Unpack

import pandas as pd

from api2db.disk.file_folder import FileFolder, LocalFolder
from api2db.disk.folders import relative_to_home, shard_folder, static_file
from api2db.errors import ConfigurationError
from api2db.formats import check_format
from api2db.objects import Address, ObjectFolder, is_address
from api2db.stream._credentials import storage_options as combined_options
from api2db.stream._options import StreamOptions, one_of, passes_options_to
from api2db.stream.diagnosis import Diagnosis, Row, diagnosis_of_folder, found_in_files
from api2db.stream.stream import Stream
from api2db.targets.files import ShardTarget, SingleFileTarget
from api2db.targets.port import PlannedTarget

Mode = Literal["shard", "update", "replace"]
_MODES = ("shard", "update", "replace")


class Stream2Local(Stream):
    """Writes the frames of a collector to files.

    Args:
        name: The collector's name.
        path: ``mode="shard"``: a folder, by default ``STORE/<name>/<fmt>/``; else a file, by default
            ``CACHE/<name>_static.<fmt>``. A relative path is below the project's folder. Or an address in an object
            store, such as ``s3://bucket/folder``, ``az://…``, ``abfss://…`` or ``gs://…``.
        mode: ``"shard"``: a file for each frame, ``<timestamp_ns>.<fmt>``; ``"update"``: new rows are added to the
            file; ``"replace"``: the file is the newest frame.
        fmt: ``"parquet"``, ``"json"``, ``"pickle"`` or ``"csv"``.
        drop_duplicate_keys: Rows that repeat these columns of an earlier row are dropped, within the frame, or within
            the file for ``"update"``; None for all columns. ``status()`` counts them.
        chunk_size: A frame of more rows becomes several shards; 0 for no limit.
        storage_options: What the object store needs, such as ``{"AWS_REGION": "eu-central-1"}``: names and texts, the
            same as for ``Stream2Delta``. Credentials may also be in the environment.
        auth_path: A JSON file with more of these options; a relative path is below the project's folder. A value
            ``$NAME`` in it stands for that environment variable.

    The other arguments are those of ``Stream``.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    @passes_options_to(Stream.__init__)
    def __init__(
        self,
        name: str,
        path: str | None = None,
        mode: str = "shard",
        fmt: str = "parquet",
        drop_duplicate_keys: list[str] | None = None,
        *,
        chunk_size: int = 0,
        table: str | None = None,
        storage_options: Mapping[str, str] | None = None,
        auth_path: str | None = None,
        **options: Unpack[StreamOptions],
    ) -> None:
        self.mode: Mode = one_of(mode, _MODES, "mode")
        self._format = check_format(fmt)
        super().__init__(name, path, fmt=fmt, chunk_size=chunk_size, stream_type="local", table=table, **options)
        if isinstance(drop_duplicate_keys, str):
            message = f"drop_duplicate_keys must be a list of column names, not {drop_duplicate_keys!r}"
            raise ConfigurationError(message)
        self.drop_duplicate_keys = drop_duplicate_keys
        self._folder, self._file, self._where = self._found(path, storage_options, auth_path)
        self.path: str = self._where if not self._folder.is_near else str(self._folder.here / self._file)

    @property
    def identity(self) -> str:
        """The identity of the stream across restarts: the mode and the path."""
        return self.stream_id or f"{self.mode}:{self._where}"

    def describe(self) -> str:
        """Return the target's name, for display."""
        return f"{self.fmt} {self.mode} {self._where}"

    def stream(self, data: pd.DataFrame) -> None:
        """Journal a frame, and wait until it is in its file, or parked."""
        self._stream(data)

    def stream_shard(self, data: pd.DataFrame) -> None:
        """Write a frame as a shard, as ``stream`` does.

        Raises:
            ConfigurationError: The stream has another mode.
        """
        self._stream_as("shard", data)

    def stream_update(self, data: pd.DataFrame) -> None:
        """Add a frame to the file, as ``stream`` does.

        Raises:
            ConfigurationError: The stream has another mode.
        """
        self._stream_as("update", data)

    def stream_replace(self, data: pd.DataFrame) -> None:
        """Replace the file with a frame, as ``stream`` does.

        Raises:
            ConfigurationError: The stream has another mode.
        """
        self._stream_as("replace", data)

    def diagnose(self) -> Diagnosis:
        """See ``Stream``."""
        if isinstance(self._folder, ObjectFolder):
            self._folder.check()
            return Diagnosis()
        return diagnosis_of_folder(self._folder.here, is_file=False)

    def find(self, where: Mapping[str, str], most: int = 5) -> list[Row]:
        """See ``Stream``; only Parquet files on a disk are searched."""
        if self._format != "parquet" or not self._folder.is_near:
            return super().find(where, most)
        folder = self._folder.here
        files = [folder / self._file] if self._file else sorted(folder.glob("[!.]*.parquet"))
        return found_in_files([path for path in files if path.exists()], where, most)

    def _stream_as(self, mode: Mode, data: pd.DataFrame) -> None:
        if mode != self.mode:
            raise ConfigurationError(f"this stream has mode={self.mode!r}; make one with mode={mode!r}")
        self._stream(data)

    def _target(self, *, table_is_own: bool = False) -> PlannedTarget:
        keys = self.drop_duplicate_keys
        if self.mode == "shard":
            return ShardTarget(self._folder, self._format, keys, self.chunk_size)
        return SingleFileTarget(self._folder, self._file, self._format, keys, replace=self.mode == "replace")

    def _found(
        self, path: str | None, options: Mapping[str, str] | None, auth_path: str | None
    ) -> tuple[FileFolder, str, str]:
        """The folder, the file in it (empty for shards), and the place for display."""
        is_file = self.mode != "shard"
        if is_address(path):
            address = Address.checked(str(path), combined_options(options, auth_path, self.home), "path")
            if is_file and not address.name:
                raise ConfigurationError(f"path must be the address of a file for mode={self.mode!r}, not of a bucket")
            folder = ObjectFolder(address.parent if is_file else address, self.home)
            return folder, address.name if is_file else "", address.url
        if options or auth_path:
            raise ConfigurationError("storage_options and auth_path are for an object store; path is on the disk")
        default = static_file if is_file else shard_folder
        place = (self.home / path) if path else default(self.home, self.name, self._format)
        where = relative_to_home(place, self.home)
        return LocalFolder(place.parent if is_file else place), place.name if is_file else "", where
