"""Reads the entries of one stream from the messages of a log."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from api2db.cluster._log import Log
from api2db.cluster._message import Counts, LogMessage, Record, batches_in, minus, parts_in
from api2db.cluster._state import Place
from api2db.errors import ClusterUnavailableError
from api2db.journal import Entry, Flag, Part, Position, ReadLimit

WITHOUT_LIMIT = ReadLimit(1 << 62, 1 << 62)


@dataclass(frozen=True, slots=True)
class Passed:
    """A record that was handed to the worker, and where reading goes on once it is acknowledged."""

    sequence: int
    place: Place
    counts: Counts


@dataclass(slots=True)
class Found:
    """What a read has found: entries in their order, and their records."""

    limit: ReadLimit
    entries: list[Entry] = field(default_factory=list)
    passed: list[Passed] = field(default_factory=list)
    rows: int = 0
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached."""
        if not self.entries or (self.limit.whole_frames and not self.entries[-1].frame_end):
            return False
        return self.rows >= self.limit.rows or self.size_bytes >= self.limit.size_bytes

    def add(self, record: Record, batch: pa.RecordBatch, after: Position, place: Place) -> None:
        """Add a record: what is behind a position, up to the limit."""
        skip = after.skip if record.sequence == after.sequence + 1 else 0
        room = batch.num_rows if self.limit.whole_frames else max(1, self.limit.rows - self.rows)
        taken = batch.slice(skip, room) if skip or batch.num_rows > room else batch
        reached = skip + taken.num_rows
        is_whole = reached >= batch.num_rows
        self.passed.append(Passed(record.sequence, place, record.counts))
        self.entries.append(
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
        self.rows += taken.num_rows
        self.size_bytes += self.entries[-1].size_bytes


class EntryReader:
    """Reads one stream's records in the order of the log; it keeps no position.

    Args:
        log: The log.
        stream_no: The stream's number.
    """

    def __init__(self, log: Log, stream_no: int) -> None:
        self._log = log
        self._stream_no = stream_no

    def owns(self, record: Record, after: Position) -> bool:
        """Whether a record is the stream's, and behind a position."""
        return record.stream_no in {0, self._stream_no} and record.sequence > after.sequence

    def read(self, place: Place, after: Position, limit: ReadLimit) -> Found:
        """Read behind a position, from a place before it."""
        found = Found(limit)
        while not found.is_full:
            messages = self._whole(self._log.read(*place, max(1, limit.size_bytes - found.size_bytes)))
            if not messages or not self._take(messages, after, found):
                break
            place = Place(messages[-1].number + 1, messages[-1].number)
        return found

    def newest(
        self, number: int, place: Place, position: Position, waiting: Counts
    ) -> tuple[list[Entry], deque[Passed], Counts]:
        """Read the newest frame with rows, or the newest one, backwards from the end of the log.

        Args:
            number: The last rows message.
            place: Where the stream reads on.
            position: What it has acknowledged.
            waiting: What waits for it.

        Returns:
            The entries, their records behind one that stands for all before them, and what waits before them.
        """
        messages, time_ns = self._newest_messages(number, place, position)
        found = Found(WITHOUT_LIMIT)
        self._take(messages, position, found)
        of_frame = [at for at, entry in enumerate(found.entries) if entry.timestamp_ns == time_ns]
        first, last = of_frame[0], of_frame[-1]
        before = waiting
        for each in found.passed[first:]:
            before = minus(before, each.counts)
        start = Passed(found.passed[first].sequence - 1, Place(messages[0].number, messages[0].before), before)
        return found.entries[first : last + 1], deque([start, *found.passed[first : last + 1]]), before

    def records(self, place: Place, size_bytes: int) -> Iterator[tuple[LogMessage, Record | None]]:
        """Yield each record from a place on, and each message with None once its records have been yielded."""
        while messages := self._log.read(*place, size_bytes):
            for message in messages:
                for record in message.records:
                    yield message, record
                yield message, None
            place = Place(messages[-1].number + 1, messages[-1].number)

    def parts(self, place: Place, size_bytes: int) -> Iterator[tuple[Record, Part]]:
        """Yield each record from a place on, of any stream, as it was put."""
        while messages := self._whole(self._log.read(*place, size_bytes)):
            place = Place(messages[-1].number + 1, messages[-1].number)
            for at, message in enumerate(messages):
                if message.part is None or not message.part[0]:
                    count = 1 if message.part is None else message.part[1]
                    yield from parts_in(message, messages[at + 1 : at + count])

    def _whole(self, messages: list[LogMessage]) -> list[LogMessage]:
        """The messages, with all parts of the last record."""
        while messages and (part := messages[-1].part) is not None and part[0] + 1 < part[1]:
            last = messages[-1]
            messages = [*messages, *self._log.read(last.number + 1, last.number, 1)]
        return messages

    def _take(self, messages: list[LogMessage], after: Position, found: Found) -> bool:
        """Add the records of messages; return whether all were taken whole."""
        at = 0
        while at < len(messages):
            message, parts = messages[at], 1 if messages[at].part is None else (messages[at].part or (0, 1))[1]
            if message.part is not None and message.part[0]:
                at += 1  # a later part of a record that was passed
                continue
            last, rest = messages[min(at + parts, len(messages)) - 1], messages[at + 1 : at + parts]
            at += parts
            for record, batch in batches_in(message, rest, lambda record: self.owns(record, after)):
                if batch is None:
                    continue
                if found.is_full:
                    return False
                place = Place(message.number, message.before)
                if record is message.records[-1]:
                    place = Place(last.number + 1, last.number)
                found.add(record, batch, after, place)
        return not found.passed or found.passed[-1].sequence <= found.entries[-1].position.sequence

    def _newest_messages(self, number: int, place: Place, position: Position) -> tuple[list[LogMessage], int]:
        """The messages from the one on that has the first record of the newest frame, and that frame's time."""
        messages: list[LogMessage] = []
        newest: int | None = None
        empty: int | None = None
        while number >= place.number:
            message = self._log.messages.message(number)
            messages.insert(0, message)
            number = message.before
            for record in reversed(message.records):
                if not self.owns(record, position):
                    continue
                if newest is not None and record.timestamp_ns != newest:
                    return _from_part_on(messages), newest
                if record.rows:
                    newest = record.timestamp_ns
                elif newest is None and empty is None:
                    empty = record.timestamp_ns
        return messages, newest if newest is not None else empty or 0


class Oldest:
    """The time of the first record behind a position, which is looked up once for each position.

    Args:
        entries: Reads the stream's records.
    """

    def __init__(self, entries: EntryReader) -> None:
        self._entries = entries
        self._known: tuple[Position, int] | None = None

    def time_ns(self, place: Place, position: Position) -> int | None:
        """The time; None if there is no record, or the cluster does not answer."""
        if self._known is None or self._known[0] != position:
            try:
                entries = self._entries.read(place, position, ReadLimit(1, 1)).entries
            except ClusterUnavailableError:
                return None
            if not entries:
                return None
            self._known = position, entries[0].timestamp_ns
        return self._known[1]


def _from_part_on(messages: list[LogMessage]) -> list[LogMessage]:
    while messages[0].part is not None and messages[0].part[0]:
        messages = messages[1:]
    return messages
