"""The segmented journal: implements ``Journal`` with the parts of this package."""

import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from api2db.disk.atomic import make_folders
from api2db.errors import BacklogFullError, ConfigurationError, JournalError, JournalWriteError
from api2db.frames import Refused, Rows
from api2db.journal._appender import COUNTER_BITS, Appender, Group
from api2db.journal._epochs import add_epoch
from api2db.journal._lock import JournalLock
from api2db.journal._opening import (
    NO_CURSOR,
    Cursor,
    cursor_in,
    cursor_of,
    is_sound,
    newest_of,
    open_state,
    read_preambles,
)
from api2db.journal._overview import withdraw
from api2db.journal._reader import SegmentedReader
from api2db.journal._record import HEADER_BYTES, Flag, RecordKind
from api2db.journal._removal import finish_removal, removal_of
from api2db.journal._repair import repair
from api2db.journal._reserve import hold_reserve, release_reserve
from api2db.journal._rows import json_part, parts_of
from api2db.journal._scan import anything
from api2db.journal._segment import Location, Segment, segment_paths
from api2db.journal._segment_set import SegmentSet
from api2db.journal._state_file import StreamRow
from api2db.journal._synced import NOTHING_SYNCED, Loss, Synced, keep_synced, known_ends, losses, read_synced
from api2db.journal.port import ALL, Delivered, Durability, Position, ReadLimit, StreamIdentity, StreamNo

logger = logging.getLogger(__name__)
SEGMENT_BYTES: Final = 64 << 20
SLICE: Final = ReadLimit(rows=131_072, size_bytes=8 << 20)


def journal_folder(home: Path, name: str) -> Path:
    """Return the folder of a collector's journal."""
    return home / "STORE" / "journal" / name


