"""One stream's end of the journal: read, acknowledge, and the stream's checkpoints."""

import logging
import operator
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from api2db.errors import JournalWriteError
from api2db.interrupts import uninterrupted, wait_for
from api2db.journal._appender import Appender
from api2db.journal._aside import DiskFolder
from api2db.journal._batch_reader import BatchReader, newest_frame
from api2db.journal._core import Core
from api2db.journal._in_flight import InFlight
from api2db.journal._overview import details as published_details
from api2db.journal._registered import RegisteredStream, parked_bytes
from api2db.journal._retention import Retention
from api2db.journal._segment import Location
from api2db.journal._shown_error import ShownError
from api2db.journal.port import (
    Backlog,
    Checkpoint,
    CheckpointKind,
    Delivered,
    Entry,
    Position,
    ReadLimit,
    Superseded,
    Tell,
)

logger = logging.getLogger(__name__)
_PAUSE_S = 1.0
_values = operator.attrgetter(*(field.name for field in fields(Delivered)))


@dataclass(slots=True)
class SegmentedReader:
    """See ``AttachedStream`` in ``port``; every method may be called from any thread of the owning process."""

    core: Core
    appender: Appender
    retention: Retention
    stream: RegisteredStream
    _woken: bool = False
    _error: ShownError = field(init=False)

    def __post_init__(self) -> None:
        self._error = ShownError(self.core, self.stream)

    @property
    def key(self) -> str:
        return self.stream.row.key

    @property
    def epoch(self) -> str:
        return self.core.epoch

    @property
    def journal_id(self) -> str:
        return self.core.journal_id

    @property
    def position(self) -> Position:
        return self.stream.position

    @property
    def delivered(self) -> Delivered:
        return self.stream.delivered

    def knows_epoch(self, epoch: str) -> bool:
        return epoch in self.core.epochs

    @property
    @uninterrupted
    def waiting_bytes(self) -> int:
        with self.core.changed:
            return self.stream.waiting.size_bytes

    @property
    @uninterrupted
    def waiting_rows(self) -> int:
        with self.core.changed:
            return self.stream.waiting.rows

    @property
    @uninterrupted
    def is_full(self) -> bool:
        with self.core.changed:
            return self.stream.is_full

    @uninterrupted
    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        self.core.lock.check()
        if after is not None:
            return self._read_after(after, limit)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self._wait_for_rows(deadline):
            entries = self._read(limit)
            if entries or self._was_woken() or (deadline is not None and time.monotonic() >= deadline):
                return entries
        self._was_woken()
        return []

    @uninterrupted
    def newest(self) -> tuple[list[Entry], Superseded]:
        self.core.lock.check()
        if not self._wait_for_rows(time.monotonic()):
            return [], Superseded()
        at, stop = self._durable_part()
        found = newest_frame(self.core.segment_set, self.stream.wants, at, stop)
        if found is None:
            self._pass_damaged(InFlight(), stop)
            return [], Superseded()
        before, records, entries = found
        with self.core.changed:
            self.stream.hand_over(records)
        return entries, Superseded(before.frames, before.rows)

    @uninterrupted
    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        self.core.lock.check()
        _record(self.core, self.stream.stream_no, position, delivered, clear)
        with self.core.changed:
            if position != self.stream.position:
                self._error.end()  # With the move: a caller of flush must not find an error that is over.
            self.stream.move(position)
            self.stream.delivered = _sum(self.stream.delivered, delivered)
            if "parked" in clear:
                self.stream.parked_bytes = 0
            finished = self.retention.take_finished()
            self._tell_change()
        self.retention.discard(finished)

    @uninterrupted
    def seek(self, position: Position) -> Backlog:
        self.core.lock.check()
        if position == self.stream.position:
            return Backlog(0, 0, 0, None)
        _record(self.core, self.stream.stream_no, position, Delivered())
        with self.core.changed:
            before, skipped = replace(self.stream.waiting), position.skip - self.stream.position.skip
            self.stream.position = position
            self.stream.place()
            self._tell_change()
            left = self.stream.waiting
            before.add(-left.frames, skipped - left.rows, -left.size_bytes)
            return Backlog(max(0, before.frames), max(0, before.rows), max(0, before.size_bytes), None)

    @uninterrupted
    def backlog(self) -> Backlog:
        """Return what waits."""
        self.core.lock.check_process()
        return self.core.backlog(self.stream)

    @uninterrupted
    def mark(self) -> int:
        self.core.lock.check_process()
        with self.core.changed:
            return self.stream.newest_sequence

    @uninterrupted
    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        self.core.lock.check_process()
        with self.core.changed:
            wait_for(self.core.changed, lambda: self.stream.has_passed(mark) or not self.core.lock.is_held, timeout_s)
            return self.stream.has_passed(mark)

    @uninterrupted
    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        self.core.lock.check_process()
        return self.core.state.checkpoint(self.stream.stream_no, kind)

    @uninterrupted
    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        self.core.lock.check()
        self.core.state.save_checkpoint(self.stream.stream_no, kind, checkpoint)
        self.core.on_change()
        if kind == "parked":
            with self.core.changed:
                self.stream.parked_bytes = parked_bytes(checkpoint)

    @uninterrupted
    def set_error(self, trouble: str | None) -> None:
        self.core.lock.check_process()
        self._error.set(trouble)

    @uninterrupted
    def add_warning(self, warning: str) -> None:
        self.core.lock.check_process()
        self._error.warn(warning)

    @uninterrupted
    def wake(self) -> None:
        self.core.lock.check_process()
        with self.core.changed:
            self._woken = True
            self.core.changed.notify_all()
            self.stream.tell()

    @uninterrupted
    def on_news(self, tell: Tell) -> None:
        self.core.lock.check_process()
        with self.core.changed:
            self.stream.tell_news = tell

    def on_details(self, details: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        self.core.lock.check_process()
        before = published_details(self.core.folder).get(self.stream.row.identity, {})
        self.stream.details = details
        return before

    def files(self, folder: Path) -> DiskFolder:
        return DiskFolder(folder, self.key)

    def _tell_change(self) -> None:
        self.core.on_change()
        self.core.changed.notify_all()

    def _wait_for_rows(self, deadline: float | None) -> bool:
        with self.core.changed:
            wait_for(self.core.changed, self._has_news, None if deadline is None else deadline - time.monotonic())
            self.core.lock.check()
            return self.stream.waiting.size_bytes > 0

    def _was_woken(self) -> bool:
        with self.core.changed:
            woken, self._woken = self._woken, False
            return woken

    def _has_news(self) -> bool:
        return self.stream.waiting.size_bytes > 0 or self._woken or not self.core.lock.is_held

    def _durable_part(self) -> tuple[Location, Location]:
        """Return where to read. If the disk fails, retry at most once a second; those who put get the error."""
        with self.core.changed:
            try:
                self._sync()
            except JournalWriteError as error:
                logger.warning("only what is on disk is delivered for now: %s", error)
                durable = self.core.durable
                wait_for(self.core.changed, lambda: self._may_go_on(durable), _PAUSE_S)
            return self.stream.at, self.core.durable

    def _sync(self) -> None:
        """Make what is visible durable; called with the lock held."""
        if self.core.durability == "process":
            self.appender.sync()

    def _may_go_on(self, durable: Location) -> bool:
        """Whether more has become durable, or the wait must end. Another stream's attempt notifies too."""
        return self.core.durable != durable or self._woken or not self.core.lock.is_held

    def _read(self, limit: ReadLimit) -> list[Entry]:
        at, stop = self._durable_part()
        batch_reader = BatchReader(self.core.segment_set, self.stream.position, limit)
        end = batch_reader.read(at, stop, self.stream.wants)
        if not batch_reader.entries:
            self._pass_damaged(batch_reader.in_flight, stop)
            return []
        with self.core.changed:
            self.stream.hand_over(batch_reader.in_flight, end)
        return batch_reader.entries

    def _read_after(self, after: Position, limit: ReadLimit) -> list[Entry]:
        """Read on where an earlier read has ended. Meanwhile what it gave may be acknowledged, or read again."""
        with self.core.changed:
            self._sync()
            before, stop = self.stream.read_end, self.core.durable
            is_next = before is not None and before.position == after
            at = before.location if before is not None and is_next else self.stream.at
        batch_reader = BatchReader(self.core.segment_set, after, limit)
        end = batch_reader.read(at, stop, self.stream.wants)
        with self.core.changed:
            if is_next and self.stream.read_end is before:
                self.stream.hand_over_more(batch_reader.in_flight, end)
        return batch_reader.entries

    def _pass_damaged(self, records: InFlight, stop: Location) -> None:
        with self.core.changed:
            self.stream.pass_damaged(records, stop)
            self._tell_change()


def _record(
    core: Core, stream_no: int, position: Position, delivered: Delivered, clear: Collection[CheckpointKind] = ()
) -> None:
    move = partial(core.state.move, stream_no, position, delivered, clear, durable=bool(clear))
    try:
        with suppress(JournalWriteError):
            move()
            return
        move()  # On a full disk the first attempt has made room.
    except JournalWriteError as error:
        if clear:
            raise
        logger.warning("a position is kept in memory only, the target's ledger has it: %s", error)


def _sum(one: Delivered, other: Delivered) -> Delivered:
    return Delivered(*map(operator.add, _values(one), _values(other)))
