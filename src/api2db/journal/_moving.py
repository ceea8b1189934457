"""Take the content of a journal from this disk, or put it there, when it moves to or from another kind of journal.

The file ``moved`` in a journal's folder says that the journal is not here, or not yet: nobody opens it. Taking writes
it once the content is elsewhere; putting writes it first, and removes it once the content is here and nowhere else. So
whenever either is killed, at most one of the two journals can be used.
"""

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from api2db.disk.atomic import make_folders, replacing, sync_folder, write_json
from api2db.errors import ConfigurationError
from api2db.journal._appender import Appender
from api2db.journal._aside import METADATA_KEY, rejected_on_disk
from api2db.journal._core import Core
from api2db.journal._journal import SEGMENT_BYTES
from api2db.journal._opening import MOVED_NAME, moved_by, open_core
from api2db.journal._overview import details, journal_folder
from api2db.journal._record import Flag, Headers, Mask, RecordKind
from api2db.journal._registered import RegisteredStream
from api2db.journal._retention import Retention
from api2db.journal._rows import Part, json_part, rows_of, trace_of
from api2db.journal._scan import Damage, Record
from api2db.journal._segment import BEGINNING
from api2db.journal._state_file import StreamRow
from api2db.journal.port import ALL, Checkpoint, CheckpointKind, Delivered, Position, StreamIdentity, StreamNo

_KEPT: Final = frozenset({MOVED_NAME, "damaged"})
_KINDS: Final[tuple[CheckpointKind, ...]] = ("plan", "parked", "pending", "rebuilt", "adopt")


@dataclass(frozen=True, slots=True)
class MovedRecord:
    """A slice of a frame that waits, under the number and the time that it keeps.

    Attributes:
        part: Its rows. Its flags are ``FRAME_END``, ``STREAM``, ``RETRIED`` and ``REFUSED``.
        trace: The context of the span that put it.
    """

    sequence: int
    timestamp_ns: int
    stream_no: StreamNo
    part: Part
    trace: bytes | None = None


