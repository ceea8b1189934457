"""FileConverter, which writes frames to files and reads them; a failure is logged and returned as False or None."""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from api2db.disk.atomic import make_folders
from api2db.disk.folders import project_home
from api2db.errors import Api2dbError, ConfigurationError, FormatError
from api2db.formats import check_format, read_frame, write_frame
from api2db.shards.compose import as_frame, compose
from api2db.stream._dtypes_file import read_dtypes
from api2db.texts import redact

logger = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_FAILURES = (Api2dbError, OSError)


class FileConverter:
    """The base of all streams and stores: writes frames to files of four formats, and reads them.

    If a file or a frame is at fault, the static methods don't raise: they log it once and return False or None. The
    constructor creates no file and no folder.

    Args:
        name: The collector's name.
        dtypes: What ``DataFrame.astype`` takes; by default what the collector's frames have had so far.
        path: A file or a folder, depending on the class that inherits.
        fmt: ``"parquet"`` (recommended), ``"json"``, ``"pickle"`` or ``"csv"``.

    Raises:
        ConfigurationError: There is no such format, or the file of dtypes is damaged.
        InvalidNameError: The name could leave the project's folder.
    """

    home: Path

    def __init__(
        self,
        name: str | None = None,
        dtypes: dict[str, Any] | None = None,
        path: str | None = None,
        fmt: str | None = None,
    ) -> None:
        self.home = getattr(self, "home", None) or project_home()
        self.name = name
        self.dtypes = dtypes
        self.path = path
        self.fmt = None if fmt is None else check_format(fmt)
        self.dtypes = self.build_dtypes()

    def build_dtypes(self) -> dict[str, Any] | None:
        """Return the dtypes that were given, else those that the collector's frames have had so far, else None.

        Raises:
            ConfigurationError: ``CACHE/<name>_dtypes.json`` is damaged.
        """
        if self.dtypes is not None or self.name is None:
            return self.dtypes
        return read_dtypes(self.home, self.name)

    @staticmethod
    def static_compose_df_from_dir(
        path: str,
        fmt: str,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        force: bool = True,
    ) -> pd.DataFrame | None:
        """Join all shards of a folder in the order of their names, and delete or move them.

        If a composed file is asked for, no shard is deleted or moved before that file is durable. A crash at any point
        leaves each row in a shard or in that file, and the next call composes no row twice. A shard that can't be read
        stays where it is. Temporary files and files with another suffix are ignored.

        Without a composed file, the rows are handed over only if the shards can be deleted or moved, as far as that is
        known in advance. If one can't after all (for instance another user's, in a folder that all may write to), the
        log names it, and the next call returns its rows again.

        Args:
            path: The folder of the shards.
            fmt: Their format, and the composed file's.
            move_shards_path: The folder to move the shards to; without it they are deleted. It must not be the folder
                of the composed file, or inside it: readers of that folder would see each row twice.
            move_composed_path: The folder for the composed file ``<first>_<last>.<fmt>``; without it there is none.
            force: Create these folders if they are missing.

        Returns:
            The rows of all shards that could be read; None if there are none, or on a failure. Rows of an earlier call
            that was interrupted are in its composed file, which the log names. They are not returned again.
        """
        logged = _Logged("composing the shards in", path)
        composition = logged(
            lambda: compose(
                _as_path(path),
                fmt,
                as_frame,
                shards_to=_path_or_none(move_shards_path),
                composed_to=_path_or_none(move_composed_path),
                make_missing=force,
            )
        )
        if composition is None:
            return None
        if composition.finished is not None:
            logger.info("%s is complete: the call that began it was interrupted", composition.finished)
        for problem in composition.problems:
            logged.complain(problem)
        return composition.result

    @staticmethod
    def static_store_df(df: pd.DataFrame, path: str, fmt: str) -> bool:
        """Write a frame to a file, replacing an older one; missing folders are created.

        Returns:
            Whether the file is there, durably.
        """
        return _stored(path, df, fmt, force=True)

    @staticmethod
    def pickle_store(path: str, df: pd.DataFrame, force: bool = True) -> bool:
        """Write a frame as a pickle; ``force`` creates missing folders.

        Returns:
            Whether the file is there, durably.
        """
        return _stored(path, df, "pickle", force=force)

    @staticmethod
    def json_store(path: str, df: pd.DataFrame, force: bool = True) -> bool:
        """Write a frame as JSON; ``force`` creates missing folders.

        Returns:
            Whether the file is there, durably.
        """
        return _stored(path, df, "json", force=force)

    @staticmethod
    def csv_store(path: str, df: pd.DataFrame, force: bool = True) -> bool:
        """Write a frame as CSV; ``force`` creates missing folders.

        Returns:
            Whether the file is there, durably.
        """
        return _stored(path, df, "csv", force=force)

    @staticmethod
    def parquet_store(path: str, df: pd.DataFrame, force: bool = True) -> bool:
        """Write a frame as Parquet; ``force`` creates missing folders.

        Returns:
            Whether the file is there, durably.
        """
        return _stored(path, df, "parquet", force=force)

    @staticmethod
    def store_valid(path: str, force: bool) -> bool:
        """Check that a file can have this path: its folder exists, or ``force`` creates it.

        Returns:
            Whether it is valid.
        """
        return _Logged("storing", path)(lambda: _check_place(_as_path(path), make_missing=force)) or False

    @staticmethod
    def static_load_df(path: str, fmt: str, dtypes: dict[str, Any] | None = None) -> pd.DataFrame | None:
        """Read a frame from a file.

        Args:
            path: The file.
            fmt: Its format.
            dtypes: What to cast the frame to, as ``DataFrame.astype`` takes it; columns that the file lacks are
                ignored.

        Returns:
            The frame, or None on a failure.
        """
        return _Logged("loading", path)(lambda: _cast(read_frame(_as_path(path), fmt), dtypes, path))

    @staticmethod
    def pickle_load(path: str) -> pd.DataFrame | None:
        """Read a frame from a pickle; nothing in it is run.

        Returns:
            The frame, or None on a failure.
        """
        return FileConverter.static_load_df(path, "pickle")

    @staticmethod
    def json_load(path: str) -> pd.DataFrame | None:
        """Read a frame from JSON.

        Returns:
            The frame, or None on a failure.
        """
        return FileConverter.static_load_df(path, "json")

    @staticmethod
    def csv_load(path: str) -> pd.DataFrame | None:
        """Read a frame from CSV; dtypes follow from the form of the values.

        Returns:
            The frame, or None on a failure.
        """
        return FileConverter.static_load_df(path, "csv")

    @staticmethod
    def parquet_load(path: str) -> pd.DataFrame | None:
        """Read a frame from Parquet.

        Returns:
            The frame, or None on a failure.
        """
        return FileConverter.static_load_df(path, "parquet")


