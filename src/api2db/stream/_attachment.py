"""A stream's end of its collector's journal in this process."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from api2db.errors import JournalError
from api2db.frames import frame_and_refused
from api2db.interrupts import uninterrupted
from api2db.journal import (
    AttachedStream,
    Durability,
    JournalHandle,
    NotAttachedError,
    StreamIdentity,
    StreamNo,
    StreamOverview,
    check_process,
    journal_store,
)
from api2db.stream.commands import register_requests


class Attachment:
    """Opens the journal at the first use, and again after ``release``.

    Args:
        home: The project's folder.
        collector: The collector's name.
        durability: When ``put`` returns.
        identity: Returns the stream's identity.

    Attributes:
        lock: Held while the journal is opened or released, and while a worker is started.
        handle: The stream's handle of the open journal; None while it is not open.
        reader: The stream's reader; None while the journal is not open.
    """

    def __init__(
        self, home: Path, collector: str, durability: Durability, identity: Callable[[], StreamIdentity]
    ) -> None:
        self._home = home
        self._collector = collector
        self._durability = durability
        self._identity = identity
        self._pid: int | None = None
        self._stream_no = StreamNo(0)
        self.lock = threading.RLock()
        self.handle: JournalHandle | None = None
        self.reader: AttachedStream | None = None

    def attach(self) -> AttachedStream:
        """Open the journal if it is not open, and return the stream's reader.

        Raises:
            JournalBusyError: Another process owns the journal.
            ConfigurationError: Another stream to the same target is attached.
        """
        self.check_process()
        with self.lock:
            if self.reader is not None:
                return self.reader
            return self._attach()

    def put(self, frame: Any, *, block: bool, timeout_s: float | None) -> None:
        """Append a frame to the journal."""
        rows = frame_and_refused(frame, self._collector)
        handle = self.handle or self._attached_handle()
        try:
            handle.journal.append(rows, stream_no=self._stream_no, block=block, timeout_s=timeout_s)
        except NotAttachedError:  # Another thread has stopped the stream meanwhile, or the stream was forgotten.
            handle = self._attached_handle(instead_of=handle)
            handle.journal.append(rows, stream_no=self._stream_no, block=block, timeout_s=timeout_s)

    def _attached_handle(self, instead_of: JournalHandle | None = None) -> JournalHandle:
        """Attach, and take the handle before another thread can release it."""
        self.check_process()
        with self.lock:
            if self.handle is not None and self.handle is instead_of:
                self.release()
            self.attach()
            handle = self.handle
            if handle is None:
                raise AssertionError("an attached stream has a handle of its journal")
            return handle

    @property
    def has_room(self) -> bool:
        """Whether a ``put`` would not have to wait for the stream's quota."""
        self.check_process()
        reader = self.reader
        return reader is None or not reader.is_full

    def overview(self) -> StreamOverview | None:
        """Return what the journal knows of the stream; None if the stream was never attached.

        Raises:
            JournalError: The journal can't be read.
        """
        self.check_process()
        known = self._seen_from_inside() or self._seen_from_outside()
        identity = self._identity().name
        return next((stream for stream in known if stream.identity == identity), None)

    @uninterrupted
    def release(self) -> None:
        """Close the journal, unless another stream of this process uses it; the caller holds the lock."""
        handle, self.handle = self.handle, None
        self.reader = None
        try:
            if handle is not None:
                try:
                    handle.journal.detach(self._stream_no)
                finally:
                    handle.release()
        finally:
            self._pid = None  # Last: a child that is forked meanwhile has a copy of the held lock, and must not wait.

    @property
    def is_of_another_process(self) -> bool:
        """Whether this process is a forked child of the one that opened the journal."""
        pid = self._pid
        return pid is not None and pid != os.getpid()

    def check_process(self) -> None:
        """Raise in a forked child. Call it before any lock: the child's copy of a held lock is never released.

        Raises:
            JournalBusyError: The journal belongs to the parent process.
        """
        pid = self._pid
        if pid is not None:
            check_process(self._collector, pid)

    def _seen_from_inside(self) -> Sequence[StreamOverview]:
        """Look at the open journal; return nothing if it is not open, or released meanwhile."""
        handle = self.handle
        try:
            return () if handle is None else handle.journal.overview()
        except JournalError:
            if self.handle is handle:
                raise
            return ()

    def _seen_from_outside(self) -> Sequence[StreamOverview]:
        known = journal_store(self._home).overview(self._collector)
        if known.error is not None:
            raise JournalError(f"{self._identity().name} of {self._collector}: {known.error}")
        return known.streams

    @uninterrupted
    def _attach(self) -> AttachedStream:
        handle = journal_store(self._home).open(self._collector, self._durability)
        try:
            self._stream_no, reader = handle.journal.attach(self._identity())
        except BaseException:
            handle.release()
            raise
        register_requests(self._home, handle.journal)
        self._pid, self.handle, self.reader = os.getpid(), handle, reader
        return reader
