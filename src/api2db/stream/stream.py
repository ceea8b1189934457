"""Stream, the base of all streams: its journal and its worker, whatever its target."""

import logging
import os
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import pandas as pd
import pyarrow as pa

from api2db.delivery import Dtypes, Group, Task, Worker, process_scheduler
from api2db.disk.folders import check_name, project_home, rejected_folder, upload_failed_folder
from api2db.errors import Api2dbError, ConfigurationError, JournalError, StreamDiedError
from api2db.frames import dtypes_of, merge_dtypes, rows_and_refused, to_batch, type_of_dtype
from api2db.journal import (
    AttachedStream,
    Durability,
    JournalHandle,
    StreamIdentity,
    StreamNo,
    StreamOverview,
    check_process,
    journal_store,
)
from api2db.redaction import redact
from api2db.stream._dtypes_file import merge_dtypes_file
from api2db.stream._exit import drain_at_exit
from api2db.stream._options import one_of
from api2db.stream._queue import JournalQueue
from api2db.stream.commands import register_requests
from api2db.stream.file_converter import FileConverter
from api2db.stream.status import StreamStatus, status_of
from api2db.stream.workers import DeliveryOptions, build_worker
from api2db.targets.port import AnyTarget, SchemaRule

logger = logging.getLogger(__name__)
_GLANCE_S = 0.1
_NO_TARGET = "Stream has no target: inherit from it and override stream, or use Stream2Local or Stream2Sql"
_DURABILITIES = ("full", "process")
_SCHEMA_RULES = ("evolve", "freeze")


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
    """

    _journalled: ClassVar[bool] = False

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
        self._given_dtypes = dict(dtypes or {})
        self._applied_dtypes = _applied(self._given_dtypes)
        super().__init__(name=name, dtypes=dtypes, path=path, fmt=fmt)
        self.name: str = name
        self.chunk_size = _natural(chunk_size, "chunk_size")
        self.stream_type = stream_type
        self.is_store_instance = store
        self.durability: Durability = one_of(durability, _DURABILITIES, "durability")
        self.max_backlog_bytes = None if max_backlog_bytes is None else _natural(max_backlog_bytes, "max_backlog_bytes")
        self.schema_rule: SchemaRule = one_of(schema, _SCHEMA_RULES, "schema")
        self.table_name = _free_table_name(name if table is None else table)
        self.stream_id = stream_id
        self.lock = threading.Lock()
        self.q: JournalQueue = JournalQueue(self._put, self._frames_waiting, self._join, self._has_room)
        self._making = threading.RLock()
        self._pid: int | None = None
        self._handle: JournalHandle | None = None
        self._stream_no = StreamNo(0)
        self._reader: AttachedStream | None = None
        self._worker: Worker | None = None
        self._task: Task | None = None
        self._thread: threading.Thread | None = None  # The thread of ``stream_start``.
        self._overriding: threading.Thread | None = None
        self._death: BaseException | None = None
        self._handed_on: list[pa.RecordBatch] | None = None
        self._known_schema: pa.Schema | None = None
        self._dtypes_failed = False
        self._learnt: dict[str, Any] = {} if self._given_dtypes else dict(self.dtypes or {})

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
        """Start the worker; do nothing if it is running.

        Raises:
            JournalBusyError: Another process owns the collector's journal.
            ConfigurationError: Another stream to the same target is running.
        """
        self._check_process()
        with self._making:
            if self._runs:
                return
            worker = self._begin()
            self._thread = None
            self._task = Task(worker, self._group(), f"api2db-{self.name}-{self.stream_type}", self._ended)
            process_scheduler().add(self._task)
        drain_at_exit(self)

    def stream_start(self) -> None:
        """Run the worker in this thread, until ``stop`` is called in another.

        Raises:
            StreamDiedError: The worker stopped with an error.
        """
        self._check_process()
        with self._making:
            worker = self._begin()
            self._task, self._thread = None, threading.current_thread()
        drain_at_exit(self)
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 - whatever ended the worker is told by the next put
            self._ended(error)
        else:
            self._ended(None)
        self._check_alive()

    def stop(self, timeout: float | None = None) -> None:
        """Stop the worker after its current batch; rows that are not delivered stay on disk for the next start.

        Args:
            timeout: How long to wait for that, in seconds; None for as long as it takes.
        """
        self._check_process()
        with self._making:
            worker, task, thread = self._worker, self._task, self._thread
        if worker is not None:
            worker.stop()
        if task is not None and task.thread is not threading.current_thread():
            task.join(timeout)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        with self._making:
            if not self._runs and self._worker is worker:
                self._release()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was put so far is in the target, or set aside.

        Args:
            timeout: How long to wait, in seconds; None for as long as it takes.

        Returns:
            Whether everything is in the target or set aside.

        Raises:
            StreamDiedError: The worker has stopped with an error, so waiting is in vain.
            ConfigurationError: Frames wait, no worker is running, and there is no timeout.
        """
        log = self._attached()
        mark = log.mark()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            remaining = _GLANCE_S if deadline is None else min(_GLANCE_S, deadline - time.monotonic())
            if log.wait_for(mark, max(0.0, remaining)):
                return True
            self._check_alive()
            if self._task is not None:
                process_scheduler().call(
                    self._task
                )  # An interrupt may have come between a put and its notification of the worker.
            if deadline is None and not self.lock.locked():
                raise ConfigurationError(f"{self!r} is not running, so nothing is delivered; start it before you flush")
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def check_failures(self) -> None:
        """Try the parked batch again now, instead of after its pause.

        A batch is written to ``STORE/upload_failed/<collector>/<stream_type>/`` when its retries have run out. The file
        is only for inspection: the rows stay in the journal, and the file is deleted when they are in the target.
        """
        self._check_process()
        if self._worker is not None:
            self._worker.retry_now()

    def stream(self, data: pd.DataFrame) -> None:
        """Raise: a Stream has no target of its own.

        Raises:
            AttributeError: Always.
        """
        raise AttributeError(_NO_TARGET)

    def status(self) -> StreamStatus:
        """Return how many rows wait, are delivered, parked or set aside, and the last error."""
        self._check_process()
        running = self._runs
        known = self._handle.journal.overview() if self._handle is not None else self._seen_from_outside()
        found = next((stream for stream in known if stream.identity == self.identity), None)
        return status_of(found, running=running)

    def _seen_from_outside(self) -> Sequence[StreamOverview]:
        known = journal_store(self.home).overview(self.name)
        if known.error is not None:
            raise JournalError(f"{self!r}: {known.error}")
        return known.streams

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._is_of_another_process:
            return  # A forked child that ends within the block gets its own error.
        try:
            if error is None:
                self.flush()
        finally:
            self.stop()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} → {self.describe()}>"

    def _target(self) -> AnyTarget | None:
        """Make a new target; None for a stream without a target of its own."""
        return None

    def _stream(self, data: Any, retry_depth: int | None = None) -> None:
        """Journal a frame, and wait until it is delivered or parked; ``stream`` does this in the classes of api2db."""
        if self._handed_on is not None and threading.current_thread() is self._overriding:
            self._handed_on.append(to_batch(data))
            return
        self.start()
        log, worker = self._attached(), self._worker
        if worker is not None and retry_depth is not None:
            worker.retries = max(0, retry_depth)
        self.q.put(data)
        mark = log.mark()
        while not log.wait_for(mark, _GLANCE_S):
            self._check_alive()
            if log.checkpoint("parked") is not None:
                return

    def _put(self, frame: Any, block: bool, timeout: float | None) -> None:
        self._check_process()
        self._check_alive()
        rows = rows_and_refused(frame)
        handle = self._handle
        if handle is None:
            self._attached()
            handle = self._handle
        if handle is not None:
            handle.journal.append(rows, stream_no=self._stream_no, block=block, timeout_s=timeout)

    def _attached(self) -> AttachedStream:
        self._check_process()
        with self._making:
            if self._reader is not None:
                return self._reader
            self._pid = os.getpid()
            try:
                return self._attach()
            except BaseException:
                self._pid = None
                raise

    def _attach(self) -> AttachedStream:
        if type(self).stream is Stream.stream:
            raise ConfigurationError(_NO_TARGET)
        handle = journal_store(self.home).open(self.name, self.durability)
        try:
            identity = StreamIdentity(self.identity, self.stream_type, self.max_backlog_bytes)
            self._stream_no, log = handle.journal.attach(identity)
        except BaseException:
            handle.release()
            raise
        register_requests(self.home, handle.journal)
        self._handle, self._reader = handle, log
        return log

    @property
    def _is_of_another_process(self) -> bool:
        return self._pid is not None and self._pid != os.getpid()

    def _check_process(self) -> None:
        """Check before taking a lock: a forked child's copy of a lock that another thread held is never released."""
        if self._pid is not None and self._is_of_another_process:
            check_process(self.name, self._pid)

    @property
    def _runs(self) -> bool:
        return self._worker is not None and self.lock.locked()

    def _group(self) -> Group:
        """Return the group of streams with this target; an overriding method has its own, as it may wait for any."""
        return Group(self) if self._is_overridden else self._target_group()

    def _target_group(self) -> Group:
        return Group((type(self), self.home))

    @property
    def _is_overridden(self) -> bool:
        return not getattr(type(self).stream, "__journalled__", False)

    def _begin(self) -> Worker:
        if self.is_store_instance:
            raise AttributeError(f"{self!r} serves a Store, which loads through it: it has no worker")
        if type(self).stream is Stream.stream:
            raise AttributeError(_NO_TARGET)
        target, log = self._target(), self._attached()
        if not self.lock.acquire(blocking=False):
            raise ConfigurationError(f"{self!r} is already running")
        try:
            self._death = None
            call = self._call_override if self._is_overridden else None
            self._worker = build_worker(log, target, call, self._places(), self._learn, dtypes=self._applied_dtypes)
            return self._worker
        except BaseException:
            self.lock.release()
            raise

    def _places(self) -> DeliveryOptions:
        return DeliveryOptions(
            parked=upload_failed_folder(self.home, self.name, self.stream_type),
            rejected=rejected_folder(self.home, self.name, self.stream_type),
            chunk_rows=self.chunk_size,
        )

    def _ended(self, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._death = error
                self._tell_of_death(error)
        finally:
            self.lock.release()

    def _tell_of_death(self, error: BaseException) -> None:
        """Log and record the error; an unexpected one is logged with its traceback."""
        where = "" if isinstance(error, Api2dbError) else f"\n{''.join(traceback.format_exception(error)).rstrip()}"
        said = str(error) or type(error).__name__
        logger.error("%r has stopped; its frames stay in the journal: %s", self, redact(f"{said}{where}"))
        if self._reader is not None:
            self._reader.set_error(f"stopped: {redact(said)}")

    def _release(self) -> None:
        handle, self._handle = self._handle, None
        self._reader = self._worker = self._task = self._thread = self._pid = None
        if handle is not None:
            handle.journal.detach(self._stream_no)
            handle.release()

    def _check_alive(self) -> None:
        if self._death is not None:
            raise StreamDiedError(
                f"{self!r} has stopped ({redact(str(self._death))}); fix that, then start it again"
            ) from self._death

    def _call_override(self, frame: pd.DataFrame) -> list[pa.RecordBatch]:
        self._handed_on, self._overriding = [], threading.current_thread()
        try:
            self.stream(frame)
            return self._handed_on
        finally:
            self._handed_on = self._overriding = None

    def _learn(self, schema: pa.Schema) -> None:
        if schema is self._known_schema:
            return
        learnt = merge_dtypes(self._learnt, dtypes_of(schema))
        if learnt == self._learnt and self._known_schema is not None:
            self._known_schema = schema
            return
        try:
            self._learnt = merge_dtypes_file(self.home, self.name, learnt)
            self._known_schema, self._dtypes_failed = schema, False
        except (OSError, ConfigurationError) as error:  # Tried again with the next batch.
            self._learnt, self._known_schema = learnt, None
            if not self._dtypes_failed:
                logger.warning("the dtypes of %s can't be saved, delivery continues: %s", self.name, error)
            self._dtypes_failed = True
        self.dtypes = {**self._learnt, **self._given_dtypes}

    def _frames_waiting(self) -> int:
        return self.status().frames_waiting

    def _has_room(self) -> bool:
        self._check_process()
        return self._reader is None or not self._reader.is_full

    def _join(self) -> None:
        self.flush()


def _natural(value: object, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigurationError(f"{what} must be a whole number of at least 0, not {value!r}")


def _free_table_name(name: str) -> str:
    """Check that a name is one that databases hold, and not that of api2db's own tables."""
    encodes = name and name.encode(errors="ignore").decode() == name
    if encodes and "\0" not in name and not name.lower().startswith("_api2db_"):
        return name
    raise ConfigurationError(f"a table can't be named {name!r}; give another one with table=")


def _applied(dtypes: Mapping[str, Any]) -> Dtypes:
    types = {name: type_ for name, dtype in dtypes.items() if (type_ := type_of_dtype(dtype)) is not None}
    return Dtypes(types, {name: str(pd.api.types.pandas_dtype(dtypes[name])) for name in types})
