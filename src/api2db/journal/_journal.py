"""The segmented journal: implements ``Journal`` with the parts of this package."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from api2db import tracing
from api2db.errors import JournalError
from api2db.frames import Frame, Refused
from api2db.interrupts import check, uninterrupted
from api2db.journal._appender import Appender
from api2db.journal._opening import open_core
from api2db.journal._overview import describe, journal_folder
from api2db.journal._reader import SegmentedReader
from api2db.journal._record import HEADER_BYTES, Flag, RecordKind
from api2db.journal._refusals import check_can_be_forgotten, check_is_free, cursor_json
from api2db.journal._registered import RegisteredStream
from api2db.journal._removal import payload_of, removal_of, remove
from api2db.journal._retention import Retention
from api2db.journal._rows import Part, json_part, parts_of
from api2db.journal._state_file import Removal, StreamRow
from api2db.journal.port import (
    ALL,
    Delivered,
    Durability,
    Position,
    ReadLimit,
    Registered,
    StreamIdentity,
    StreamNo,
    StreamOverview,
)

SEGMENT_BYTES: Final = 64 << 20
SLICE: Final = ReadLimit(rows=131_072, size_bytes=8 << 20)


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
        self._slice_limit = slice_limit
        self.core = open_core(home, self.folder, durability)
        self._retention = Retention(self.core)
        self.appender = Appender(self.core, self._retention, clock, segment_bytes)
        self.readers = {number: self._reader(stream) for number, stream in self.core.streams.items()}

    @property
    def journal_id(self) -> str:
        return self.core.journal_id

    def append(
        self,
        frames: Sequence[Frame | Refused],
        *,
        stream_no: StreamNo = ALL,
        cursor: Mapping[str, Any] | None = None,
        removes: str | None = None,
        block: bool = True,
        timeout_s: float | None = None,
    ) -> int:
        self.core.lock.check_open()
        plain_bytes = self._retention.plain_bytes(stream_no, self._slice_limit.size_bytes)
        parts = parts_of(frames, self._slice_limit, plain_bytes)
        if not tracing.is_on():
            return self._append_parts(parts, stream_no, cursor, removes, timeout_s if block else 0)
        rows = sum(part.rows for part in parts)
        with tracing.begin("journal", "producer", collector=self.folder.name, frames=len(frames), rows=rows) as span:
            if (context := span.context) is not None:
                for part in parts:
                    part.add_trace(context)
            return self._append_parts(parts, stream_no, cursor, removes, timeout_s if block else 0)

    def _append_parts(
        self,
        parts: list[Part],
        stream_no: StreamNo,
        cursor: Mapping[str, Any] | None,
        removes: str | None,
        timeout_s: float | None,
    ) -> int:
        if removes is not None:
            for part in parts:
                part.flags |= Flag.RETRIED
        if cursor is not None:
            parts.append(json_part(RecordKind.CURSOR, cursor_json(cursor)))
        removal = (
            None if removes is None else removal_of(self.core, removes, stream_no, sum(part.rows for part in parts))
        )
        if removal is not None:
            parts.append(json_part(RecordKind.REMOVAL, payload_of(removal)))
        if not parts:
            return self.core.sequence
        return self._append(parts, stream_no, removal, timeout_s)

    @uninterrupted
    def _append(
        self, parts: Sequence[Part], stream_no: StreamNo, removal: Removal | None, timeout_s: float | None
    ) -> int:
        core, lock = self.core, self.core.lock
        size_bytes = sum([part.size_bytes + HEADER_BYTES for part in parts])
        with core.changed:
            check()
            self._retention.wait_for_room(stream_no, size_bytes, timeout_s)
            lock.check_lately()  # just before the write, and after it in any case
            group = self.appender.append(parts, stream_no)
            self.appender.wait_durable(group)
            lock.check_not_lost()
            if removal is not None and lock.is_held:
                self.appender.sync(group)
                remove(core, removal)
        return group.last_sequence

    @uninterrupted
    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, SegmentedReader]:
        self.core.lock.check()
        with self.core.changed:
            stream = self.core.stream_named(identity.name)
            if stream is None:
                stream = self._register(identity)
            check_is_free(identity.name, is_attached=stream.attached)
            if identity.quota_bytes != stream.row.quota_bytes:
                self.core.state.set_quota(stream.stream_no, identity.quota_bytes)
                stream.row = replace(stream.row, quota_bytes=identity.quota_bytes)
            stream.attached = True
            self.core.on_change()
            return StreamNo(stream.stream_no), self.readers[stream.stream_no]

    @uninterrupted
    def detach(self, stream_no: StreamNo) -> None:
        self.core.lock.check_process()
        with self.core.changed:
            if stream_no in self.core.streams:
                self.core.streams[stream_no].attached = False
                self.core.on_change()

    @uninterrupted
    def forget(self, identity: str) -> bool:
        self.core.lock.check()
        with self.core.changed:
            stream = self.core.stream_named(identity)
            if stream is None:
                return False
            check_can_be_forgotten(identity, is_attached=stream.attached)
            self.core.state.drop_stream(stream.stream_no)
            del self.core.streams[stream.stream_no], self.readers[stream.stream_no]
            finished = self._retention.take_finished()
            self.core.on_change()
            self.core.changed.notify_all()
        self._retention.discard(finished)
        return True

    @uninterrupted
    def registered(self) -> list[Registered]:
        readers = list(self.readers.items())
        return [
            Registered(StreamNo(stream_no), reader.stream.row.identity, reader.key, reader)
            for stream_no, reader in readers
        ]

    @uninterrupted
    def overview(self) -> list[StreamOverview]:
        return describe(self.core)

    @uninterrupted
    def cursor(self) -> dict[str, Any]:
        self.core.lock.check_process()
        with self.core.changed:
            return dict(self.core.cursor.value)

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self.core.answers[verb] = answer

    @uninterrupted
    def sync(self) -> None:
        """Make everything appended so far durable."""
        self.core.lock.check_process()
        with self.core.changed:
            self.appender.sync()

    @uninterrupted
    def close(self) -> None:
        """Sync and release the journal; a no-op in a forked child, and when called again.

        Raises:
            JournalBusyError: The lock was lost meanwhile; the journal is released all the same.
            JournalWriteError: The disk refuses; the same.
        """
        try:
            self.core.lock.check()
        except JournalError:
            self._leave()
            return
        with self.core.changed:
            try:
                self.appender.close()
            finally:
                self.core.release()

    def _leave(self) -> None:
        """Write nothing more once the lock is lost; a forked child touches nothing."""
        if self.core.lock.is_lost:
            with self.core.changed:
                self.appender.release()
                self.core.release()

    def _reader(self, stream: RegisteredStream) -> SegmentedReader:
        return SegmentedReader(self.core, self.appender, self._retention, stream)

    def _register(self, identity: StreamIdentity) -> RegisteredStream:
        core = self.core
        stream_no, position, key = core.last_stream_no + 1, Position(core.sequence), secrets.token_hex(8)
        row = StreamRow(
            stream_no, key, identity.name, identity.stream_type, identity.quota_bytes, position, Delivered(), None, None
        )
        core.state.keep_meta({"last_stream_no": stream_no})
        core.state.add_stream(row)
        core.streams[stream_no] = stream = RegisteredStream(core.segment_set, row)
        self.readers[stream_no] = self._reader(stream)
        core.last_stream_no, self.appender.needs_new_segment = stream_no, True
        return stream

    @uninterrupted
    def drop_rejected(self, stream_no: StreamNo, file: str, rows: int) -> None:
        self.core.lock.check()
        with self.core.changed:
            remove(self.core, removal_of(self.core, file, stream_no, rows))