class SegmentedJournal:
    """See ``Journal`` in ``port``; every method may be called from any thread of the owning process.

    Args:
        home: The project's folder.
        name: The collector's name.
        durability: ``"full"``: ``append`` returns after an fsync; ``"process"``: once the kernel has the bytes.
        clock: Returns nanoseconds since 1970.
        segment_bytes: The size at which a new segment starts.
        slice_limit: The largest record; a longer frame is stored as several.

    Raises:
        JournalBusyError: Another process owns it.
        JournalError: The disk refuses, or another version wrote the journal in a format unknown here.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        durability: Durability = "full",
        *,
        clock: Callable[[], int] = time.time_ns,
        segment_bytes: int = SEGMENT_BYTES,
        slice_limit: ReadLimit = SLICE,
    ) -> None:
        self.home = home
        self.folder = journal_folder(home, name)
        self.durability = durability
        self.slice_limit = slice_limit
        self.changed = threading.Condition(threading.Lock())
        self.readers: dict[int, SegmentedReader] = {}
        self.answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self.on_change: Callable[[], None] = lambda: None
        self.segment_set = SegmentSet(self.folder)
        self.appender = Appender(
            segment_set=self.segment_set,
            changed=self.changed,
            durability=durability,
            clock=clock,
            segment_bytes=segment_bytes,
            preamble=self._preamble,
            publish=self._publish,
            retire=self._retire,
            relocate=self._relocate,
            reclaim=self._reclaim,
            renew_counter=self._renew_counter,
            record_synced=self._record_synced,
        )
        self._cursor = self._durable_cursor = NO_CURSOR
        self._unsynced_cursors: deque[Cursor] = deque()
        self._last_stream_no = 0
        try:
            make_folders(self.folder)
            self.lock = JournalLock(self.folder)
        except JournalError:
            raise
        except OSError as error:
            raise self._cannot_open(error) from error
        try:
            withdraw(self.folder)  # what an owner before this one has said
            self._open()
        except BaseException as error:
            self.lock.release()
            if isinstance(error, OSError) and not isinstance(error, JournalError):
                raise self._cannot_open(error) from error
            raise

    def append(
        self,
        frames: Sequence[Rows | Refused],
        *,
        stream_no: StreamNo = ALL,
        cursor: Mapping[str, Any] | None = None,
        removes: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
    ) -> int:
        self.lock.check()
        parts = parts_of(frames, self.slice_limit, self._plain_bytes(stream_no))
        if removes is not None:
            for part in parts:
                part.flags |= Flag.RETRIED
        if cursor is not None:
            parts.append(json_part(RecordKind.CURSOR, _json(cursor)))
        if removes is not None:
            parts.append(json_part(RecordKind.REMOVAL, removal_of(self.home, removes)))
        if not parts:
            return self.appender.sequence
        size_bytes = sum(part.size_bytes + HEADER_BYTES for part in parts)
        with self.changed:
            self._wait_for_room(stream_no, size_bytes, timeout_s if block else 0)
            self.lock.check_open()
            group = self.appender.append(parts, stream_no)
            self.appender.wait_durable(group)
            self.lock.check()
            if removes is not None:
                self.appender.sync(group)
                self._remove(removes, stream_no, sum(part.rows for part in parts))
        return group.last_sequence

    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, SegmentedReader]:
        self.lock.check()
        with self.changed:
            log = self._log_of(identity.name)
            if log is None:
                log = self._register(identity)
            elif log.attached:
                message = (
                    f"a stream to {identity.name} is running already; stop it first, "
                    "or give one of the two another table or stream_id"
                )
                raise ConfigurationError(message)
            log.limit_backlog(identity.quota_bytes)
            log.attached = True
            self.on_change()
            return StreamNo(log.row.stream_no), log

    def detach(self, stream_no: StreamNo) -> None:
        self.lock.check_process()
        with self.changed:
            if stream_no in self.readers:
                self.readers[stream_no].attached = False
                self.on_change()

    def forget(self, identity: str) -> bool:
        """Drop a stream that is not running, and everything that waits for it; return False if there is no such stream.

        Raises:
            ConfigurationError: It is running.
        """
        self.lock.check()
        with self.changed:
            log = self._log_of(identity)
            if log is None:
                return False
            if log.attached:
                message = f"the stream {identity} is running; stop it before you forget it"
                raise ConfigurationError(message)
            self.state.drop_stream(log.row.stream_no)
            del self.readers[log.row.stream_no]
            finished = self.take_finished()
            self.on_change()
            self.changed.notify_all()
        self.discard(finished)
        return True

    def cursor(self) -> dict[str, Any]:
        self.lock.check_process()
        with self.changed:
            return dict(self._cursor.value)

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self.answers[verb] = answer

    def sync(self) -> None:
        """Make everything appended so far durable."""
        self.lock.check_process()
        with self.changed:
            self.appender.sync()

    def take_finished(self) -> list[Segment]:
        """Remove the segments that every stream has passed from the set, and return them; called with the lock held."""
        behind = (log.at for log in self.readers.values() if log.waiting.size_bytes > 0)
        return self.segment_set.remove_before(min(behind, default=self.segment_set.visible))

    def discard(self, finished: Sequence[Segment]) -> None:
        """Unlink finished segments; every later segment's preamble repeats the cursor."""
        if not finished:
            return
        self._tell_of(finished)
        with self.changed:
            self._forget_synced(segment.number for segment in finished)
        self._unlink(finished)

    def _tell_of(self, finished: Sequence[Segment]) -> None:
        try:
            self.state.keep_meta({"cursor": self._durable_cursor}, durable=False)
            self.state.drop_segments_until(finished[-1].number)
        except JournalWriteError as error:
            logger.warning("the state file can't be updated for removed segments: %s", error)

    def _unlink(self, finished: Sequence[Segment]) -> None:
        for segment in finished:
            try:
                segment.path.unlink(missing_ok=True)
            except OSError as error:
                logger.warning("%s can't be removed before the journal is opened again: %s", segment.path, error)

    def close(self) -> None:
        """Sync and release the journal; a no-op in a forked child, and when called again.

        Raises:
            JournalWriteError: The disk refuses; the journal is released all the same.
        """
        try:
            self.lock.check()
        except JournalError:
            self._leave()
            return
        with self.changed:
            try:
                self.appender.close()
            finally:
                self.state.close()
                self.lock.release()
                self._tell_of_end()

    def _tell_of_end(self) -> None:
        self.changed.notify_all()
        for log in self.readers.values():
            log.tell_news()

    def _leave(self) -> None:
        """Write nothing more once the lock is lost; a forked child touches nothing."""
        if self.lock.is_lost:
            with self.changed:
                self.appender.release()
                self.state.close()
                self.lock.release()
                self._tell_of_end()

    def _open(self) -> None:
        preambles = read_preambles(self.folder)
        newest = preambles[-1] if preambles else {}
        try:
            self.state = open_state(self.folder, newest)
        except JournalWriteError:
            release_reserve(self.folder)
            self.state = open_state(self.folder, newest)
        try:
            self._take_up(preambles, newest)
        except BaseException:
            self.state.close()
            raise

    def _take_up(self, preambles: Sequence[Mapping[str, Any]], newest: Mapping[str, Any]) -> None:
        self.journal_id: str = self.state.meta("journal") or newest.get("journal") or secrets.token_hex(8)
        self._cursor = newest_of([cursor_of(newest), Cursor(*(self.state.meta("cursor") or NO_CURSOR))])
        self.appender.timestamp_ns = max([0, *(said["timestamp_ns"] for said in preambles)])
        self._scan_segments()
        streams = self.state.streams()
        self._last_stream_no = max(
            [
                self.state.meta("last_stream_no") or 0,
                newest.get("last_stream_no", 0),
                *(row.stream_no for row in streams),
            ]
        )
        self.appender.durable = self.segment_set.visible
        self.readers = {row.stream_no: SegmentedReader(self, row, row.position, row.delivered) for row in streams}
        for log in self.readers.values():
            log.restore()
        at_least = self._highest_counter(preambles)
        try:
            self._count_open(preambles, at_least)
        except OSError:
            self._reclaim()
            release_reserve(self.folder)
            self._count_open(preambles, at_least)
        self.discard(self.take_finished())
        hold_reserve(self.folder)

    def _highest_counter(self, preambles: Sequence[Mapping[str, Any]]) -> int:
        """The highest open counter that any file mentions."""
        seen = [segment.last_sequence for segment in self.segment_set.segments.values()]
        seen += [log.position.sequence for log in self.readers.values()]
        counters: list[int] = [*(said["counter"] for said in preambles), *self.state.epochs().values()]
        return max([0, *counters, *(sequence >> COUNTER_BITS for sequence in seen)])

    def _count_open(self, preambles: Sequence[Mapping[str, Any]], at_least: int) -> None:
        """Record this open under a counter above all earlier ones."""
        known = {**{said["epoch"]: said["counter"] for said in preambles}, **self.state.epochs()}
        self.counter, self.epoch, known_epochs = add_epoch(self.folder, at_least)
        self.epochs = {**known, **known_epochs, self.epoch: self.counter}
        self.state.add_epochs(self.epochs)
        self.state.keep_meta({"journal": self.journal_id})
        self.appender.sequence = self.counter << COUNTER_BITS

    def _scan_segments(self) -> None:
        summaries = self.state.segments()
        self._cursor = newest_of([self._cursor, *map(cursor_of, summaries.values())])
        ends = known_ends(self.folder, summaries)
        missing = losses(segment_paths(self.folder), ends)
        for _, record in repair(self.folder, self.segment_set, summaries, ends):
            self._cursor = newest_of([self._cursor, cursor_in(record)])
            if record.header.kind == RecordKind.REMOVAL and is_sound(record):
                finish_removal(self.home, record.payload)
        self._durable_cursor = self._cursor
        self._report(missing)
        for number, segment in self.segment_set.segments.items():
            if number not in summaries or summaries[number]["end"] != segment.end:
                self._retire(number)
        self.appender.last_segment = max(self.segment_set.segments, default=0)
        known = [segment.last_timestamp_ns for segment in self.segment_set.segments.values()]
        self.appender.timestamp_ns = max([self.appender.timestamp_ns, *known])

    def _report(self, missing: Sequence[Loss]) -> None:
        """Report lost bytes once; from then on what remains counts as complete."""
        delivered = min((row.position.sequence for row in self.state.streams()), default=0)
        for loss in missing:
            found = [
                segment.last_sequence for number, segment in self.segment_set.segments.items() if number <= loss.segment
            ]
            first = max([delivered, *found]) + 1
            if first <= loss.last_sequence:
                self.segment_set.report(loss, first)
        if gone := {loss.segment for loss in missing} - self.segment_set.segments.keys():
            self.state.drop_segments(gone)
        last = self.segment_set.segments.get(self.segment_set.visible.segment)
        keep_synced(self.folder, Synced(last.number, last.end, last.last_sequence) if last else NOTHING_SYNCED)

    def _forget_synced(self, numbers: Iterable[int]) -> None:
        """Forget the durable offset of segments that are removed on purpose; called with the lock held."""
        if read_synced(self.folder).segment in numbers:
            keep_synced(self.folder, NOTHING_SYNCED)

    def _renew_counter(self) -> int:
        """All sequence numbers of this open are used: count another open, within the same epoch."""
        self.counter, epoch, _ = add_epoch(self.folder, self.counter)
        self.epochs[epoch] = self.counter
        return self.counter

    def _log_of(self, identity: str) -> SegmentedReader | None:
        return next((log for log in self.readers.values() if log.row.identity == identity), None)

    def _register(self, identity: StreamIdentity) -> SegmentedReader:
        stream_no, position = self._last_stream_no + 1, Position(self.appender.sequence)
        key = secrets.token_hex(8)
        row = StreamRow(
            stream_no, key, identity.name, identity.stream_type, identity.quota_bytes, position, Delivered(), None, None
        )
        self.state.keep_meta({"last_stream_no": stream_no})
        self.state.add_stream(row)
        log = SegmentedReader(self, row, position, Delivered())
        log.place()
        self.readers[stream_no] = log
        self._last_stream_no, self.appender.needs_new_segment = stream_no, True
        return log

    def _wait_for_room(self, stream_no: StreamNo, size_bytes: int, timeout_s: float | None) -> None:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        told = False
        while full := [log for log in self._receivers(stream_no) if not log.has_room(size_bytes)]:
            self.lock.check()
            message = (
                f"{full[0].row.identity} has {full[0].stored_bytes} bytes on disk (waiting, parked, set aside); "
                f"{size_bytes} more would exceed its max_backlog_bytes of {full[0].row.quota_bytes}; "
                "fix its target, raise the quota, or drop the stream with: api2db forget"
            )
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                for log in full:
                    log.refused_bytes = size_bytes
                raise BacklogFullError(message)
            if not told:
                logger.warning("put waits: %s", message)
                told = True
            self.changed.wait(remaining)

    def _receivers(self, stream_no: StreamNo) -> list[SegmentedReader]:
        return [log for number, log in list(self.readers.items()) if stream_no in {ALL, number}]

    def _plain_bytes(self, stream_no: StreamNo) -> int:
        """How many bytes may wait before frames are compressed. Frames larger than a record always are."""
        return min([self.slice_limit.size_bytes, *(log.plain_bytes for log in self._receivers(stream_no))])

    def _remove(self, removes: str, stream_no: StreamNo, rows: int) -> None:
        path = self.home / removes
        try:
            size_bytes = path.stat().st_size
            path.unlink()
            if stream_no in self.readers:
                self.readers[stream_no].take_back_rejected(rows, size_bytes)
        except FileNotFoundError:
            return
        except (OSError, JournalWriteError) as error:
            logger.warning("%s is removed when the journal is opened again: %s", path, error)

    def _publish(self, group: Group) -> None:
        segment = self.segment_set.segments[group.segment]
        self.segment_set.visible = Location(group.segment, group.end)
        for header, part in zip(group.headers, group.parts, strict=True):
            segment.add(header)
            if header.kind == RecordKind.CURSOR:
                self._cursor = Cursor(header.sequence, json.loads(bytes(part.payload)))
                self._unsynced_cursors.append(self._cursor)
            for log in self.readers.values():
                log.publish(header)
        self.on_change()

    def _record_synced(self, synced: Synced) -> None:
        """Remember what an fsync made durable, and the collector's state up to there, but never a newer state."""
        keep_synced(self.folder, synced)
        while self._unsynced_cursors and self._unsynced_cursors[0].sequence <= synced.last_sequence:
            self._durable_cursor = self._unsynced_cursors.popleft()

    def _retire(self, number: int) -> None:
        segment = self.segment_set.segments.get(number)
        if segment is not None:
            try:
                self.state.keep_segment(number, {**segment.summary(), "cursor": self._durable_cursor})
            except JournalWriteError as error:
                logger.warning("segment %d will be scanned at the next open: %s", number, error)

    def _relocate(self) -> None:
        """Count records again after unsynced groups were rewritten into a new segment."""
        first = self.appender.durable.segment
        for segment in [segment for number, segment in self.segment_set.segments.items() if number >= first]:
            segment.forget_counts()
            stop = Location(segment.number, segment.end)
            for record in self.segment_set.records(Location(segment.number, segment.begin), stop, anything):
                segment.add(record.header)
        for log in self.readers.values():
            log.place()

    def _reclaim(self) -> bool:
        """On a full disk remove all segments if every stream has passed them; the last one is truncated."""
        last = next(reversed(self.segment_set.segments.values()), None)
        freed = self.state.shrink()
        if last is None or any(log.waiting.size_bytes > 0 for log in self.readers.values()):
            return freed
        release_reserve(self.folder)
        try:
            finished = self.segment_set.remove_before(Location(last.number, 0))
            if finished:
                self._tell_of(finished)
                self._forget_synced(segment.number for segment in finished)
                self._unlink(finished)
            emptied = last.end > last.begin and self._empty(last)
        finally:
            hold_reserve(self.folder)
        return freed or bool(finished) or emptied

    def _empty(self, last: Segment) -> bool:
        """Truncate the last segment, after saving what only it contains."""
        try:
            self.state.keep_meta({"cursor": self._durable_cursor})
            self.state.drop_segments([last.number])
            self._forget_synced([last.number])
            last.empty()
        except OSError as error:
            logger.warning("%s can't be truncated: %s", last.path, error)
            return False
        return True

    def _preamble(self) -> dict[str, Any]:
        streams = [
            {
                "stream_no": log.row.stream_no,
                "key": log.row.key,
                "identity": log.row.identity,
                "stream_type": log.row.stream_type,
                "position": log.position,
            }
            for log in self.readers.values()
        ]
        return {
            "journal": self.journal_id,
            "epoch": self.epoch,
            "counter": self.counter,
            "timestamp_ns": self.appender.timestamp_ns,
            "last_stream_no": self._last_stream_no,
            "cursor": self._durable_cursor,
            "streams": streams,
        }

    def _cannot_open(self, error: OSError) -> JournalWriteError:
        return JournalWriteError(
            f"the journal in {self.folder} can't be opened ({error}); "
            "free disk space or mend the disk, then start again"
        )


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        message = f"a collector's state must be a JSON dict: {error}"
        raise ConfigurationError(message) from error
