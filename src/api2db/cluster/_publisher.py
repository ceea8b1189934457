"""Publishes what threads put: those who come while a publication is under way share the next one."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from api2db.cluster._core import Core
from api2db.cluster._log import cursor_drafts, removal_draft
from api2db.cluster._message import COUNTED_BYTES, HEAD_BYTES, ROWS, Draft, Record
from api2db.cluster._retention import Retention
from api2db.errors import JournalBusyError
from api2db.interrupts import InterruptedCallError, wait
from api2db.journal import Part, StreamNo

MOST_MESSAGES: Final = 900  # of the thousand that a batch may have
_TOGETHER_BYTES: Final = 4 << 20


@dataclass(slots=True, eq=False)
class Group:
    """What one ``append`` stores.

    Attributes:
        removal: The file whose rows are put again or dropped with it.
        removal_number: The number of the message that says so, once it is stored.
        last_sequence: The number of the last record, once it is stored.
        error: Why it was not stored, or why that is unknown.
    """

    parts: Sequence[Part]
    stream_no: StreamNo
    cursor: bytes | None = None
    removal: Mapping[str, Any] | None = None
    trace: str = ""
    records: list[Record] = field(default_factory=list)
    removal_number: int = 0
    last_sequence: int = 0
    is_done: bool = False
    error: BaseException | None = None

    @property
    def size_bytes(self) -> int:
        """What it counts for quotas."""
        return sum(part.size_bytes + COUNTED_BYTES for part in self.parts)


class Publisher:
    """Appends to the log of an open journal: one thread at a time, in the order in which groups came.

    Args:
        core: The journal.
        retention: Makes room for what must be stored.
        accept: Called with groups that were stored, with the journal's lock held.
        found: Called when a publication without an answer turns out to have been stored.
    """

    def __init__(
        self,
        core: Core,
        retention: Retention,
        accept: Callable[[Sequence[Group]], None],
        found: Callable[[], None],
    ) -> None:
        self.message_bytes = core.jetstream.connection.max_payload - HEAD_BYTES
        self.cursor = b"{}"
        self._core = core
        self._retention = retention
        self._accept = accept
        self._found = found
        self._queue: list[Group] = []
        self._is_publishing = False
        self._sequence = 0

    @property
    def sequence(self) -> int:
        """The highest number that a record has, or that no later one will have."""
        return max(self._sequence, self._core.log.end.sequence)

    def begin(self) -> None:
        """Start behind what the log has."""
        self._sequence = max(self._core.kept["open_count"] << 32, self._core.log.end.sequence)
        self.cursor = self._core.log.cursor()

    def publish(self, group: Group) -> None:
        """Publish what is queued, as the first who comes, or wait until another thread has published it."""
        with self._core.changed:
            self._queue.append(group)
        while True:
            with self._core.changed:
                while self._is_publishing and not group.is_done:
                    try:
                        wait(self._core.changed)
                    except InterruptedCallError:
                        if group in self._queue:
                            self._queue.remove(group)
                        raise
                if group.is_done:
                    return
                self._is_publishing = True
                groups = self._taken()
            error: BaseException | None = None
            try:
                self._publish(groups)
            except BaseException as failure:  # noqa: BLE001 - raised in the thread of each group
                error = failure
            self._published(groups, error)

    def publish_alone(self, drafts: Sequence[Draft]) -> None:
        """Publish messages that are no group, and that must be stored for deliveries to go on.

        Raises:
            JournalBusyError: Another process has taken the journal.
            ClusterUnavailableError: The cluster does not answer.
            FullError: The servers have no space.
        """
        with self.pausing():
            self._settle()
            size_bytes = sum(len(piece) for draft in drafts for piece in draft.pieces)
            self._retention.making_room(lambda: self._core.log.publish(drafts), size_bytes)

    def settle(self) -> None:
        """Find out whether a publication without an answer was stored.

        Raises:
            JournalBusyError: Another process has taken the journal.
            ClusterUnavailableError: The cluster does not answer.
        """
        with self.pausing():
            self._settle()

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Keep others from publishing, for a block."""
        with self._core.changed:
            while self._is_publishing:
                wait(self._core.changed)
            self._core.check()
            self._is_publishing = True
        try:
            yield
        except JournalBusyError as error:
            self._core.lose(str(error))
            raise
        finally:
            with self._core.changed:
                self._is_publishing = False
                self._core.tell()

    def _settle(self) -> None:
        before = self._core.log.end.number
        self._retention.making_room(self._core.log.settle)
        if self._core.log.end.number != before:
            self.cursor = self._core.log.cursor()
            self._found()

    def _taken(self) -> list[Group]:
        """Groups to publish together; called with the lock held."""
        size_bytes, count = 0, 0
        for group in self._queue:
            size_bytes += group.size_bytes
            if count and size_bytes > _TOGETHER_BYTES:
                break
            count += 1
        groups, self._queue = self._queue[:count], self._queue[count:]
        return groups

    def _publish(self, groups: Sequence[Group]) -> None:
        """Publish groups; only one thread at a time does that."""
        self._core.check()
        self._settle()
        drafts, sequence = self._rows(groups)
        number = self._core.log.end.number + len(drafts)
        for group in groups:
            if group.removal is not None:
                drafts.append(removal_draft(group.removal))
                number += 1
                group.removal_number = number
        cursors = [group.cursor for group in groups if group.cursor is not None]
        drafts += [each for cursor in cursors[-1:] for each in cursor_drafts(cursor, self.message_bytes)]
        try:
            self._core.log.publish(drafts)
        except JournalBusyError as error:
            self._core.lose(str(error))
            raise
        self._sequence = sequence
        if cursors:
            self.cursor = cursors[-1]

    def _rows(self, groups: Sequence[Group]) -> tuple[list[Draft], int]:
        """The messages of the groups' rows, and the number of the last record."""
        drafts: list[Draft] = []
        sequence = self.sequence
        time_ns = max(time.time_ns(), self._core.log.end.timestamp_ns + 1)
        for group in groups:
            first_ns = time_ns
            group.records = []
            for part in group.parts:
                sequence += 1
                time_ns = first_ns + part.frame
                if not drafts or not drafts[-1].has_room(part, self.message_bytes):
                    drafts.append(Draft(ROWS))
                drafts[-1].add(part, sequence, time_ns, group.stream_no, group.trace)
                group.records.append(drafts[-1].records[-1])
            time_ns += 1
            group.last_sequence = sequence
        return [each for draft in drafts for each in draft.cut(self.message_bytes)], sequence

    def _published(self, groups: Sequence[Group], error: BaseException | None) -> None:
        with self._core.changed:
            self._is_publishing = False
            for group in groups:
                group.error, group.is_done = error, True
            if error is None:
                self._accept(groups)
            self._core.changed.notify_all()


__all__ = ["MOST_MESSAGES", "Group", "Publisher"]
