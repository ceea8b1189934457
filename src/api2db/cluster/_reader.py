"""One stream's end of a journal in a cluster: read, acknowledge, and the stream's checkpoints."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from api2db.cluster._documents import Document
from api2db.cluster._message import Counts, LogMessage, Record, batches_in, minus, plus
from api2db.cluster._state import Place, StreamState
from api2db.errors import ClusterUnavailableError, JournalBusyError
from api2db.interrupts import uninterrupted, wait_for
from api2db.journal import (
    Backlog,
    Checkpoint,
    CheckpointKind,
    Delivered,
    Entry,
    Flag,
    Position,
    ReadLimit,
    Superseded,
)
from api2db.texts import redact

if TYPE_CHECKING:
    from api2db.cluster._journal import ClusterJournal

logger = logging.getLogger(__name__)
_SCAN_BYTES: Final = 4 << 20
_WITHOUT_LIMIT: Final = ReadLimit(1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class _Passed:
    """A record that was handed to the worker, and where reading goes on once it is acknowledged."""

    sequence: int
    place: Place
    counts: Counts


class ClusterReader:
    """See ``AttachedStream``; every method may be called from any thread of the owning process."""

    def __init__(self, journal: "ClusterJournal", state: StreamState, document: Document) -> None:
        self.state = state
        self.newest_sequence = journal.log.end.sequence
        self.refused_bytes = 0
        self.tell: Callable[[], None] = _nobody
        self.details: Callable[[], Mapping[str, Any]] = dict
        self.saved_place = state.place
        self._journal = journal
        self._document = document
        self._changed = journal.changed
        self._saving = threading.Lock()
        self._is_saved = True
        self._in_flight: deque[_Passed] = deque()
        self._woken = False
        self._warning: str | None = None
        self._oldest: tuple[Position, int] | None = None

    @property
    def journal_id(self) -> str:
        return self._journal.journal_id

    @property
    def key(self) -> str:
        return self.state.key

    @property
    def epoch(self) -> str:
        return self._journal.epoch

    def knows_epoch(self, epoch: str) -> bool:
        return self._journal.knows_epoch(epoch)

    @property
    def position(self) -> Position:
        return self.state.position

    @property
    def delivered(self) -> Delivered:
        return self.state.delivered

    @property
    def waiting(self) -> Counts:
        """What is visible and not acknowledged: frames, rows, bytes."""
        total, passed = self._journal.log.end.total(self.state.stream_no), self.state.passed
        return minus(total, passed)

    @property
    def waiting_bytes(self) -> int:
        return max(0, self.waiting[2])

    @uninterrupted
    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        if after is None:
            with self._journal.checked():
                wait_for(self._changed, self._has_news, timeout_s)
                self._journal.check()
                woken, self._woken = self._woken, False
                if not self.waiting_bytes:
                    return []
                self._woken = woken and not self.waiting_bytes
                start, place = self.state.position, self.state.place
            entries, in_flight = self._collect(place, start, limit)
            with self._changed:
                self._in_flight = deque(in_flight)
            return entries
        with self._journal.checked():
            known = next((each for each in reversed(self._in_flight) if each.sequence <= after.sequence), None)
            place = self.state.place if known is None else known.place
        entries, in_flight = self._collect(place, after, limit)
        with self._changed:
            last = self._in_flight[-1].sequence if self._in_flight else after.sequence
            self._in_flight.extend(each for each in in_flight if each.sequence > last)
        return entries

    @uninterrupted
    def newest(self) -> tuple[list[Entry], Superseded]:
        with self._journal.checked():
            if not self.waiting_bytes:
                return [], Superseded()
            waiting, position, number, place = self.waiting, self.position, self._journal.log.end.rows, self.state.place
        messages, found = self._newest_messages(number, place, position)
        entries, in_flight = self._entries(messages, position, _WITHOUT_LIMIT)
        of_frame = [at for at, entry in enumerate(entries) if entry.timestamp_ns == found]
        first, last = of_frame[0], of_frame[-1]
        before = waiting
        for each in in_flight[first:]:
            before = minus(before, each.counts)
        passed = _Passed(in_flight[first].sequence - 1, Place(messages[0].number, messages[0].before), before)
        with self._changed:
            self._in_flight = deque([passed, *in_flight[first : last + 1]])
        skipped = position.skip if before[0] else 0
        return entries[first : last + 1], Superseded(before[0], before[1] - skipped)

    @uninterrupted
    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        with self._journal.checked():
            moved = self._moved(position)

        def acknowledged(state: StreamState) -> StreamState:
            left = {kind: said for kind, said in state.checkpoints.items() if kind not in clear}
            passed = replace(state, position=position, place=moved.place, passed=moved.passed, checkpoints=left)
            return passed.adding(delivered)

        if clear:
            self._save(acknowledged(self.state))
        with self._changed:
            if position != self.state.position:
                self._show(self._warning)
            while self._in_flight and self._in_flight[0].sequence <= position.sequence:
                self._in_flight.popleft()
            self._take_over(acknowledged(self.state))
            self._changed.notify_all()

    @uninterrupted
    def seek(self, position: Position) -> Backlog:
        with self._journal.checked():
            if position == self.state.position:
                return Backlog(0, 0, 0, None)
            before, skip = self.waiting, self.state.position.skip
        moved = self._scanned(position)
        with self._changed:
            self._in_flight.clear()
            self._take_over(replace(self.state, position=position, place=moved.place, passed=moved.passed))
            after = self.waiting
            self._changed.notify_all()
        frames, rows, size_bytes = minus(before, after)
        return Backlog(max(0, frames), max(0, rows + position.skip - skip), max(0, size_bytes), None)

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        self._journal.check_process()
        found = self.state.checkpoints.get(kind)
        return None if found is None else dict(found)

    @uninterrupted
    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        self._journal.check()
        with self._changed:
            state = replace(self.state, checkpoints={**self.state.checkpoints, kind: dict(checkpoint)})
        self._save(state)
        with self._changed:
            self._take_over(replace(self.state, checkpoints=state.checkpoints))

    @uninterrupted
    def set_error(self, trouble: str | None) -> None:
        self._journal.check_process()
        with self._changed:
            self._show(redact(trouble) if trouble else self._warning)

    def add_warning(self, warning: str) -> None:
        self._warning = redact(warning)
        self.set_error(None)

    def on_news(self, tell: Callable[[], None]) -> None:
        self._journal.check_process()
        with self._changed:
            self.tell = tell

    def on_details(self, details: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        self._journal.check_process()
        before: Mapping[str, Any] = self._journal.told_details.get(self.state.identity.name, {})
        self.details = details
        return before

    @uninterrupted
    def wake(self) -> None:
        self._journal.check_process()
        with self._changed:
            self._woken = True
            self._changed.notify_all()
            self.tell()

    @property
    def is_full(self) -> bool:
        with self._changed:
            return not self.has_room(max(1, self.refused_bytes))

    def mark(self) -> int:
        self._journal.check_process()
        with self._changed:
            return self.newest_sequence

    @uninterrupted
    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        self._journal.check_process()
        with self._changed:
            wait_for(self._changed, lambda: self._has_passed(mark) or self._journal.is_closed, timeout_s)
            return self._has_passed(mark)

    def has_room(self, size_bytes: int) -> bool:
        """Whether the quota allows more; if nothing waits, a single group is always allowed."""
        quota, waiting = self.state.identity.quota_bytes, self.waiting_bytes
        return quota is None or not waiting or self.state.stored_bytes(waiting) + size_bytes <= quota

    def refuse(self, size_bytes: int) -> str:
        """Remember a group that was refused, and say why."""
        self.refused_bytes = size_bytes
        identity = self.state.identity
        return (
            f"{identity.name} has {self.state.stored_bytes(self.waiting_bytes)} bytes in the cluster (waiting, parked, "
            f"set aside); {size_bytes} more would exceed its max_backlog_bytes of {identity.quota_bytes}; fix its "
            "target, raise the quota, or drop the stream with: api2db forget"
        )

    def accept(self, records: Iterable[Record]) -> None:
        """Take note of records that have become visible; called with the journal's lock held."""
        own = [record.sequence for record in records if record.stream_no in {0, self.state.stream_no}]
        if own:
            self.newest_sequence = own[-1]
            self.refused_bytes = 0
            self.tell()

    def change(self, **changes: Any) -> None:
        """Change the state, and save it soon; called with the journal's lock held."""
        self._take_over(replace(self.state, **changes))

    def save_if_changed(self) -> bool:
        """Save the state if that was not done since it changed; return whether anything was saved."""
        with self._saving:
            with self._changed:
                self._pass_others()
                if self._is_saved:
                    return False
                state, self._is_saved = self.state, True
            try:
                self._document.save(state.as_json())
            except BaseException:
                self._is_saved = False
                raise
            self.saved_place = state.place
            return True

    def oldest_ns(self) -> int | None:
        """The time of the first waiting record, looked up once for each position."""
        position, place = self.state.position, self.state.place
        if self.waiting_bytes <= 0:
            return None
        if self._oldest is None or self._oldest[0] != position:
            try:
                entries, _ = self._collect(place, position, ReadLimit(1, 1))
            except ClusterUnavailableError:
                return None
            if not entries:
                return None
            self._oldest = position, entries[0].timestamp_ns
        return self._oldest[1]

    def _save(self, state: StreamState) -> None:
        """Save a state before it counts."""
        with self._saving:
            try:
                self._document.save(state.as_json())
            except JournalBusyError as error:
                self._journal.lose(str(error))
                raise
            self.saved_place = state.place

    def _pass_others(self) -> None:
        """Where nothing waits, read on at the log's end: what stands before it is of other streams."""
        end = self._journal.log.end
        if self.waiting_bytes <= 0 and self.state.place.number <= end.rows:
            self._take_over(replace(self.state, place=Place(end.rows + 1, end.rows)))

    def _take_over(self, state: StreamState) -> None:
        self.state, self._is_saved = state, False

    def _show(self, error: str | None) -> None:
        if error != self.state.error:
            self._take_over(replace(self.state, error=error, error_at=time.time() if error else None))

    def _has_news(self) -> bool:
        return self._woken or self.waiting_bytes > 0 or self._journal.is_closed

    def _has_passed(self, mark: int) -> bool:
        return self.state.position.sequence >= mark or self.waiting_bytes <= 0

    def _owns(self, record: Record, after: Position) -> bool:
        return record.stream_no in {0, self.state.stream_no} and record.sequence > after.sequence

    def _moved(self, position: Position) -> StreamState:
        """The state at a position, by preference along what was read."""
        state = self.state
        if position == state.position:
            return state
        reach = self._in_flight[-1].sequence if self._in_flight else state.position.sequence
        if not state.position.sequence <= position.sequence <= reach:
            return self._scanned(position)
        place, passed = state.place, state.passed
        for each in self._in_flight:
            if each.sequence > position.sequence:
                break
            place, passed = each.place, plus(passed, each.counts)
        end = self._journal.log.end
        if minus(end.total(state.stream_no), passed)[2] <= 0:
            place = Place(end.rows + 1, end.rows)
        return replace(state, position=position, place=place, passed=passed)

    def _scanned(self, position: Position) -> StreamState:
        """The state at a position that was not read up to."""
        state, end = self.state, self._journal.log.end
        if position.sequence > end.sequence:
            self.add_warning(
                f"the target's ledger is at {tuple(position)}, but the cluster's log ends at {end.sequence}: the "
                "cluster has lost messages that it had acknowledged. What the target has is not affected; rows that "
                "were lost before they were delivered must be polled again"
            )
            logger.error("%s", self._warning)
            place = Place(end.rows + 1, end.rows)
            return replace(state, position=position, place=place, passed=end.total(state.stream_no))
        if position < state.position:
            return replace(state, position=position, place=Place(1, -1), passed=self._passed_until(position))
        place, passed = state.place, state.passed
        while True:
            messages = self._journal.log.read(*place, _SCAN_BYTES)
            if not messages:
                return replace(state, position=position, place=place, passed=passed)
            for message in messages:
                own = [record for record in message.records if self._owns(record, state.position)]
                for record in own:
                    if record.sequence > position.sequence:
                        return replace(state, position=position, place=place, passed=passed)
                    passed = plus(passed, record.counts)
                place = Place(message.number + 1, message.number)

    def _passed_until(self, position: Position) -> Counts:
        """What the stream has passed at an earlier position."""
        passed, place = self._journal.log.end.total(self.state.stream_no), Place(1, -1)
        while messages := self._journal.log.read(*place, _SCAN_BYTES):
            for message in messages:
                for record in message.records:
                    if self._owns(record, position):
                        passed = minus(passed, record.counts)
            place = Place(messages[-1].number + 1, messages[-1].number)
        return passed

    def _collect(self, place: Place, after: Position, limit: ReadLimit) -> tuple[list[Entry], list[_Passed]]:
        """Read behind a position, from a place before it."""
        entries: list[Entry] = []
        in_flight: list[_Passed] = []
        rows = size_bytes = 0
        while not entries or not _is_full(entries, rows, size_bytes, limit):
            messages = self._whole(self._journal.log.read(*place, max(1, limit.size_bytes - size_bytes)))
            if not messages:
                break
            left = limit._replace(rows=max(1, limit.rows - rows), size_bytes=max(1, limit.size_bytes - size_bytes))
            some, passed = self._entries(messages, after, left)
            entries += some
            in_flight += passed
            rows += sum(entry.batch.num_rows for entry in some)
            size_bytes += sum(entry.batch.nbytes for entry in some)
            after = entries[-1].position if entries else after
            if passed and passed[-1].sequence > after.sequence:
                break  # the last record was taken in part
            place = Place(messages[-1].number + 1, messages[-1].number)
        return entries, in_flight

    def _whole(self, messages: list[LogMessage]) -> list[LogMessage]:
        """The messages, with all parts of the last record."""
        while messages and (part := messages[-1].part) is not None and part[0] + 1 < part[1]:
            last = messages[-1]
            messages = [*messages, *self._journal.log.read(last.number + 1, last.number, 1)]
        return messages

    def _entries(
        self, messages: list[LogMessage], after: Position, limit: ReadLimit
    ) -> tuple[list[Entry], list[_Passed]]:
        entries: list[Entry] = []
        in_flight: list[_Passed] = []
        rows = size_bytes = at = 0
        while at < len(messages):
            message, parts = messages[at], 1 if messages[at].part is None else (messages[at].part or (0, 1))[1]
            last = messages[min(at + parts, len(messages)) - 1]
            rest = messages[at + 1 : at + parts]
            at += parts
            if message.part is not None and message.part[0]:
                at = at - parts + 1  # a later part of a record that was passed
                continue
            for record, batch in batches_in(message, rest, lambda record: self._owns(record, after)):
                if batch is None:
                    continue
                if entries and _is_full(entries, rows, size_bytes, limit):
                    return entries, in_flight
                skip = after.skip if record.sequence == after.sequence + 1 else 0
                room = batch.num_rows if limit.whole_frames else max(1, limit.rows - rows)
                taken = batch.slice(skip, room) if skip or batch.num_rows > room else batch
                reached = skip + taken.num_rows
                is_whole = reached >= batch.num_rows
                place = Place(message.number, message.before)
                if record is message.records[-1]:
                    place = Place(last.number + 1, last.number)
                in_flight.append(_Passed(record.sequence, place, record.counts))
                entries.append(
                    Entry(
                        Position(record.sequence) if is_whole else Position(record.sequence - 1, reached),
                        record.timestamp_ns,
                        taken,
                        is_whole and bool(record.flags & Flag.FRAME_END),
                        bool(record.flags & Flag.RETRIED),
                        bool(record.flags & Flag.REFUSED),
                        bytes.fromhex(record.trace) or None,
                    )
                )
                rows += taken.num_rows
                size_bytes += taken.nbytes
        return entries, in_flight

    def _newest_messages(self, number: int, place: Place, position: Position) -> tuple[list[LogMessage], int]:
        """The messages from the one on that has the first record of the newest frame, and that frame's time."""
        messages: list[LogMessage] = []
        newest: int | None = None
        empty: int | None = None
        while number >= place.number:
            message = self._journal.log.message(number)
            messages.insert(0, message)
            number = message.before
            for record in reversed(message.records):
                if not self._owns(record, position):
                    continue
                if newest is not None and record.timestamp_ns != newest:
                    return self._from_part_on(messages), newest
                if record.rows:
                    newest = record.timestamp_ns
                elif newest is None and empty is None:
                    empty = record.timestamp_ns
        return messages, newest if newest is not None else empty or 0

    @staticmethod
    def _from_part_on(messages: list[LogMessage]) -> list[LogMessage]:
        while messages[0].part is not None and messages[0].part[0]:
            messages = messages[1:]
        return messages


def _is_full(entries: list[Entry], rows: int, size_bytes: int, limit: ReadLimit) -> bool:
    is_full = rows >= limit.rows or size_bytes >= limit.size_bytes
    return is_full and (entries[-1].frame_end or not limit.whole_frames)


def _nobody() -> None:
    """Nobody waits for news."""
