"""Store, the base of all stores: the periodic job that composes a collector's shards and loads them."""

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from api2db.delivery import Worker
from api2db.disk.folders import relative_to_home, shard_folder
from api2db.errors import ConfigurationError, TargetUnavailableError
from api2db.formats import check_format
from api2db.objects import Address, ObjectFolder, is_address
from api2db.shards.composed import write_composed
from api2db.shards.shards import Shards, shards_in, shards_of
from api2db.store._figures import StoreFigures, change_figures, read_figures
from api2db.store._loading import IntoTarget, Load, ThroughMethod
from api2db.store._round import Round
from api2db.store._steps import Rules, Written, store_round
from api2db.stream._credentials import storage_options as combined_options
from api2db.stream.status import StreamStatus
from api2db.stream.stream import Stream
from api2db.targets.port import AnyTarget
from api2db.texts import redact

logger = logging.getLogger(__name__)


class Store(Stream):
    """Composes the shards of a collector and loads them, at a regular interval; the base of all stores.

    ``Collector(stores=[...])`` runs it; ``store`` does one round. A store opens no journal: ``start``,
    ``stream_start``, ``q.put`` and ``flush`` raise AttributeError.

    This class itself has no target: inherit from it. A class of yours that overrides ``stream`` gets the composed
    frame at least once: the shards are removed after ``stream`` has returned.

    Args:
        name: The collector's name.
        seconds: The time between two rounds; 0 for never.
        path: The folder of the shards; by default ``STORE/<name>/<fmt>/``, where Stream2Local puts them. A relative
            path is below the project's folder. Or an address in an object store, such as ``s3://bucket/folder``.
        fmt: The format of the shards.
        drop_duplicate_exclude: Rows that repeat an earlier row of the round in all columns but these are dropped and
            counted in ``status()``; None to compare all columns.
        move_shards_path: The folder to move the shards to; without it they are deleted. If ``path`` is an address, it
            is one too.
        move_composed_path: The folder for ``<first>_<last>.<fmt>``, a file with all rows of the round; without it there
            is none. A path or an address, whatever ``path`` is.
        chunk_size: The most rows of one transaction; 0 for no limit.
        storage_options: What an object store needs, for all its addresses; as for ``Stream2Local``.
        auth_path: A JSON file with more of these options.
        home: The project's folder: by default ``API2DB_HOME``, else the current folder.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        path: str | None = None,
        fmt: str = "parquet",
        drop_duplicate_exclude: list[str] | None = None,
        move_shards_path: str | None = None,
        move_composed_path: str | None = None,
        chunk_size: int = 0,
        *,
        storage_options: Mapping[str, str] | None = None,
        auth_path: str | None = None,
        home: str | os.PathLike[str] | None = None,
    ) -> None:
        self._format = check_format(fmt)
        super().__init__(name, path, fmt=fmt, chunk_size=chunk_size, stream_type="store", store=True, home=home)
        self.seconds = _seconds(seconds)
        self.drop_duplicate_exclude = _column_names(drop_duplicate_exclude)
        self.move_shards_path = move_shards_path
        self.move_composed_path = move_composed_path
        self._elsewhere: dict[Path, ObjectFolder] = {}
        places = {"path": path, "move_shards_path": move_shards_path, "move_composed_path": move_composed_path}
        self._know_addresses(places, storage_options, auth_path)
        self._folder = self._place(path) or shard_folder(self.home, name, fmt)
        self.path: str = str(self._elsewhere.get(self._folder, self._folder))
        self._onward: Stream | None = None
        self._worker: Worker | None = None

    @property
    def identity(self) -> str:
        """The identity of the store across restarts: its target, and the folder of its shards."""
        return f"{self.describe()} from {self._shown(self._folder)}"

    @property
    def embedded_file(self) -> Path | None:
        """The database file that it writes, which only one process may have open; None for other targets."""
        return None if self._onward is None else self._onward.embedded_file

    def describe(self) -> str:
        """The target's name for display; contains no secret."""
        return f"{type(self).__name__}.stream" if self._onward is None else self._onward.describe()

    def store(self) -> None:
        """Do one round: compose the shards that are there, load them, and remove them; each row exactly once.

        An interrupted round is finished first. Rows that the target refuses are set aside in
        ``STORE/rejected/<collector>/<stream_type>/``. A shard that can't be read is named in the log and stays.

        Raises:
            AttributeError: There is neither a target nor a ``stream`` method.
            ConfigurationError: The folders can't be used together, or another store was interrupted in this folder.
            DataError: A shard of an interrupted round is gone or changed, or the shards can't be partitioned by the
                requested column; nothing was deleted.
            FolderBusyError: Another process or thread composes or stores the folder.
            TargetUnavailableError: Not all rows could be loaded, or an object store can't be reached; the shards stay,
                and the next round continues.
            OSError: A folder or the disk refuses; only loaded shards were deleted.
        """
        rules = self._rules()
        try:
            unreadable = store_round(rules)
        except (Exception, SystemExit) as error:
            self._note_failure(error)
            raise
        self._note_end(unreadable)

    def stop(self, timeout: float | None = None) -> None:
        """Stop the load of a round after its current batch; the next round continues. ``timeout`` is not used."""
        if self._worker is not None:
            self._worker.stop()

    def check_failures(self) -> None:
        """Try again now, if a round waits for its target."""
        if self._worker is not None:
            self._worker.retry_now()

    def status(self) -> StreamStatus:
        """Return the figures of its rounds. A frame is a shard here, and waiting rows are not counted.

        If the shards are in an object store that can't be reached, ``last_error`` says so, and none is counted.
        """
        figures = self._figures()
        waiting, oldest, last_error = list[Path](), None, figures.last_error
        try:
            waiting, oldest = self._waiting()
        except TargetUnavailableError as error:
            last_error = redact(str(error))
        return StreamStatus(
            running=self._worker is not None,
            frames_waiting=len(waiting),
            rows_waiting=0,
            frames_delivered=figures.shards,
            rows_delivered=figures.rows,
            rows_parked=0,
            rows_rejected=figures.rejected,
            rows_superseded=0,
            duplicates_dropped=figures.duplicates,
            last_error=last_error,
            lag_s=0.0 if oldest is None else max(0.0, time.time() - oldest),
        )

    def _rules(self) -> Rules:
        composed_to = self._place(self.move_composed_path)
        return Rules(
            store=self.identity,
            folder=self._folder,
            fmt=self._format,
            excluded=tuple(self.drop_duplicate_exclude or ()),
            shards_to=self._place(self.move_shards_path),
            composed_to=composed_to,
            write=lambda shards: self._write(shards, composed_to),
            load=self._load(),
            stored=self._note_stored,
            elsewhere=self._elsewhere,
        )

    def _waiting(self) -> tuple[list[Path], float | None]:
        """The shards that wait, and when the oldest was written, in seconds since 1970; of a server's as far as known.

        Raises:
            TargetUnavailableError: They are in an object store that can't be reached.
        """
        if self._folder in self._elsewhere:
            found = shards_in(self._elsewhere[self._folder], self._format)
            return found, min((int(path.stem) / 1e9 for path in found if path.stem.isdecimal()), default=None)
        waiting = shards_of(self._folder, self._format) if self._folder.is_dir() else []
        return waiting, min((shard.stat().st_mtime for shard in waiting if shard.exists()), default=None)

    def _write(self, shards: Shards, composed_to: Path | None) -> Written:
        if composed_to is None:
            return Written(())
        into = self._elsewhere.get(composed_to)
        return Written(write_composed(composed_to, shards, self._format, into=into))

    def _load(self) -> Load | None:
        if type(self).stream is not Stream.stream:
            return ThroughMethod(self.stream)
        target = self._target()
        if target is None:
            raise AttributeError("a Store has no target: inherit from it and override stream, or use Store2Sql")
        options, dtypes = self._delivery_options(), self._applied_dtypes
        return IntoTarget(lambda: self._target() or target, options, dtypes, self.describe(), self._lend)

    def _load_into(self, stream: Stream) -> None:
        """Set the stream whose target the rounds load into."""
        self._onward = stream
        self.stream_type = f"store.{stream.stream_type}"
        self.table_name = stream.table_name
        self.dtypes, self._applied_dtypes = stream.dtypes, stream._applied_dtypes  # noqa: SLF001 - as for _target

    def _target(self, *, table_is_own: bool = False) -> AnyTarget | None:
        if self._onward is None:
            return None
        # If a round was ever finished, the table is the store's own.
        is_own = table_is_own or self._figures().shards > 0
        return self._onward._target(table_is_own=is_own)  # noqa: SLF001 - the store makes its stream for its target

    def _lend(self, worker: Worker | None) -> None:
        self._worker = worker

    def _place(self, path: str | None) -> Path | None:
        """A folder, or the one that stands for an address; None for none."""
        if not path:
            return None
        if is_address(path):
            return ObjectFolder(Address.checked(path, {}, "path"), self.home).here
        return self.home / path

    def _shown(self, folder: Path) -> str:
        return str(self._elsewhere.get(folder) or relative_to_home(folder, self.home))

    def _know_addresses(
        self, places: Mapping[str, str | None], given: Mapping[str, str] | None, auth_path: str | None
    ) -> None:
        """Remember the folders that are in object stores.

        Raises:
            ConfigurationError: They, or they and those on the disk, can't be used together.
        """
        addresses = {what: str(place) for what, place in places.items() if is_address(place)}
        if not addresses:
            if given or auth_path:
                raise ConfigurationError("storage_options and auth_path are for an object store; no path is an address")
            return
        if places["move_shards_path"] and ("path" in addresses) != ("move_shards_path" in addresses):
            raise ConfigurationError("path and move_shards_path must both be addresses of an object store, or paths")
        options, urls = combined_options(given, auth_path, self.home), dict[str, str]()
        for what, place in addresses.items():
            folder = ObjectFolder(Address.checked(place, options, what), self.home)
            if folder.here in self._elsewhere:
                raise ConfigurationError(f"{what} is the same address as another one of this store; name another")
            self._elsewhere[folder.here] = folder
            urls[what] = str(folder)
        moved, composed = (urls.get(what, "") for what in ("move_shards_path", "move_composed_path"))
        if moved and composed and moved.startswith(f"{composed}/"):
            raise ConfigurationError(
                f"readers of the composed files in {composed} would see each row again in the shards in {moved}; "
                "move the shards to a folder outside (move_shards_path)"
            )

    @property
    def unreadable(self) -> int:
        """The number of shards that the last round could not read; they stay."""
        return self._figures().unreadable

    def _figures(self) -> StoreFigures:
        return read_figures(self.home, self.name, self.identity) or self._first_figures()

    def _first_figures(self) -> StoreFigures:
        folder = self._shown(self._folder)
        return StoreFigures(self.name, self.identity, folder, self._format, self.seconds)

    def _note_stored(self, finished: Round) -> None:
        """Add a round to the figures, once, before its manifest is removed."""

        def counted(figures: StoreFigures) -> StoreFigures | None:
            if figures.last_round == finished.id:
                return None
            delivered = finished.delivered
            return replace(
                figures,
                seconds=self.seconds,
                stored_at=time.time(),
                shards=figures.shards + len(finished.manifest.shards),
                rows=figures.rows + delivered.rows,
                duplicates=figures.duplicates + delivered.duplicates,
                rejected=figures.rejected + delivered.rejected,
                last_round=finished.id,
            )

        change_figures(self.home, self._first_figures(), counted)

    def _note_end(self, unreadable: int) -> None:
        """Record a successful round. Nothing is written if this round and the one before it found nothing to do."""

        def ended(figures: StoreFigures) -> StoreFigures | None:
            if figures.stored_at is not None and figures.healthy and not unreadable:
                return None
            said: dict[str, Any] = {"last_error": None, "error_at": None, "unreadable": unreadable}
            return replace(figures, seconds=self.seconds, stored_at=time.time(), **said)

        change_figures(self.home, self._first_figures(), ended)

    def _note_failure(self, error: BaseException) -> None:
        said: dict[str, Any] = {"last_error": redact(str(error)) or type(error).__name__, "error_at": time.time()}
        try:
            change_figures(
                self.home, self._first_figures(), lambda figures: replace(figures, seconds=self.seconds, **said)
            )
        except OSError as second:
            logger.warning("%s: the error can't be saved for api2db status: %s", self.identity, second)


def _seconds(seconds: object) -> float:
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and math.isfinite(seconds) and seconds >= 0:
        return seconds
    raise ConfigurationError(f"seconds must be a number of at least 0, not {seconds!r}")


def _column_names(names: Sequence[str] | None) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(f"drop_duplicate_exclude must be a list of column names, not {names!r}")
    return list(names)