class _Logged:
    """Runs a call, and turns a failure into a log line and None."""

    def __init__(self, doing: str, path: object) -> None:
        self._doing = doing
        self._path = path

    def __call__(self, work: Callable[[], _Answer]) -> _Answer | None:
        try:
            return work()
        except _FAILURES as error:
            self.complain(error)
            return None

    def complain(self, error: Exception) -> None:
        said = str(error)
        is_named = str(self._path) in said or repr(self._path) in said
        logger.error("%s: %s", self._doing if is_named else f"{self._doing} {self._path}", said)


def _as_path(path: object) -> Path:
    """Raise ConfigurationError if no file can have that path, whatever its contents."""
    if isinstance(path, (str, os.PathLike)):
        text = os.fspath(path)
        if isinstance(text, str) and "\0" not in text and _encodes(text):
            return Path(text)
    raise ConfigurationError(f"{path!r} is not a path; give a text without NULs that the system's file names can hold")


def _encodes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _path_or_none(path: str | None) -> Path | None:
    return None if path is None else _as_path(path)


def _stored(path: str, df: pd.DataFrame, fmt: str, *, force: bool) -> bool:
    def store() -> bool:
        check_format(fmt)
        place = _as_path(path)
        _check_place(place, make_missing=force)
        write_frame(df, place, fmt)
        return True

    return _Logged("storing", path)(store) or False


def _check_place(path: Path, *, make_missing: bool) -> bool:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file in it")
    if make_missing:
        make_folders(path.parent)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}; make it, or pass force=True")
    return True


def _cast(df: pd.DataFrame, dtypes: Mapping[str, Any] | None, path: str) -> pd.DataFrame:
    if dtypes is None:
        return df
    try:
        return df.astype({name: dtype for name, dtype in dtypes.items() if name in df.columns})
    except Exception as error:  # A dtype's own code may raise any error.
        raise FormatError(
            f"{path} does not fit the dtypes that were given: {redact(str(error))}; give others, or none"
        ) from error
