"""Stream, the base of all streams: its journal and its worker, whatever its target."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from api2db import hypertext
from api2db.delivery import Dtypes, Group, Worker
from api2db.disk.folders import check_name, project_home, rejected_folder, upload_failed_folder
from api2db.errors import Api2dbError, ConfigurationError, MissingExtraError, TargetError
from api2db.frames import type_of_dtype
from api2db.journal import AttachedStream, Durability, StreamIdentity
from api2db.stream._attachment import Attachment
from api2db.stream._dtypes_file import LearntDtypes
from api2db.stream._exit import drain_at_exit
from api2db.stream._head import newest_frame
from api2db.stream._options import one_of, whole_number
from api2db.stream._queue import JournalQueue
from api2db.stream._running import Running
from api2db.stream.diagnosis import Diagnosis, Row
from api2db.stream.file_converter import FileConverter
from api2db.stream.status import StreamStatus, facts_of, status_of
from api2db.stream.workers import DeliveryOptions, Override, build_worker
from api2db.targets.port import AnyTarget, ReadableTarget, SchemaRule
from api2db.texts import redact

logger = logging.getLogger(__name__)
_NO_TARGET = "Stream has no target: inherit from it and override stream, or use Stream2Local or Stream2Sql"
_DURABILITIES = ("full", "process")
_SCHEMA_RULES = ("evolve", "freeze")
_PACKAGE = __name__.partition(".")[0]


class Stream(FileConverter):
    """Carries the frames of a journal to one target; the base of all streams.

    This class itself has no target: inherit from it. A class of yours that overrides ``stream`` gets each frame from
    the worker at least once, in order. What it passes to ``super().stream`` goes into the target of the class that it
    inherits from.

    The constructor only records its arguments. The first ``start`` or ``put`` opens files, threads and connections.

    Args:
        name: The collector's name.
        path: Where files go; its meaning depends on the class.
        dtypes: The dtypes that columns get on their way into the target, as ``DataFrame.astype`` takes them. A row with
            a value that can't be cast without loss is rejected. By default rows are loaded as they were put, and the
            attribute has the dtypes that the collector's frames have had so far.
        fmt: ``"parquet"``, ``"json"``, ``"pickle"`` or ``"csv"``.
        chunk_size: The most rows of one transaction; 0 for no limit.
        stream_type: The name of its folders below ``STORE/upload_failed`` and ``STORE/rejected``, and in log lines.
        store: Whether it serves a Store; then it has no worker.
        home: The project's folder: by default ``API2DB_HOME``, else the current folder.
        durability: ``"full"``: ``put`` returns after an fsync; ``"process"``: rows survive this process, not a power
            cut.
        max_backlog_bytes: If this much waits on disk, ``put`` waits or raises queue.Full; None for no limit.
        schema: ``"evolve"``: the table follows the data; ``"freeze"``: the table stays, and rows that do not fit are
            set aside.
        table: The table's name; the collector's by default.
        stream_id: The identity of the stream across restarts; by default it follows from the target.

    Raises:
        ConfigurationError: An argument can't be used; it is a ValueError.

    Attributes:
        is_store_instance: As ``store``.
        lock: Held while the worker runs: acquired by ``start``, free before and after.
        q: A queue.Queue by type: ``put`` journals, ``join`` flushes, ``qsize`` counts the waiting frames.
        home: The project's folder.
        newest_by: The column that ``head`` sorts by where the target does not keep the order of its rows.
    """

    def __init__(
        self,
        name: str,
        path: str | None = None,
        dtypes: dict[str, Any] | None = None,
        fmt: str | None = None,
        chunk_size: int = 0,
        stream_type: str = "stream",
        store: bool = False,
        *,
        home: str | os.PathLike[str] | None = None,
        durability: Durability = "full",
        max_backlog_bytes: int | None = None,
        schema: SchemaRule = "evolve",
        table: str | None = None,
        stream_id: str | None = None,
    ) -> None:
        self.home = project_home(home)
        check_name(name)
        self._given_dtypes = dict(_checked(dtypes) or {})
        self._applied_dtypes = _applied(self._given_dtypes)
        super().__init__(name=name, dtypes=dtypes, path=path, fmt=fmt)
        self.name: str = name
        self.chunk_size = whole_number(chunk_size, "chunk_size")
        self.stream_type = stream_type
        self.is_store_instance = store
        self.durability: Durability = one_of(durability, _DURABILITIES, "durability")
        quota = max_backlog_bytes
        self.max_backlog_bytes = None if quota is None else whole_number(quota, "max_backlog_bytes")
        self.schema_rule: SchemaRule = one_of(schema, _SCHEMA_RULES, "schema")
        self.table_name = _free_table_name(name if table is None else table)
        self.stream_id = stream_id
        self.lock = threading.Lock()
        self.q = JournalQueue(
            self._put, lambda: self.status().frames_waiting, self.flush, lambda: self._attachment.has_room
        )
        self._learnt = LearntDtypes(self.home, name, {} if self._given_dtypes else self.dtypes or {})
        self._override = None if _is_ours(type(self).stream) else Override(self.stream)
        self._attachment = Attachment(self.home, name, self.durability, self._stream_identity)
        self._running = Running(self._attachment, self.lock, self._prepare, lambda: drain_at_exit(self), self.__repr__)
        self._reached = False
        self.newest_by: str | None = None

    @property
    def identity(self) -> str:
        """The identity of the stream across restarts: its target, or the ``stream_id`` that was given."""
        return self.stream_id or f"{type(self).__name__}.stream"

    @property
    def embedded_file(self) -> Path | None:
        """The database file that it writes, which only one process may have open; None for other targets."""
        return None

    def describe(self) -> str:
        """The target's name for display; contains no secret."""
        return self.identity

    def start(self) -> None:
        """Start the worker; do nothing if it is running, and wait for the end of one that is stopping.

        Raises:
            JournalBusyError: Another process owns the collector's journal.
            ConfigurationError: Another stream to the same target is running.
        """
        self._running_for("start").start(self._group(), f"api2db-{self.name}-{self.stream_type}")

    def stream_start(self) -> None:
        """Run the worker in this thread, until ``stop`` is called in another.

        Raises:
            StreamDiedError: The worker stopped with an error.
        """
        self._running_for("stream_start").run_here()

    def stop(self, timeout: float | None = None) -> None:
        """Stop the worker after its current batch; rows that are not delivered stay on disk for the next start.

        Args:
            timeout: How long to wait for that, in seconds; None for as long as it takes. A worker that takes longer
                releases the journal when it ends.
        """
        self._running.stop(timeout)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was put so far is in the target, or set aside.

        Args:
            timeout: How long to wait, in seconds; None for as long as it takes.

        Returns:
            Whether everything is in the target or set aside.

        Raises:
            StreamDiedError: The worker has stopped with an error.
            ConfigurationError: Frames wait, no worker is running, and there is no timeout.
        """
        return self._running_for_frames().flush(timeout)

    def check_failures(self) -> None:
        """Try the parked batch again now, instead of after its pause.

        A batch is written to ``STORE/upload_failed/<collector>/<stream_type>/`` when its retries have run out. The file
        is only for inspection: the rows stay in the journal, and the file is deleted when they are in the target.
        """
        self._running.retry_now()

    def stream(self, data: pd.DataFrame) -> None:
        """Raise: a Stream has no target of its own.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(_NO_TARGET)

    def status(self) -> StreamStatus:
        """Return how many rows wait, are delivered, parked or set aside, and the last error."""
        return status_of(self._attachment.overview(), running=self._running.is_alive)

    def head(self, n: int = 5, *, by: str | None = None) -> pd.DataFrame:
        """Return the newest rows of the target, the newest first.

        It reads through a connection of its own, so the stream may be running, also in another process. It creates and
        changes nothing.

        Args:
            n: How many rows at most.
            by: The column whose greatest values are the newest. By default the rows that were added last are; a row
                that was replaced by key may keep its place. BigQuery, Delta Lake, Iceberg, and a table of MySQL or
                MariaDB with a primary key of yours, do not keep that order: there it is the column of the cursor of the
                collector's resource.

        Returns:
            The rows with the table's types and the frames' column names; empty if there is no table yet.

        Raises:
            ConfigurationError: There is no such column, or ``by`` is needed.
            TargetUnavailableError: The target can't be reached.
        """
        return newest_frame(self._reader, whole_number(n, "n"), by, self.newest_by)

    def diagnose(self) -> Diagnosis:
        """Reach the target, and say what the user lacks there; nothing is created or changed.

        Raises:
            TargetError: It can't be reached.
            ConfigurationError: The stream has no target that can be asked.
        """
        self.head(1)
        return Diagnosis()

    def find(self, where: Mapping[str, str], most: int = 5) -> list[Row]:
        """Return the rows of the target whose columns have these values.

        Args:
            where: The value of each column, as text.
            most: How many rows at most.

        Raises:
            TargetError: The target can't be reached.
            ConfigurationError: The target has no such column, or rows of such a target can't be searched.
        """
        raise ConfigurationError(f"{self!r} has a target whose rows api2db does not search")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._attachment.is_of_another_process:
            return  # A forked child that ends within the block gets its own error.
        try:
            if error is None:
                self.flush()
        finally:
            self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} → {self.describe()}>"

    def _repr_html_(self) -> str:
        title = hypertext.title(f"{type(self).__name__} {self.name} → {self.describe()}")
        try:
            return hypertext.area(title, hypertext.facts(facts_of(self.status())))
        except Api2dbError as error:
            return hypertext.area(title, hypertext.paragraph(error, is_error=True))

    def _target(self, *, table_is_own: bool = False) -> AnyTarget | None:
        """Make a new target; None for a stream without a target of its own.

        Args:
            table_is_own: Whether the table is known to be the stream's own, whatever ``if_exists`` says.
        """
        return None

    def _reader(self) -> ReadableTarget:
        """Make a target that is only read."""
        target = self._target()
        if isinstance(target, ReadableTarget):
            return target
        raise ConfigurationError(f"{self!r} has no target of its own whose rows could be read")

    def _target_group(self) -> Group:
        """The streams that share the target."""
        return Group((type(self), self.home))

    def _stream(self, data: Any, retry_depth: int | None = None) -> None:
        """Journal a frame, and wait until it is delivered or parked; ``stream`` does this in the classes of api2db."""
        if self._override is None or not self._override.takes(data):
            self.start()
            self._running.deliver(lambda: self.q.put(data), retry_depth)

    def _try_to_reach(self, reach: Callable[[], object]) -> bool:
        """Try to reach the target; return whether it was reached. If not, the log has the reason."""
        try:
            reach()
        except (TargetError, MissingExtraError) as error:
            logger.warning("%s → %s can't be reached: %s", self.name, self.describe(), redact(str(error)))
            return False
        return True

    @property
    def _is_connected(self) -> bool:
        """Whether the last attempt of the worker or of ``connect`` reached the target."""
        found = self._running.connected
        return self._reached if found is None else found

    def _running_for(self, verb: str) -> Running:
        if self.is_store_instance:
            raise AttributeError(
                f"{self!r} serves a Store, so it has no {verb}: call store, or give the Store to Collector(stores=[…])"
            )
        return self._running

    def _running_for_frames(self) -> Running:
        if type(self).stream is Stream.stream and not self.is_store_instance:
            raise ConfigurationError(_NO_TARGET)
        return self._running_for("journal")

    def _stream_identity(self) -> StreamIdentity:
        return StreamIdentity(self.identity, self.stream_type, self.max_backlog_bytes)

    def _group(self) -> Group:
        """The group of streams with this target; an overriding method has its own, as it may wait for any stream."""
        return self._target_group() if self._override is None else Group(self)

    def _prepare(self) -> Callable[[AttachedStream], Worker]:
        if type(self).stream is Stream.stream:
            raise AttributeError(_NO_TARGET)
        target = self._target()
        options = self._delivery_options()

        def build(reader: AttachedStream) -> Worker:
            return build_worker(reader, target, self._override, options, self._learn, dtypes=self._applied_dtypes)

        return build

    def _delivery_options(self) -> DeliveryOptions:
        return DeliveryOptions(
            collector=self.name,
            stream=self.identity,
            parked=upload_failed_folder(self.home, self.name, self.stream_type),
            rejected=rejected_folder(self.home, self.name, self.stream_type),
            chunk_rows=self.chunk_size,
        )

    def _put(self, frame: Any, block: bool, timeout: float | None) -> None:
        self._attachment.check_process()
        self._running_for_frames().check_alive()
        self._attachment.put(frame, block=block, timeout_s=timeout)

    def _learn(self, schema: pa.Schema) -> None:
        if self._learnt.learn(schema):
            self.dtypes = {**self._learnt.dtypes, **self._given_dtypes}


def _is_ours(method: Callable[..., object]) -> bool:
    """Whether a ``stream`` method is one of api2db: the worker loads into the target instead of calling it."""
    return str(getattr(method, "__module__", "")).partition(".")[0] == _PACKAGE


def _free_table_name(name: str) -> str:
    """Check that a name is one that databases hold, and not that of api2db's own tables."""
    encodes = name and name.encode(errors="ignore").decode() == name
    if encodes and "\0" not in name and not name.lower().startswith("_api2db_"):
        return name
    raise ConfigurationError(f"a table can't be named {name!r}; give another one with table=")


def _checked(dtypes: object) -> Mapping[str, Any] | None:
    if dtypes is None or isinstance(dtypes, Mapping):
        return dtypes
    raise ConfigurationError(
        f"dtypes={dtypes!r} does not say which columns it is for; give a dict of column and dtype, such as "
        "dtypes={'price': 'float64'}"
    )


def _applied(dtypes: Mapping[str, Any]) -> Dtypes:
    types = {name: type_ for name, dtype in dtypes.items() if (type_ := type_of_dtype(dtype)) is not None}
    return Dtypes(types, {name: str(pd.api.types.pandas_dtype(dtypes[name])) for name in types})
