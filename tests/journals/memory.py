"""A second implementation of the journal's port: journals in this process's memory, which outlive their handles.

It is small and strict. What the suites of delivery, streams and collectors need of a journal is what stands in the
port; what they need beyond that shows here. A disk is nowhere needed but to remove a file that a put replaces.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from api2db import tracing
from api2db.errors import BacklogFullError, ConfigurationError, JournalBusyError
from api2db.frames import EncodedRows, Frame, Refused, Rows, one_batch
from api2db.journal import (
    ALL,
    Backlog,
    Checkpoint,
    CheckpointKind,
    Delivered,
    DiskFolder,
    Durability,
    Entry,
    JournalHandle,
    JournalOverview,
    NotAttachedError,
    Position,
    ReadLimit,
    Registered,
    RejectedFile,
    StreamIdentity,
    StreamNo,
    StreamOverview,
    Superseded,
    Tell,
    check_can_be_forgotten,
    check_is_free,
    check_process,
    cursor_json,
    file_below,
    read_rejected_on_disk,
    rejected_on_disk,
)
from api2db.texts import redact

_OVERHEAD_BYTES = 64
_WITHOUT_LIMIT = ReadLimit(1 << 62, 1 << 62)


@dataclass(frozen=True)
class _Record:
    sequence: int
    timestamp_ns: int
    stream_no: StreamNo
    batch: pa.RecordBatch
    frame_end: bool
    retried: bool
    refused: bool
    trace: bytes | None = None

    @property
    def size_bytes(self) -> int:
        return int(self.batch.nbytes) + _OVERHEAD_BYTES


@dataclass
class _Stream:
    """What is kept of a stream while nobody has the journal open."""

    stream_no: StreamNo
    identity: StreamIdentity
    position: Position
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    delivered: Delivered = field(default_factory=Delivered)
    checkpoints: dict[CheckpointKind, str] = field(default_factory=dict)
    error: str | None = None
    error_at: float | None = None


@dataclass(frozen=True)
class _Removal:
    """A file whose rows were put again or dropped, until it is gone."""

    file: Path
    known_by: tuple[int, int]
    stream_no: StreamNo
    rows: int


@dataclass
class _Kept:
    """What is kept of a journal while nobody has it open."""

    journal_id: str = field(default_factory=lambda: secrets.token_hex(8))
    epochs: list[str] = field(default_factory=list)
    records: list[_Record] = field(default_factory=list)
    streams: dict[StreamNo, _Stream] = field(default_factory=dict)
    cursor: str = "{}"
    sequence: int = 0
    timestamp_ns: int = 0
    last_stream_no: int = 0
    figures: str | None = None
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    removals: list["_Removal"] = field(default_factory=list)
    open: "MemoryJournal | None" = None
    users: int = 0


class MemoryReader:
    """See ``AttachedStream``."""

    def __init__(self, journal: "MemoryJournal", stream: _Stream) -> None:
        self.stream = stream
        self.attached = False
        self._tell: Tell = lambda _rows, _size_bytes: None
        self.details: Callable[[], Mapping[str, Any]] = dict
        self._journal = journal
        self._changed = journal.changed
        self._woken = False
        self._warning: str | None = None
        self._refused_bytes = 0

    @property
    def journal_id(self) -> str:
        return self._journal.kept.journal_id

    @property
    def key(self) -> str:
        return self.stream.key

    @property
    def epoch(self) -> str:
        return self._journal.kept.epochs[-1]

    def knows_epoch(self, epoch: str) -> bool:
        return epoch in self._journal.kept.epochs

    @property
    def position(self) -> Position:
        return self.stream.position

    @property
    def delivered(self) -> Delivered:
        return self.stream.delivered

    @property
    def waiting_bytes(self) -> int:
        with self._changed:
            return sum(record.size_bytes for record in self._behind(self.position))

    @property
    def waiting_rows(self) -> int:
        with self._changed:
            return sum(record.batch.num_rows for record in self._behind(self.position))

    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        with self._journal.checked():
            if after is not None:
                return self._entries(self._behind(after), after, limit)
            self._changed.wait_for(lambda: self._woken or self._waits() or self._journal.closed, timeout_s)
            self._journal.check()
            if not self._waits():
                self._woken = False
            return self._entries(self._behind(self.position), self.position, limit)

    def newest(self) -> tuple[list[Entry], Superseded]:
        with self._journal.checked():
            waiting = list(self._behind(self.position))
            if not waiting:
                return [], Superseded()
            newest_ns = next((each for each in reversed(waiting) if each.batch.num_rows), waiting[-1]).timestamp_ns
            before = [record for record in waiting if record.timestamp_ns < newest_ns]
            taken = [record for record in waiting if record.timestamp_ns == newest_ns]
            skipped = self.position.skip if before else 0
            entries = self._entries(taken, Position(0) if before else self.position, _WITHOUT_LIMIT)
            frames, rows = (sum(record.frame_end for record in before), sum(each.batch.num_rows for each in before))
            return entries, Superseded(frames, rows - skipped)

    def acknowledge(self, position: Position, delivered: Delivered, *, clear: Collection[CheckpointKind] = ()) -> None:
        with self._journal.checked():
            if position != self.position:
                self._show(self._warning)
            self.stream.position = position
            self.stream.delivered = Delivered(
                *(getattr(self.delivered, name) + getattr(delivered, name) for name in Delivered.__dataclass_fields__)
            )
            for kind in clear:
                self.stream.checkpoints.pop(kind, None)
            self._changed.notify_all()

    def seek(self, position: Position) -> Backlog:
        with self._journal.checked():
            before, self.stream.position = self._counted(), position
            after = self._counted()
            self._changed.notify_all()
            frames, rows, size_bytes = (max(0, one - other) for one, other in zip(before, after, strict=True))
            return Backlog(frames, rows, size_bytes, None)

    def files(self, folder: Path) -> DiskFolder:
        return DiskFolder(folder, self.key)

    def checkpoint(self, kind: CheckpointKind) -> Checkpoint | None:
        self._journal.check_process()
        kept = self.stream.checkpoints.get(kind)
        return None if kept is None else dict(json.loads(kept))

    def save(self, kind: CheckpointKind, checkpoint: Checkpoint) -> None:
        with self._journal.checked():
            self.stream.checkpoints[kind] = json.dumps(checkpoint)

    def set_error(self, trouble: str | None) -> None:
        self._show(redact(trouble) if trouble else self._warning)

    def add_warning(self, warning: str) -> None:
        self._warning = redact(warning)
        self.set_error(None)

    def on_news(self, tell: Tell) -> None:
        self._journal.check_process()
        self._tell = tell

    def tell(self) -> None:
        self._tell(self.waiting_rows, self.waiting_bytes)

    def on_details(self, details: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        before = self._journal.kept.details.get(self.stream.identity.name, {})
        self.details = details
        return before

    def wake(self) -> None:
        self._journal.check_process()
        with self._changed:
            self._woken = True
            self._changed.notify_all()
            self.tell()

    @property
    def is_full(self) -> bool:
        with self._changed:
            return not self.has_room(max(1, self._refused_bytes))

    def mark(self) -> int:
        self._journal.check_process()
        return self._journal.kept.sequence

    def wait_for(self, mark: int, timeout_s: float | None) -> bool:
        self._journal.check_process()
        with self._changed:
            self._changed.wait_for(lambda: self._has_passed(mark) or self._journal.closed, timeout_s)
            return self._has_passed(mark)

    def has_room(self, size_bytes: int) -> bool:
        quota, waiting = self.stream.identity.quota_bytes, self.waiting_bytes
        return quota is None or not waiting or self._stored_bytes(waiting) + size_bytes <= quota

    def refuse(self, size_bytes: int) -> str:
        """Remember a group that was refused, and say why."""
        self._refused_bytes = size_bytes
        identity, stored_bytes = self.stream.identity, self._stored_bytes(self.waiting_bytes)
        return (
            f"{identity.name} has {stored_bytes} bytes; {size_bytes} more would exceed its max_backlog_bytes of "
            f"{identity.quota_bytes}"
        )

    def accept(self) -> None:
        """A group has come."""
        self._refused_bytes = 0
        self.tell()

    def overview(self, collector: str) -> StreamOverview:
        frames, rows, size_bytes = self._counted()
        oldest = next(self._behind(self.position), None)
        parked, told = self.checkpoint("parked") or {}, self.delivered
        return StreamOverview(
            collector=collector,
            identity=self.stream.identity.name,
            stream_type=self.stream.identity.stream_type,
            running=self.attached,
            frames_waiting=frames,
            rows_waiting=rows,
            bytes_waiting=size_bytes,
            frames_delivered=told.frames,
            rows_delivered=told.rows,
            rows_parked=parked.get("rows", 0),
            rows_rejected=max(0, told.rejected),
            rows_superseded=told.superseded,
            duplicates_dropped=told.duplicates,
            oldest_ns=oldest.timestamp_ns if oldest else None,
            last_error=self.stream.error,
            error_at=self.stream.error_at,
        )

    def _stored_bytes(self, waiting_bytes: int) -> int:
        parked = self.checkpoint("parked") or {}
        return waiting_bytes + int(parked.get("size_bytes", 0)) + max(0, self.delivered.rejected_bytes)

    def _behind(self, position: Position) -> Iterator[_Record]:
        for record in self._journal.kept.records:
            if record.sequence > position.sequence and record.stream_no in {ALL, self.stream.stream_no}:
                yield record

    def _has_passed(self, mark: int) -> bool:
        return all(record.sequence > mark for record in self._behind(self.position))

    def _waits(self) -> bool:
        return next(self._behind(self.position), None) is not None

    def _counted(self) -> tuple[int, int, int]:
        waiting = list(self._behind(self.position))
        rows = sum(record.batch.num_rows for record in waiting) - (self.position.skip if waiting else 0)
        return sum(record.frame_end for record in waiting), rows, sum(record.size_bytes for record in waiting)

    def _entries(self, records: Iterable[_Record], after: Position, limit: ReadLimit) -> list[Entry]:
        entries: list[Entry] = []
        rows = size_bytes = 0
        for record in records:
            is_full = rows >= limit.rows or size_bytes >= limit.size_bytes
            if is_full and (entries[-1].frame_end or not limit.whole_frames):
                break
            skip = after.skip if record.sequence == after.sequence + 1 else 0
            taken = record.batch.slice(skip, None if limit.whole_frames else limit.rows - rows)
            reached = skip + taken.num_rows
            is_whole = reached == record.batch.num_rows
            position = Position(record.sequence) if is_whole else Position(record.sequence - 1, reached)
            frame_end = is_whole and record.frame_end
            fate = record.retried, record.refused
            entries.append(Entry(position, record.timestamp_ns, taken, frame_end, *fate, record.trace))
            rows += taken.num_rows
            size_bytes += entries[-1].size_bytes
        return entries

    def _show(self, error: str | None) -> None:
        if error != self.stream.error:
            self.stream.error, self.stream.error_at = error, time.time() if error else None


class MemoryJournal:
    """See ``Journal``."""

    def __init__(self, home: Path, name: str, kept: _Kept, durability: Durability) -> None:
        self.kept = kept
        self.durability = durability
        self.closed = False
        self.changed = threading.Condition(threading.RLock())
        self.answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self._home = home
        self._name = name
        self._pid = os.getpid()
        kept.epochs.append(secrets.token_hex(8))
        self._readers = {stream_no: MemoryReader(self, stream) for stream_no, stream in kept.streams.items()}
        self._finish_removals()

    @property
    def journal_id(self) -> str:
        return self.kept.journal_id

    def check_process(self) -> None:
        check_process(self._name, self._pid)

    def check(self) -> None:
        self.check_process()
        if self.closed:
            raise NotAttachedError(f"the journal of {self._name} has been closed; start the stream again")

    def checked(self) -> threading.Condition:
        """The lock, where this process may use the journal."""
        self.check()
        return self.changed

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
        rows = sum(frame.num_rows for frame in frames)
        with tracing.begin("journal", "producer", collector=self._name, frames=len(frames), rows=rows) as span:
            records = partial(self._records, frames, stream_no, retried=removes is not None, trace=span.context)
            return self._append(records, stream_no, cursor, removes, timeout_s if block else 0)

    def _append(
        self,
        made: Callable[[], list[_Record]],
        stream_no: StreamNo,
        cursor: Mapping[str, Any] | None,
        removes: str | None,
        timeout_s: float | None,
    ) -> int:
        said = cursor_json(cursor).decode() if cursor is not None else None
        file = None if removes is None else self._file(removes)
        with self.checked():
            records = made()
            readers = [reader for number, reader in self._readers.items() if stream_no in {ALL, number}]
            if records:
                self._wait_for_room(readers, sum(record.size_bytes for record in records), timeout_s)
            self.check()
            if stream_no not in self._readers and stream_no != ALL:
                raise NotAttachedError("the stream was forgotten; start it again")
            records = made()
            self.kept.records += records
            if records:
                self.kept.sequence, self.kept.timestamp_ns = records[-1].sequence, records[-1].timestamp_ns
            self.kept.cursor = self.kept.cursor if said is None else said
            if file is not None:
                self._remove(file, stream_no, sum(record.batch.num_rows for record in records))
            for reader in readers if records else []:
                reader.accept()
            self.changed.notify_all()
            return self.kept.sequence

    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, MemoryReader]:
        with self.checked():
            reader = self._reader(identity.name)
            if reader is None:
                self.kept.last_stream_no += 1
                stream = _Stream(StreamNo(self.kept.last_stream_no), identity, Position(self.kept.sequence))
                self.kept.streams[stream.stream_no] = stream
                reader = self._readers[stream.stream_no] = MemoryReader(self, stream)
            check_is_free(identity.name, is_attached=reader.attached)
            reader.stream.identity = identity
            reader.attached = True
            return reader.stream.stream_no, reader

    def detach(self, stream_no: StreamNo) -> None:
        self.check_process()
        with self.changed:
            if stream_no in self._readers:
                self._readers[stream_no].attached = False

    def registered(self) -> list[Registered]:
        return [Registered(no, each.stream.identity.name, each.key, each) for no, each in self._readers.items()]

    def forget(self, identity: str) -> bool:
        with self.checked():
            reader = self._reader(identity)
            if reader is None:
                return False
            check_can_be_forgotten(identity, is_attached=reader.attached)
            del self._readers[reader.stream.stream_no], self.kept.streams[reader.stream.stream_no]
            return True

    def drop_rejected(self, stream_no: StreamNo, file: str, rows: int) -> None:
        with self.checked():
            self._remove(self._file(file), stream_no, rows)

    def overview(self) -> list[StreamOverview]:
        self.check_process()
        with self.changed:
            return [reader.overview(self._name) for reader in self._readers.values()]

    def details(self) -> dict[str, dict[str, Any]]:
        return {each.stream.identity.name: dict(each.details()) for each in self._readers.values()}

    def cursor(self) -> dict[str, Any]:
        self.check_process()
        return dict(json.loads(self.kept.cursor))

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self.answers[verb] = answer

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            for reader in self._readers.values():
                reader.tell()

    def _reader(self, identity: str) -> MemoryReader | None:
        return next((each for each in self._readers.values() if each.stream.identity.name == identity), None)

    def _records(
        self, frames: Sequence[Frame | Refused], stream_no: StreamNo, *, retried: bool, trace: bytes | None
    ) -> list[_Record]:
        records: list[_Record] = []
        time_ns = max(time.time_ns(), self.kept.timestamp_ns + 1)
        for at, frame in enumerate(frames):
            refused = isinstance(frame, Refused)
            batch = _stored(one_batch(_rows_of(frame)))
            frame_end = not refused or at == len(frames) - 1
            sequence = self.kept.sequence + 1 + len(records)
            records.append(_Record(sequence, time_ns, stream_no, batch, frame_end, retried, refused, trace))
            time_ns += frame_end
        return records

    def _wait_for_room(self, readers: Sequence[MemoryReader], size_bytes: int, timeout_s: float | None) -> None:
        def has_room() -> bool:
            return self.closed or all(reader.has_room(size_bytes) for reader in readers)

        if not self.changed.wait_for(has_room, timeout_s):
            reasons = [reader.refuse(size_bytes) for reader in readers if not reader.has_room(size_bytes)]
            raise BacklogFullError("; ".join(reasons))

    def _file(self, name: str) -> Path:
        file = file_below(self._home, name)
        if any((file, _known_by(file)) == (other.file, other.known_by) for other in self.kept.removals):
            raise ConfigurationError(f"the rows of {name} were put again or dropped before")
        return file

    def _remove(self, file: Path, stream_no: StreamNo, rows: int) -> None:
        known_by = _known_by(file)
        if known_by is not None:
            self.kept.removals.append(_Removal(file, known_by, stream_no, rows))
            self._finish_removals()

    def _finish_removals(self) -> None:
        for removal in list(self.kept.removals):
            with suppress(OSError):
                if _known_by(removal.file) == removal.known_by:
                    removal.file.unlink()
                self.kept.removals.remove(removal)
                if removal.stream_no in self.kept.streams:
                    stream = self.kept.streams[removal.stream_no]
                    rejected = stream.delivered.rejected - removal.rows
                    rejected_bytes = stream.delivered.rejected_bytes - removal.known_by[0]
                    stream.delivered = replace(stream.delivered, rejected=rejected, rejected_bytes=rejected_bytes)


class _Handle:
    def __init__(self, journal: MemoryJournal) -> None:
        self.journal = journal
        self._is_held = True
        self._pid = os.getpid()

    def release(self) -> None:
        kept = self.journal.kept
        with _lock:
            if not self._is_held or self._pid != os.getpid():
                return
            self._is_held = False
            kept.users -= 1
            if not kept.users:
                kept.open = None
                self.journal.close()


_lock = threading.RLock()
_homes: dict[Path, dict[str, _Kept]] = {}


class MemoryJournalStore:
    """See ``JournalStore``. Two stores of one home have the same journals, as two clients of one server do."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._journals = _homes.setdefault(home.resolve(), {})

    def open(self, name: str, durability: Durability = "full") -> JournalHandle:
        with _lock:
            kept = self._journals.setdefault(name, _Kept())
            journal = kept.open
            if journal is None:
                journal = kept.open = MemoryJournal(self._home, name, kept, durability)
            journal.check_process()
            if journal.durability != durability:
                raise ConfigurationError(f"the journal of {name} is open with durability={journal.durability!r}")
            kept.users += 1
            return _Handle(journal)

    def names(self) -> list[str]:
        return sorted(self._journals)

    def check_free(self, name: str) -> None:
        kept = self._journals.get(name)
        if kept is not None and kept.open is not None:
            raise JournalBusyError(f"the journal of {name} belongs to a running process")

    def overview(self, name: str) -> JournalOverview:
        kept = self._journals.get(name)
        if kept is None:
            return JournalOverview()
        if kept.open is not None:
            return JournalOverview(running=True, streams=tuple(kept.open.overview()))
        unowned = MemoryJournal(self._home, name, replace(kept, epochs=[]), "full")
        return JournalOverview(streams=tuple(unowned.overview()))

    def details(self, name: str) -> dict[str, dict[str, Any]]:
        kept = self._journals.get(name)
        if kept is None:
            return {}
        if kept.open is not None:
            kept.details |= {identity: said for identity, said in kept.open.details().items() if said}
        return kept.details

    def request(self, name: str, verb: str, arguments: Mapping[str, Any]) -> Any:
        journal = self._journals[name].open
        if journal is None or verb not in journal.answers:
            raise JournalBusyError(f"nobody answers for the journal of {name}")
        return json.loads(json.dumps(journal.answers[verb](dict(arguments))))

    def rejected_files(self) -> list[RejectedFile]:
        return rejected_on_disk(self._home)

    def read_rejected(self, file: str) -> bytes | None:
        return read_rejected_on_disk(self._home, file)

    def publish(self, name: str, figures: Mapping[str, Any]) -> None:
        self._journals[name].figures = json.dumps(figures)

    def published(self, name: str) -> dict[str, Any] | None:
        kept = self._journals.get(name)
        return None if kept is None or kept.figures is None else dict(json.loads(kept.figures))


def forget_all() -> None:
    """Drop every journal of this process."""
    _homes.clear()


def _known_by(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _rows_of(frame: Frame | Refused) -> Rows:
    if isinstance(frame, EncodedRows):
        return frame.batch()
    return frame.rows if isinstance(frame, Refused) else frame


def _stored(batch: pa.RecordBatch) -> pa.RecordBatch:
    """As it is read back from bytes, so that no buffer is shared with whoever put it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pa.ipc.open_stream(sink.getvalue()) as reader:
        return reader.read_next_batch()
