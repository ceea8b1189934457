"""The journal of one collector in a cluster: implements ``Journal`` with a log and a document for each stream."""

import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

from api2db import tracing
from api2db.cluster._aside import AsideFiles, Removals
from api2db.cluster._core import Core, usual
from api2db.cluster._documents import Document
from api2db.cluster._housekeeping import Housekeeping
from api2db.cluster._jetstream import FullError, JetStream, until_answered
from api2db.cluster._leases import Session
from api2db.cluster._log import Log, log_config
from api2db.cluster._names import Names
from api2db.cluster._publisher import MOST_MESSAGES, Group, Publisher
from api2db.cluster._reader import ClusterReader
from api2db.cluster._retention import Retention
from api2db.cluster._state import Place, StreamState
from api2db.errors import FrameError, JournalError
from api2db.frames import Frame, Refused
from api2db.interrupts import check, uninterrupted
from api2db.journal import (
    ALL,
    Durability,
    Flag,
    NotAttachedError,
    Position,
    ReadLimit,
    Registered,
    StreamIdentity,
    StreamNo,
    StreamOverview,
    answered,
    check_can_be_forgotten,
    check_is_free,
    cursor_json,
    parts_of,
)

logger = logging.getLogger(__name__)
_SLICE: Final = ReadLimit(rows=131_072, size_bytes=8 << 20)
_PLAIN_BYTES: Final = 1 << 20  # larger frames are compressed: each byte crosses the network several times
_MOST_EPOCHS: Final = 2048
_WAIT_S: Final = 20.0  # for enough servers for a new log

Prepare: TypeAlias = Callable[[str, dict[str, Any] | None], dict[str, Any]]
"""Given a collector and what the cluster kept of its journal, returns what it keeps from now on."""


