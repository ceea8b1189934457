"""The journal in segments: what ``Journal`` promises, put together from the parts of this package."""

import json
import logging
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from api2db.errors import BacklogFullError, ConfigurationError, JournalError, JournalWriteError
from api2db.formats.atomic import make_folders, sync_folder
from api2db.journal._appender import Appender, Group
from api2db.journal._lane import LaneLog
from api2db.journal._opens import add_open, read_opens
from api2db.journal._owner import Owner
from api2db.journal._record import HEADER_BYTES, Flag, Kind, Part, encode_rows, part
from api2db.journal._segment import Location, Record, Segment, read_preamble, segment_paths
from api2db.journal._shelf import Shelf, repair
from api2db.journal._state import STATE_NAME, State, StreamRow
from api2db.journal.port import ALL, Delivered, Durability, Lane, Limit, Position, StreamIdentity

_log = logging.getLogger(__name__)
_COUNTER_BITS = 32
SEGMENT_BYTES: Final = 64 << 20
SLICE: Final = Limit(rows=131_072, size_bytes=16 << 20)


def journal_folder(home: Path, name: str) -> Path:
    """Where a collector's journal is."""
    return home / "STORE" / "journal" / name


class SegmentedJournal:
    """See ``Journal`` in ``port``; every method may be called from any thread of the owning process.

    Args:
        home: The project's folder.
        name: The collector's.
        durability: ``"full"``: ``append`` returns after an fsync; ``"process"``: once the kernel has the bytes.
        clock: Nanoseconds since 1970.
        segment_bytes: The size at which a new segment is begun.
        slice_limit: The largest record: a longer frame is stored as several.

    Raises:
        JournalBusyError: Another process owns the journal.
        JournalError: A disk error stands in the way.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        durability: Durability = "full",
        *,
        clock: Callable[[], int] = time.time_ns,
        segment_bytes: int = SEGMENT_BYTES,
        slice_limit: Limit = SLICE,
    ) -> None:
        self.home = home
        self.folder = journal_folder(home, name)
        self.durability = durability
        self.slice_limit = slice_limit
        self.changed = threading.Condition(threading.RLock())
        self.lanes: dict[int, LaneLog] = {}
        self.answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self.shelf = Shelf(self.folder)
        self.appender = Appender(
            shelf=self.shelf,
            changed=self.changed,
            durability=durability,
            clock=clock,
            segment_bytes=segment_bytes,
            preamble=self._preamble,
            publish=self._publish,
            retire=self._retire,
            relocate=self._relocate,
        )
        self._cursor: dict[str, Any] = {}
        self._cursor_segment = 0
        make_folders(self.folder)
        self.owner = Owner(self.folder)
        try:
            self._open()
        except BaseException:
            self.owner.release()
            raise

    def append(
        self,
        frames: Sequence[pa.RecordBatch],
        *,
        lane: Lane = ALL,
        cursor: Mapping[str, Any] | None = None,
        removes: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
    ) -> int:
        self.owner.check()
        parts = [piece for number, frame in enumerate(frames) for piece in self._slices(frame, number)]
        if cursor is not None:
            parts.append(part(Kind.CURSOR, _json(cursor)))
        if removes is not None:
            parts.append(part(Kind.REMOVAL, removes.encode()))
        if not parts:
            return self.appender.sequence
        size_bytes = sum(len(piece.payload) + HEADER_BYTES for piece in parts)
        with self.changed:
            self._wait_for_room(lane, size_bytes, timeout_s if block else 0)
            group = self.appender.number(parts, lane)
            self.appender.write(group)
            self.appender.settle(group)
        if removes is not None:
            (self.home / removes).unlink(missing_ok=True)
        return group.records[-1][0].sequence

    def attach(self, identity: StreamIdentity) -> tuple[Lane, LaneLog]:
        with self.changed:
            log = next((log for log in self.lanes.values() if log.row.identity == identity.name), None)
            if log is None:
                log = self._register(identity)
            elif log.attached:
                message = (
                    f"a stream to {identity.name} is running already; stop it first, "
                    "or give one of the two another table or stream_id"
                )
                raise ConfigurationError(message)
            self.state.set_quota(log.row.lane, identity.quota_bytes)
            log.limit_backlog(identity.quota_bytes)
            log.attached = True
            return Lane(log.row.lane), log

    def detach(self, lane: Lane) -> None:
        with self.changed:
            if lane in self.lanes:
                self.lanes[lane].attached = False

    def forget(self, identity: str) -> bool:
        """Drop a stream that is not running, and all that waits for it; False where there is none of that name.

        Raises:
            ConfigurationError: It is running.
        """
        with self.changed:
            log = next((log for log in self.lanes.values() if log.row.identity == identity), None)
            if log is None:
                return False
            if log.attached:
                message = f"the stream {identity} is running; stop it before it is forgotten"
                raise ConfigurationError(message)
            self.state.drop_stream(log.row.lane)
            del self.lanes[log.row.lane]
            self.free()
            self.changed.notify_all()
            return True

    def cursor(self) -> dict[str, Any]:
        with self.changed:
            return dict(self._cursor)

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self.answers[verb] = answer

    def sync(self) -> None:
        """Make all that has been appended durable."""
        with self.changed:
            self.appender.sync()

    def free(self) -> None:
        """Unlink what every stream is past; what only a dying segment says is kept in the state first."""
        needed = min((log.at for log in self.lanes.values()), default=self.shelf.visible)
        numbers = [number for number in list(self.shelf.segments)[:-1] if number < needed.segment]
        if not numbers:
            return
        try:
            if self._cursor_segment <= numbers[-1]:
                self.state.keep_meta({"cursor": self._cursor})
            self.shelf.free(needed)
            self.state.drop_segments(numbers)
        except JournalWriteError as error:
            _log.warning("finished segments are kept for now: %s", error)

    def close(self) -> None:
        """Sync, and give the journal up; a forked child only lets go."""
        try:
            self.owner.check()
        except JournalError:
            return
        with self.changed:
            try:
                self.appender.close()
            finally:
                self.state.close()
                self.owner.release()

    def _open(self) -> None:
        rebuilt = not self._open_state()
        preambles = [head[0] for path in segment_paths(self.folder).values() if (head := read_preamble(path))]
        newest: Mapping[str, Any] = preambles[-1] if preambles else {}
        known = {**{head["epoch"]: head["counter"] for head in preambles}, **self.state.epochs()}
        self.counter, self.epoch, opens = add_open(self.folder, max(known.values(), default=0))
        self.epochs = {**known, **opens, self.epoch: self.counter}
        self.state.add_epochs(self.epochs)
        self.journal_id: str = self.state.meta("journal") or newest.get("journal") or secrets.token_hex(8)
        self._cursor = newest.get("cursor") or self.state.meta("cursor") or {}
        self.appender.timestamp_ns = max([0, *(head["timestamp_ns"] for head in preambles)])
        if rebuilt:
            self._rebuild(newest)
        self._walk()
        self.appender.sequence = self.counter << _COUNTER_BITS
        self.appender.durable = self.shelf.visible
        self.state.keep_meta({"journal": self.journal_id})
        self.lanes = {row.lane: LaneLog(self, row, row.position, row.delivered) for row in self.state.streams()}
        for log in self.lanes.values():
            log.restore()
        self.free()

    def _open_state(self) -> bool:
        """Open the state file; False where it was damaged and a new one was begun."""
        try:
            self.state = State(self.folder)
        except sqlite3.DatabaseError as error:
            aside = self.folder / "damaged" / f"state-{time.time_ns()}"
            make_folders(aside)
            for path in self.folder.glob(f"{STATE_NAME}*"):
                path.rename(aside / path.name)
            sync_folder(self.folder)
            _log.error("%s was damaged (%s); it is kept in %s and made anew", self.folder / STATE_NAME, error, aside)
            self.state = State(self.folder)
            return False
        return self.state.meta("journal") is not None or not (segment_paths(self.folder) and read_opens(self.folder))

    def _rebuild(self, newest: Mapping[str, Any]) -> None:
        for stream in newest.get("streams", []):
            row = StreamRow(
                lane=stream["lane"],
                key=stream["key"],
                identity=stream["identity"],
                stream_type=stream["stream_type"],
                quota_bytes=None,
                position=Position(*stream["position"]),
                delivered=Delivered(),
                error=None,
                error_at=None,
            )
            self.state.add_stream(row)
            self.state.keep_note(row.lane, "rebuilt", {"from": list(row.position)})
        self.state.keep_meta({"lanes": newest.get("lanes", 0)})
        _log.warning("the positions of %s are rebuilt from its newest segment and the targets' ledgers", self.folder)

    def _walk(self) -> None:
        summaries = self.state.segments()
        for number, summary in sorted(summaries.items()):
            if "cursor" in summary:
                self._cursor, self._cursor_segment = summary["cursor"], number
        for segment, record in repair(self.folder, self.shelf, summaries):
            segment.note(record.header)
            self._recall(segment, record)
        known = [segment.last_timestamp_ns for segment in self.shelf.segments.values()]
        self.appender.timestamp_ns = max([self.appender.timestamp_ns, *known])

    def _recall(self, segment: Segment, record: Record) -> None:
        if record.header.kind == Kind.CURSOR and record.payload is not None:
            self._cursor, self._cursor_segment = _parse(bytes(record.payload)), segment.number
        elif record.header.kind == Kind.REMOVAL and record.payload is not None:
            (self.home / bytes(record.payload).decode()).unlink(missing_ok=True)

    def _register(self, identity: StreamIdentity) -> LaneLog:
        lane = max([self.state.meta("lanes") or 0, *self.lanes]) + 1
        position = Position(self.appender.sequence)
        row = StreamRow(
            lane, secrets.token_hex(8), identity.name, identity.stream_type, None, position, Delivered(), None, None
        )
        self.state.keep_meta({"lanes": lane})
        self.state.add_stream(row)
        log = LaneLog(self, row, position, Delivered())
        log.place()
        self.lanes[lane] = log
        self.appender.fresh = True
        return log

    def _slices(self, frame: pa.RecordBatch, number: int) -> list[Part]:
        limit = self.slice_limit
        rows = min(limit.rows, max(1, limit.size_bytes * frame.num_rows // max(1, frame.nbytes)))
        pieces = [encode_rows(frame.slice(at, rows), number) for at in range(0, max(1, frame.num_rows), rows)]
        pieces[-1].flags |= Flag.FRAME_END
        return pieces

    def _wait_for_room(self, lane: Lane, size_bytes: int, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        told = False
        while full := [log for log in self._receivers(lane) if not log.has_room(size_bytes)]:
            message = (
                f"{full[0].row.identity} has {full[0].stored_bytes} bytes waiting, as many as its max_backlog_bytes "
                "allows; mend its target, raise the quota, or drop the stream with: api2db forget"
            )
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise BacklogFullError(message)
            if not told:
                _log.warning("put waits: %s", message)
                told = True
            self.changed.wait(remaining)

    def _receivers(self, lane: Lane) -> list[LaneLog]:
        return [log for number, log in self.lanes.items() if lane in {ALL, number}]

    def _publish(self, group: Group) -> None:
        segment = self.shelf.segments[group.segment]
        self.shelf.visible = Location(group.segment, group.end)
        for header, piece in group.records:
            segment.note(header)
            if header.kind == Kind.CURSOR:
                self._cursor, self._cursor_segment = _parse(bytes(memoryview(piece.payload))), group.segment
            for log in self.lanes.values():
                log.publish(header)

    def _retire(self, number: int) -> None:
        segment = self.shelf.segments.get(number)
        if segment is not None:
            try:
                cursor = {"cursor": self._cursor} if self._cursor_segment == number else {}
                self.state.keep_segment(number, {**segment.summary(), **cursor})
            except JournalWriteError as error:
                _log.warning("segment %d will be walked at the next open: %s", number, error)

    def _relocate(self) -> None:
        """After a rescue: what was published under the dead segment is found in the new one."""
        if self.durability == "full":
            return
        self.shelf.visible = self.appender.durable
        for segment in list(self.shelf.segments.values())[-2:]:
            segment.forget_counts()
            for found in self.shelf.records(Location(segment.number, segment.begin)):
                if found.segment is segment:
                    segment.note(found.header)
        for log in self.lanes.values():
            log.place()

    def _preamble(self) -> dict[str, Any]:
        streams = [
            {
                "lane": log.row.lane,
                "key": log.row.key,
                "identity": log.row.identity,
                "stream_type": log.row.stream_type,
                "position": list(log.position),
            }
            for log in self.lanes.values()
        ]
        return {
            "journal": self.journal_id,
            "epoch": self.epoch,
            "counter": self.counter,
            "timestamp_ns": self.appender.timestamp_ns,
            "lanes": max(self.lanes, default=0),
            "cursor": self._cursor,
            "streams": streams,
        }


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        message = f"a collector's state must be a JSON dict: {error}"
        raise ConfigurationError(message) from error


def _parse(payload: bytes) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(payload)
    return value
