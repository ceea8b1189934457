"""What the parts of an open journal share: its lock, its segments, its streams and how much of it is durable."""

import json
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from api2db.journal._epochs import add_epoch
from api2db.journal._group import Group
from api2db.journal._lock import JournalLock
from api2db.journal._record import RecordKind
from api2db.journal._registered import RegisteredStream
from api2db.journal._scan import anything
from api2db.journal._segment import BEGINNING, Location
from api2db.journal._segment_set import SegmentSet
from api2db.journal._state import State
from api2db.journal._state_file import Removal
from api2db.journal._synced import Synced, keep_synced
from api2db.journal.port import Backlog, Durability

COUNTER_BITS = 32
_LAST_NUMBER = (1 << COUNTER_BITS) - 1


class Cursor(NamedTuple):
    """The collector's state, and the number of the record that stored it; the highest number is the newest."""

    sequence: int
    value: dict[str, Any]


NO_CURSOR = Cursor(0, {})


@dataclass(slots=True)
class Core:
    """The state of an open journal. What changes after the open is read and written with ``changed`` held.

    Attributes:
        changed: The journal's one lock; notified when something becomes visible, durable or acknowledged.
        segment_set: The segments, up to the last byte that readers may see.
        streams: All registered streams by number.
        durable: The location up to which a worker may read.
        sequence: The last sequence number given.
        timestamp_ns: The last timestamp given.
        counter: The open counter, the high half of every sequence number.
        epochs: All opens: epoch and counter.
        cursor: The newest visible state of the collector; ``durable_cursor`` is the newest that is durable.
        answers: Who answers the requests of commands, by verb.
        on_change: Called when the figures of a stream may have changed.
        removals: The files that are being removed; see ``_removal``.
    """

    home: Path
    folder: Path
    durability: Durability
    lock: JournalLock
    state: State
    journal_id: str
    cursor: Cursor
    segment_set: SegmentSet
    changed: threading.Condition = field(default_factory=lambda: threading.Condition(threading.Lock()))
    streams: dict[int, RegisteredStream] = field(default_factory=dict)
    last_stream_no: int = 0
    durable: Location = BEGINNING
    sequence: int = 0
    timestamp_ns: int = 0
    counter: int = 0
    epoch: str = ""
    epochs: dict[str, int] = field(default_factory=dict)
    durable_cursor: Cursor = NO_CURSOR
    _unsynced_cursors: deque[Cursor] = field(default_factory=deque)
    answers: dict[str, Callable[[Mapping[str, Any]], Any]] = field(default_factory=dict)
    on_change: Callable[[], None] = lambda: None
    removals: list[Removal] = field(default_factory=list)

    def stream_named(self, identity: str) -> RegisteredStream | None:
        """The registered stream of an identity."""
        return next((stream for stream in self.streams.values() if stream.row.identity == identity), None)

    def backlog(self, stream: RegisteredStream) -> Backlog:
        """What waits for a stream; called without the lock."""
        with self.changed:
            count, skip = replace(stream.waiting), stream.position.skip
        if count.size_bytes <= 0:
            return Backlog(0, 0, 0, None)
        return Backlog(count.frames, max(0, count.rows - skip), count.size_bytes, stream.oldest_ns())

    def publish(self, group: Group) -> None:
        """Show a group to the readers."""
        segment, self.segment_set.visible = self.segment_set.segments[group.end.segment], group.end
        for header, part in zip(group.headers, group.parts, strict=True):
            segment.add(header)
            if header.kind == RecordKind.CURSOR:
                self.cursor = Cursor(header.sequence, json.loads(bytes(part.payload)))
                self._unsynced_cursors.append(self.cursor)
            for stream in self.streams.values():
                stream.publish(header)
        segment.note_step(group.end.offset)
        self.on_change()

    def recount(self, visible: Location) -> None:
        """Count records again after visible groups were rewritten into a new segment."""
        self.segment_set.visible = visible
        rewritten = [segment for number, segment in self.segment_set.segments.items() if number >= self.durable.segment]
        for segment in rewritten:
            segment.forget_counts()
            stop = Location(segment.number, segment.end)
            for block in self.segment_set.blocks(Location(segment.number, segment.begin), stop, anything):
                segment.add_all(block.headers)
                segment.note_step(int(block.ends[-1]))
        for stream in self.streams.values():
            stream.place()

    def record_synced(self, location: Location, last_sequence: int) -> None:
        """Remember what an fsync made durable, and the collector's state up to there, but never a newer state."""
        self.durable = location
        keep_synced(self.folder, Synced(*location, last_sequence))
        while self._unsynced_cursors and self._unsynced_cursors[0].sequence <= last_sequence:
            self.durable_cursor = self._unsynced_cursors.popleft()

    def take_numbers(self, count: int) -> int:
        """Return the first of some consecutive sequence numbers, none of which was given before."""
        if (self.sequence & _LAST_NUMBER) + count > _LAST_NUMBER:
            self._renew_counter()
        first, self.sequence = self.sequence + 1, self.sequence + count
        return first

    def _renew_counter(self) -> None:
        """All sequence numbers of this open are used: count another open, within the same epoch."""
        self.counter, epoch, _ = add_epoch(self.folder, self.counter)
        self.epochs[epoch] = self.counter
        self.sequence = self.counter << COUNTER_BITS

    def preamble(self) -> dict[str, Any]:
        """What the next segment repeats, so that a damaged state file can be rebuilt."""
        streams = [
            {
                "stream_no": stream.row.stream_no,
                "key": stream.row.key,
                "identity": stream.row.identity,
                "stream_type": stream.row.stream_type,
                "position": stream.position,
            }
            for stream in self.streams.values()
        ]
        return {
            "journal": self.journal_id,
            "epoch": self.epoch,
            "counter": self.counter,
            "timestamp_ns": self.timestamp_ns,
            "last_stream_no": self.last_stream_no,
            "cursor": self.durable_cursor,
            "streams": streams,
        }

    def release(self) -> None:
        """Close the state file, release the lock, and end what waits."""
        self.state.close()
        self.lock.release()
        self.changed.notify_all()
        for stream in self.streams.values():
            stream.tell()