class ClusterJournal:
    """See ``Journal``; every method may be called from any thread of the owning process.

    Args:
        home: The project's folder on this machine.
        name: The collector's name.
        durability: Kept for comparison: in a cluster every group is on the disks of a majority before ``append`` ends.
        jetstream: The cluster's.
        names: The project's.
        session: This process's, which holds the claim to the collector.
        prepare: What to keep of the journal from now on; it raises to refuse.

    Raises:
        JournalBusyError: Another worker owns it.
        JournalError: It was moved to a disk, or is being moved.
    """

    def __init__(
        self,
        home: Path,
        name: str,
        durability: Durability,
        jetstream: JetStream,
        names: Names,
        session: Session,
        prepare: Prepare = usual,
    ) -> None:
        self.durability = durability
        document = Document(jetstream, names.state, names.document(name, "journal"))
        self.core = Core(home, name, jetstream, names, Log(jetstream, names, name), document)
        self.retention = Retention(self.core)
        self.publisher = Publisher(self.core, self.retention, self._accept, self._found)
        self.files = AsideFiles(self.core, self.publisher)
        self._removals = Removals(self.core, self.files)
        self._answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self._session = session
        self.housekeeping = Housekeeping(self.core, self.retention, self._removals)
        session.claim(name, self.core.lose)
        try:
            self._open(prepare)
            self._end_answers = jetstream.connection.answer(names.ask(name), self._answer)
        except BaseException:
            session.release(name)
            raise

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
        self.core.check()
        parts = parts_of(frames, _SLICE, _PLAIN_BYTES)
        if removes is not None:
            for part in parts:
                part.flags |= Flag.RETRIED
        rows = sum(part.rows for part in parts)
        group = Group(parts, stream_no, None if cursor is None else cursor_json(cursor))
        size_bytes = group.size_bytes + len(group.cursor or b"")
        if size_bytes > MOST_MESSAGES * self.publisher.message_bytes:
            raise FrameError(
                f"a group of {size_bytes} bytes is too large for the cluster, which takes "
                f"{MOST_MESSAGES * self.publisher.message_bytes} at once; put smaller frames"
            )
        if not parts and cursor is None and removes is None:
            return self.core.log.end.sequence
        with tracing.begin("journal", "producer", collector=self.core.name, frames=len(frames), rows=rows) as span:
            group.trace = (span.context or b"").hex()
            if removes is None:
                return self._append(group, timeout_s if block else 0)
            return self._remove(group, removes, rows, timeout_s if block else 0)

    @uninterrupted
    def _append(self, group: Group, timeout_s: float | None) -> int:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self.core.changed:
                check()
                if group.parts:
                    self.retention.wait_for_room(group.stream_no, group.size_bytes, deadline_s)
                self.core.check()
                if group.stream_no not in self.core.readers and group.stream_no != ALL:
                    raise NotAttachedError("the stream was forgotten; start it again")
            self.publisher.publish(group)
            if not isinstance(group.error, FullError):
                break
            self.retention.wait_for_space(group.stream_no, group.size_bytes, group.error, deadline_s)
            group.error, group.is_done = None, False
        if group.error is not None:
            raise group.error
        return group.last_sequence

    def _remove(self, group: Group, file: str, rows: int, timeout_s: float | None) -> int:
        """Store a group together with the removal of a file whose rows it has, or whose rows are dropped."""
        self.publisher.settle()  # A removal whose answer was lost must be known by now.
        group.removal = self._removals.begin(file, group.stream_no, rows)
        try:
            sequence = self._append(group, timeout_s)
        except BaseException:
            self._removals.cancel(group.removal)
            raise
        self._removals.finish()
        return sequence

    def _accept(self, groups: Sequence[Group]) -> None:
        """Show groups that were stored to the readers; called with the lock held."""
        for group in groups:
            if group.removal is not None:
                self._removals.note(group.removal_number, group.removal)
            for reader in self.core.receivers(ALL):
                reader.accept(group.records)

    def _found(self) -> None:
        """Read what a publication without an answer has stored."""
        self._removals.load()

    @uninterrupted
    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, ClusterReader]:
        with self.core.checked():
            reader = self.core.named(identity.name) or self._register(identity)
            check_is_free(identity.name, is_attached=reader.state.attached)
            reader.change(identity=identity, attached=True)
        self.retention.limit()
        return reader.state.stream_no, reader

    @uninterrupted
    def detach(self, stream_no: StreamNo) -> None:
        self.core.check_process()
        with self.core.changed:
            if stream_no in self.core.readers:
                self.core.readers[stream_no].change(attached=False)

    def registered(self) -> list[Registered]:
        readers = list(self.core.readers.items())
        return [Registered(number, each.state.identity.name, each.key, each) for number, each in readers]

    @uninterrupted
    def forget(self, identity: str) -> bool:
        with self.core.checked():
            reader = self.core.named(identity)
            if reader is None:
                return False
            check_can_be_forgotten(identity, is_attached=reader.state.attached)
            number = reader.state.stream_no
            self.core.keep(streams=[each for each in self.core.kept["streams"] if each != number])
            del self.core.readers[number]
            self.core.changed.notify_all()
        self.core.stream_document(number).remove()
        return True

    def drop_rejected(self, stream_no: StreamNo, file: str, rows: int) -> None:
        self._remove(Group((), stream_no), file, rows, None)

    def overview(self) -> list[StreamOverview]:
        self.core.check_process()
        found = []
        for reader in list(self.core.readers.values()):
            state, total = replace(reader.state, oldest_ns=reader.oldest_ns()), self.core.log.end.total
            found.append(state.overview(self.core.name, total(state.stream_no), running=state.attached))
        return found

    @uninterrupted
    def cursor(self) -> dict[str, Any]:
        self.core.check_process()
        self.publisher.settle()
        return dict(json.loads(self.publisher.cursor))

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self._answers[verb] = answer

    def _answer(self, request: bytes) -> bytes:
        return answered(request, self._answers) or b""

    @uninterrupted
    def close(self) -> None:
        """Save what is known, and give the collector to whoever wants it; a no-op when called again."""
        if self.core.pid != os.getpid():
            return
        was_closed = self.core.end()
        self._end_answers()
        self.core.log.leave()
        if was_closed:
            return
        try:
            self.housekeeping.save_changes()
            self.housekeeping.publish_details()
        except JournalError as error:
            logger.warning(
                "the last positions of %s are not saved, but the ledgers have them: %s", self.core.name, error
            )
        self._session.release(self.core.name)

    def _open(self, prepare: Prepare) -> None:
        core = self.core
        core.kept = prepare(core.name, core.document.load())
        core.keep(
            open_count=core.kept["open_count"] + 1,
            epochs=[*core.kept["epochs"], secrets.token_hex(8)][-_MOST_EPOCHS:],
        )
        config = log_config(core.names, core.name, core.jetstream.connection.address.replicas)
        until_answered(lambda: core.jetstream.make_stream(config), _WAIT_S)
        self.retention.take(core.kept["open_count"])
        self.publisher.begin()
        self.housekeeping.load_details()
        for number in core.kept["streams"]:
            document = core.stream_document(number)
            said = document.load()
            if said is None:
                raise JournalError(f"the cluster has lost the state of stream {number} of {core.name}")
            reader = ClusterReader(core, self.files, StreamState.of(said), document)
            core.readers[StreamNo(number)] = reader
            reader.change(attached=False)
            reader.save_if_changed()  # From now on the last owner can't write it.
        self.files.load()
        self._removals.load()
        self._removals.finish()
        self.retention.limit()

    def _register(self, identity: StreamIdentity) -> ClusterReader:
        """Register a stream at the log's end; nothing is published meanwhile."""
        core = self.core
        with self.publisher.pausing():
            if (found := core.named(identity.name)) is not None:
                return found  # registered by another thread during the wait
            end = core.log.end
            number = StreamNo(core.kept.get("last_stream_no", 0) + 1)
            place, position = Place(end.rows + 1, end.rows), Position(self.publisher.sequence)
            state = StreamState(number, secrets.token_hex(8), identity, position, place, end.total(number))
            document = core.stream_document(number)
            document.save(state.as_json())
            core.keep(streams=[*core.kept["streams"], number], last_stream_no=number)
            reader = core.readers[number] = ClusterReader(core, self.files, state, document)
            return reader