@dataclass(frozen=True, slots=True)
class MovedStream:
    """A registered stream with all that is kept of it."""

    stream_no: StreamNo
    key: str
    identity: StreamIdentity
    position: Position
    delivered: Delivered
    checkpoints: Mapping[CheckpointKind, Checkpoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MovedFile:
    """A file of rejected rows.

    Attributes:
        file: Its name, relative to the home.
        key: The key of its stream.
    """

    file: str
    key: str


@dataclass(frozen=True, slots=True)
class MovedJournal:
    """What is kept of a journal beside its records.

    Attributes:
        counter: How often it was opened.
        epochs: The random id of each open, and its counter.
        sequence: The highest sequence number that was given.
        timestamp_ns: The highest time that was given.
        details: What its streams said of themselves last, by identity.
    """

    journal_id: str
    counter: int
    epochs: Mapping[str, int]
    last_stream_no: int
    sequence: int
    timestamp_ns: int
    cursor: Mapping[str, Any]
    streams: Sequence[MovedStream]
    details: Mapping[str, Any] = field(default_factory=dict)


class LeavingJournal:
    """A journal on this disk whose content is taken; nobody else has it open meanwhile.

    Args:
        home: The project's folder.
        name: The collector's name.

    Raises:
        JournalBusyError: A process has it open.
        ConfigurationError: There is no such journal.
        JournalError: The disk refuses.
    """

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._name = name
        self._folder = journal_folder(home, name)
        self._core: Core | None = None
        if not self._folder.exists():
            raise ConfigurationError(f"there is no journal of a collector {name!r} on this disk; see: api2db status")
        if self.left is None:
            self._core = open_core(home, self._folder, "full")

    @property
    def left(self) -> Mapping[str, Any] | None:
        """What ``leave`` has recorded; None before that."""
        return moved_by(self._folder)

    @property
    def core(self) -> Core:
        """The open journal."""
        if self._core is None:
            raise AssertionError("the journal has left")
        return self._core

    def content(self) -> MovedJournal:
        """All but the records."""
        core = self.core
        return MovedJournal(
            core.journal_id,
            core.counter,
            dict(core.epochs),
            core.last_stream_no,
            max([core.sequence, *(segment.last_sequence for segment in core.segment_set.segments.values())]),
            core.timestamp_ns,
            core.cursor.value,
            [self._stream(stream) for stream in core.streams.values()],
            details(self._folder),
        )

    def _stream(self, stream: RegisteredStream) -> MovedStream:
        row, number = stream.current_row(), stream.stream_no
        found = {kind: self.core.state.checkpoint(number, kind) for kind in _KINDS}
        return MovedStream(
            StreamNo(number),
            row.key,
            StreamIdentity(row.identity, row.stream_type, row.quota_bytes),
            row.position,
            row.delivered,
            {kind: checkpoint for kind, checkpoint in found.items() if checkpoint is not None},
        )

    def records(self, after: int) -> Iterator[MovedRecord]:
        """Yield what waits for any stream, in its order, from a sequence number on; damaged records are set aside."""
        segments = self.core.segment_set
        for block in segments.blocks(BEGINNING, segments.visible, self._waits, payloads=True):
            for number in range(len(block)):
                record = block.record(number, payload=True)
                if record.header.sequence <= after:
                    continue
                if zlib.crc32(record.payload) != record.header.payload_crc:
                    segments.set_aside(record.segment, Damage(record.start, record.end))
                    continue
                yield self._moved(record)

    def _waits(self, headers: Headers) -> Mask:
        wanted = np.zeros(len(headers), np.bool_)
        for stream in self.core.streams.values():
            wanted |= stream.wants(headers)
        return wanted

    def _moved(self, record: Record) -> MovedRecord:
        header, payload = record.header, bytes(rows_of(record.header, record.payload))
        schema = None
        if not header.flags & Flag.STREAM:
            schema = self.core.segment_set.schemas(record)[header.schema].serialize().to_pybytes()
        flags = header.flags & (Flag.FRAME_END | Flag.STREAM | Flag.RETRIED | Flag.REFUSED)
        part = Part(RecordKind.ROWS, payload, len(payload), zlib.crc32(payload), flags, header.rows, 0, schema)
        trace = trace_of(header, record.payload)
        return MovedRecord(header.sequence, header.timestamp_ns, StreamNo(header.stream_no), part, trace)

    def rejected(self) -> list[MovedFile]:
        """The files of rejected rows of this journal that are not being removed."""
        removed = {removal.file for removal in self.core.removals}
        found = []
        for listed in rejected_on_disk(self._home):
            parts = Path(listed.file).parts
            if parts[2] != self._name or listed.file in removed:
                continue
            with suppress(KeyError, ValueError, pa.ArrowInvalid):
                said = json.loads((pq.read_schema(self._home / listed.file).metadata or {})[METADATA_KEY])
                if said["journal"] == self.core.journal_id:
                    found.append(MovedFile(listed.file, said["stream"]))
        return found

    def leave(self, token: str, where: str, files: Sequence[str]) -> None:
        """Record that the journal is elsewhere; from now on nobody opens it here.

        Args:
            token: The random id of this move.
            where: The place, for people.
            files: What ``clean`` removes beside the journal, relative to the home.
        """
        _mark(self._folder, {"token": token, "where": where, "files": list(files), "journal": self.core.journal_id})

    def clean(self) -> None:
        """Remove what has left; a no-op for what is gone."""
        left = self.left
        if left is None:
            raise AssertionError("the journal is still here")
        self.close()
        for file in left["files"]:
            (self._home / file).unlink(missing_ok=True)
        _empty(self._folder)

    def close(self) -> None:
        """Release the journal."""
        core, self._core = self._core, None
        if core is not None:
            with core.changed:
                core.release()


class ArrivingJournal:
    """A journal that is made on this disk, which nobody opens before it is complete.

    Args:
        home: The project's folder.
        name: The collector's name.
        token: The random id of this move.
        where: Where the journal is until then, for people.
        moved: What is kept of it beside its records.

    Raises:
        ConfigurationError: There is another journal of that name.
        JournalBusyError: Another process makes it now.
    """

    def __init__(self, home: Path, name: str, token: str, where: str, moved: MovedJournal) -> None:
        self._folder = journal_folder(home, name)
        check_can_arrive(home, name)
        make_folders(self._folder)
        before = moved_by(self._folder) or {}
        self._home = home
        files = before["files"] if "arrives" in before else []
        self._said: dict[str, Any] = {"token": token, "where": where, "files": files, "journal": moved.journal_id}
        self._mark()
        _empty(self._folder)
        self._core = core = open_core(home, self._folder, "process", arrives=True)
        self._clock_ns = 0
        self._appender = Appender(core, Retention(core), lambda: self._clock_ns, SEGMENT_BYTES)
        core.journal_id, core.counter, core.last_stream_no = moved.journal_id, moved.counter, moved.last_stream_no
        core.epochs = {**moved.epochs}
        core.state.add_epochs({**moved.epochs, core.epoch: moved.counter})
        core.state.keep_meta({"journal": moved.journal_id, "last_stream_no": moved.last_stream_no})
        for stream in moved.streams:
            self._add(stream)
        if moved.details:
            write_json(self._folder / "details.json", moved.details)

    def _add(self, stream: MovedStream) -> None:
        core, number, said = self._core, stream.stream_no, stream.identity
        row = StreamRow(
            number, stream.key, said.name, said.stream_type, said.quota_bytes, stream.position, Delivered(), None, None
        )
        core.state.add_stream(row)
        core.state.move(number, stream.position, stream.delivered, (), durable=True)
        for kind, checkpoint in stream.checkpoints.items():
            core.state.save_checkpoint(number, kind, checkpoint)
        core.streams[number] = RegisteredStream(core.segment_set, row)

    def add(self, record: MovedRecord) -> None:
        """Add a record behind all others; what no stream waits for may be left out."""
        if record.stream_no != ALL and record.stream_no not in self._core.streams:
            return
        if record.trace is not None:
            record.part.add_trace(record.trace)
        self._append(record.sequence, record.timestamp_ns, record.stream_no, record.part)

    def put(self, file: str, content: bytes) -> None:
        """Write a file of rejected rows beside the journal; another file of its name stays.

        Args:
            file: Its name, relative to the home.
            content: The bytes.
        """
        path = self._home / file
        while path.exists() and path.read_bytes() != content:
            path = path.with_stem(str(int(path.stem) + 1))
        name = str(path.relative_to(self._home))
        if name not in self._said["files"]:
            self._said["files"] = [*self._said["files"], name]
            self._mark()
        if not path.exists():
            make_folders(path.parent)
            with replacing(path) as target:
                target.write(content)

    def _mark(self) -> None:
        """Record what is removed if the journal goes on where it was."""
        _mark(self._folder, {**self._said, "arrives": True})

    def complete(self, cursor: Mapping[str, Any], sequence: int, timestamp_ns: int) -> None:
        """Add the collector's state, and make everything durable.

        Args:
            cursor: The state.
            sequence: A number above all that were given.
            timestamp_ns: A time above all that were given.
        """
        payload = json.dumps(cursor).encode()
        self._append(sequence, timestamp_ns, ALL, json_part(RecordKind.CURSOR, payload))
        with self._core.changed:
            self._appender.close()
        self.close()

    def close(self) -> None:
        """Release the journal."""
        core = self._core
        if core.lock.is_held:
            with core.changed:
                self._appender.release()
                core.release()

    def _append(self, sequence: int, timestamp_ns: int, stream_no: StreamNo, part: Part) -> None:
        core = self._core
        with core.changed:
            core.sequence, core.timestamp_ns, self._clock_ns = sequence - 1, timestamp_ns - 1, timestamp_ns
            group = self._appender.append([part], stream_no)
            self._appender.wait_durable(group)


def arrive(home: Path, name: str, token: str) -> None:
    """Let the journal be opened, which is complete here and nowhere else.

    Args:
        home: The project's folder.
        name: The collector's name.
        token: The random id of the move that made it.

    Raises:
        ConfigurationError: It has left again since.
    """
    folder = journal_folder(home, name)
    said = moved_by(folder)
    if said is not None and said["token"] != token:
        raise ConfigurationError(f"the journal of {name} was here, and was moved on to {said['where']}")
    (folder / MOVED_NAME).unlink(missing_ok=True)
    sync_folder(folder)


def check_can_arrive(home: Path, name: str) -> None:
    """Raise unless a journal can be made here.

    Raises:
        ConfigurationError: There is one already.
    """
    folder = journal_folder(home, name)
    if folder.exists() and moved_by(folder) is None and any(each.name != "damaged" for each in folder.iterdir()):
        raise ConfigurationError(
            f"there is a journal of {name} on this disk already, in {folder}; it was not moved from here: remove it if "
            "it is not needed"
        )


def _mark(folder: Path, said: Mapping[str, Any]) -> None:
    with replacing(folder / MOVED_NAME) as file:
        file.write(json.dumps(said).encode())


def _empty(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.name in _KEPT:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    sync_folder(folder)
