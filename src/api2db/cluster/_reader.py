"""One stream's end of a journal in a cluster: read, acknowledge, and the stream's checkpoints."""

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from api2db.cluster._aside import AsideFiles, ClusterFolder
from api2db.cluster._core import Core
from api2db.cluster._documents import Document
from api2db.cluster._entries import EntryReader, Oldest, Passed
from api2db.cluster._message import Record, minus
from api2db.cluster._places import Places
from api2db.cluster._quota import Quota
from api2db.cluster._saved_state import SavedState
from api2db.cluster._state import Place, StreamState
from api2db.interrupts import uninterrupted, wait_for
from api2db.journal import (
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
from api2db.texts import redact

logger = logging.getLogger(__name__)


class ClusterReader:
    """See ``AttachedStream``; every method may be called from any thread of the owning process."""

    def __init__(self, core: Core, files: AsideFiles, state: StreamState, document: Document) -> None:
        self.newest_sequence = core.log.end.sequence
        self._tell: Tell = _nobody
        self.details: Callable[[], Mapping[str, Any]] = dict
        self._core = core
        self._files = files
        self._changed = core.changed
        self._saved = SavedState(state, document, core.changed, core.lose)
        self.quota = Quota(core.log, self._saved)
        self._entries = EntryReader(core.log, state.stream_no)
        self._places = Places(core.log, self._entries)
        self._in_flight: deque[Passed] = deque()
        self._woken = False
        self._warning: str | None = None
        self._oldest = Oldest(self._entries)

    @property
    def state(self) -> StreamState:
        """The stream's state."""
        return self._saved.now

    @property
    def saved_place(self) -> Place:
        """Where the next owner would read on."""
        return self._saved.place

    @property
    def journal_id(self) -> str:
        return self._core.journal_id

    @property
    def key(self) -> str:
        return self.state.key

    @property
    def epoch(self) -> str:
        return self._core.epoch

    def knows_epoch(self, epoch: str) -> bool:
        return epoch in self._core.kept["epochs"]

    @property
    def position(self) -> Position:
        return self.state.position

    @property
    def delivered(self) -> Delivered:
        return self.state.delivered

    @property
    def waiting_bytes(self) -> int:
        return max(0, self.quota.waiting[2])

    @property
    def waiting_rows(self) -> int:
        return max(0, self.quota.waiting[1])

    def files(self, folder: Path) -> ClusterFolder:
        try:
            name = str(folder.relative_to(self._core.home))
        except ValueError:
            name = str(folder)
        return ClusterFolder(self._files, self.key, name)

    @uninterrupted
    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        if after is not None:
            return self._read_after(after, limit)
        with self._core.checked():
            wait_for(self._changed, self._has_news, timeout_s)
            self._core.check()
            woken, self._woken = self._woken, False
            if not self.waiting_bytes:
                return []
            self._woken = woken and not self.waiting_bytes
            start, place = self.state.position, self.state.place
        found = self._entries.read(place, start, limit)
        with self._changed:
            self._in_flight = deque(found.passed)
        return found.entries

    def _read_after(self, after: Position, limit: ReadLimit) -> list[Entry]:
        """Read on where an earlier read has ended."""
        with self._core.checked():
            known = next((each for each in reversed(self._in_flight) if each.sequence <= after.sequence), None)
            place = self.state.place if known is None else known.place
        found = self._entries.read(place, after, limit)
        with self._changed:
            last = self._in_flight[-1].sequence if self._in_flight else after.sequence
            self._in_flight.extend(each for each in found.passed if each.sequence > last)
        return found.entries

    @uninterrupted
    def newest(self) -> tuple[list[Entry], Superseded]:
        with self._core.checked():
            if not self.waiting_bytes:
                return [], Superseded()
            end, position, place = self._core.log.end, self.position, self.state.place
            waiting = self.quota.waiting_before(end)
        entries, in_flight, before = self._entries.newest(end.rows, place, position, waiting)
        with self._changed:
            self._in_flight = in_flight
        return entries, Superseded(before[0], before[1] - (position.skip if before[0] else 0))

    @uninterrupted
    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        with self._core.checked():
            has_moved = position != self.state.position
            moved = self._places.moved(self.state, position, self._in_flight)

        def acknowledged(state: StreamState) -> StreamState:
            left = {kind: said for kind, said in state.checkpoints.items() if kind not in clear}
            passed = replace(state, position=position, place=moved.place, passed=moved.passed, checkpoints=left)
            return passed.adding(delivered)

        if clear:
            self._saved.save(acknowledged)
        with self._changed:
            if not clear:
                self._saved.take_over(acknowledged(self.state))
            if has_moved:
                self._show(self._warning)
            while self._in_flight and self._in_flight[0].sequence <= position.sequence:
                self._in_flight.popleft()
            self._changed.notify_all()

    @uninterrupted
    def seek(self, position: Position) -> Backlog:
        with self._core.checked():
            if position == self.state.position:
                return Backlog(0, 0, 0, None)
            before, skip = self.quota.waiting, self.state.position.skip
        if position.sequence > self._core.log.end.sequence:
            self.add_warning(_lost_messages(position, self._core.log.end.sequence))
            logger.error("%s", self._warning)
        moved = self._places.found(self.state, position)
        with self._changed:
            self._in_flight.clear()
            self._saved.change(position=position, place=moved.place, passed=moved.passed)
            after = self.quota.waiting
            self._changed.notify_all()
        frames, rows, size_bytes = minus(before, after)
        return Backlog(max(0, frames), max(0, rows + position.skip - skip), max(0, size_bytes), None)

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        self._core.check_process()
        found = self.state.checkpoints.get(kind)
        return None if found is None else dict(found)

    @uninterrupted
    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        self._core.check()
        self._saved.save(lambda state: replace(state, checkpoints={**state.checkpoints, kind: dict(checkpoint)}))

    @uninterrupted
    def set_error(self, trouble: str | None) -> None:
        self._core.check_process()
        with self._changed:
            self._show(redact(trouble) if trouble else self._warning)

    def add_warning(self, warning: str) -> None:
        self._warning = redact(warning)
        self.set_error(None)

    def on_news(self, tell: Tell) -> None:
        self._core.check_process()
        with self._changed:
            self._tell = tell

    def on_details(self, details: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        self._core.check_process()
        before: Mapping[str, Any] = self._core.told_details.get(self.state.identity.name, {})
        self.details = details
        return before

    @uninterrupted
    def wake(self) -> None:
        self._core.check_process()
        with self._changed:
            self._woken = True
            self._changed.notify_all()
            self.tell()

    @property
    def is_full(self) -> bool:
        with self._changed:
            return self.quota.is_spent

    def mark(self) -> int:
        self._core.check_process()
        with self._changed:
            return self.newest_sequence

    @uninterrupted
    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        self._core.check_process()
        with self._changed:
            wait_for(self._changed, lambda: self._has_passed(mark) or self._core.is_closed, timeout_s)
            return self._has_passed(mark)

    def tell(self) -> None:
        """Say that a waiting read would end; called with the journal's lock held."""
        _, rows, size_bytes = self.quota.waiting
        self._tell(max(0, rows), max(0, size_bytes))

    def accept(self, records: Iterable[Record]) -> None:
        """Take note of records that have become visible; called with the journal's lock held."""
        own = [record.sequence for record in records if record.stream_no in {0, self.state.stream_no}]
        if own:
            self.newest_sequence = own[-1]
            self.quota.accept()
            self.tell()

    def change(self, **changes: Any) -> None:
        """Change the state, and save it soon; called with the journal's lock held."""
        self._saved.change(**changes)

    def count_down(self, number: int, rows: int, size_bytes: int) -> None:
        """No longer count the rows of a file as rejected, as ``StreamState.counted_down`` says."""
        with self._changed:
            self._saved.take_over(self.state.counted_down(number, rows, size_bytes))

    def save_if_changed(self) -> None:
        """Save the state if that was not done since it changed.

        Raises:
            JournalBusyError: Another process has taken the journal.
        """
        with self._changed:
            state = self._places.at_end(self.state)
            if state is not self.state:
                self._saved.take_over(state)
        self._saved.save_if_changed()

    def oldest_ns(self) -> int | None:
        """The time of the first waiting record; None if nothing waits, or the cluster does not say."""
        return self._oldest.time_ns(self.state.place, self.state.position) if self.waiting_bytes else None

    def _show(self, error: str | None) -> None:
        if error != self.state.error:
            self._saved.change(error=error, error_at=time.time() if error else None)

    def _has_news(self) -> bool:
        return self._woken or self.waiting_bytes > 0 or self._core.is_closed

    def _has_passed(self, mark: int) -> bool:
        return self.state.position.sequence >= mark or self.waiting_bytes <= 0


def _lost_messages(position: Position, end: int) -> str:
    return (
        f"the target's ledger is at {tuple(position)}, but the cluster's log ends at {end}: the cluster has lost "
        "messages that it had acknowledged. What the target has is not affected; rows that were lost before they were "
        "delivered must be polled again"
    )


def _nobody(rows: int, size_bytes: int) -> None:
    """Nobody waits for news."""
