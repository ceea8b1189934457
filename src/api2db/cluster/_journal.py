"""The journal of one collector in a cluster: implements ``Journal`` with a log and a document for each stream."""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from api2db import tracing
from api2db.cluster._connection import Message
from api2db.cluster._documents import Document, packed, unpacked
from api2db.cluster._jetstream import FullError, JetStream
from api2db.cluster._leases import Session
from api2db.cluster._log import Log, cursor_draft, log_config, removal_draft
from api2db.cluster._message import COUNTED_BYTES, HEAD_BYTES, ROWS, Draft, Record
from api2db.cluster._names import Names
from api2db.cluster._reader import ClusterReader
from api2db.cluster._state import Place, StreamState
from api2db.errors import (
    Api2dbError,
    BacklogFullError,
    ConfigurationError,
    FrameError,
    JournalBusyError,
    JournalError,
)
from api2db.frames import Refused, Rows
from api2db.interrupts import InterruptedCallError, check, uninterrupted, wait
from api2db.journal import (
    ALL,
    Durability,
    Flag,
    NotAttachedError,
    Part,
    Position,
    ReadLimit,
    Registered,
    StreamIdentity,
    StreamNo,
    StreamOverview,
    check_process,
    parts_of,
)
from api2db.texts import redact

logger = logging.getLogger(__name__)
_SLICE: Final = ReadLimit(rows=131_072, size_bytes=8 << 20)
_PLAIN_BYTES: Final = 1 << 20  # larger frames are compressed: each byte crosses the network several times
_TOGETHER_BYTES: Final = 4 << 20
_MOST_MESSAGES: Final = 900  # of the thousand that a batch may have
_MOST_EPOCHS: Final = 2048
_FULL_PAUSE_S: Final = 0.5
_DETAILS_S: Final = 1.0
_PURGE_S: Final = 1.0
_REMOVALS_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _Group:
    """What one ``append`` stores."""

    parts: Sequence[Part]
    stream_no: StreamNo
    cursor: bytes | None
    removal: Mapping[str, Any] | None
    trace: str = ""
    records: list[Record] = field(default_factory=list)
    last_sequence: int = 0
    is_done: bool = False
    error: BaseException | None = None

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes + COUNTED_BYTES for part in self.parts)


class ClusterJournal:
    """See ``Journal``; every method may be called from any thread of the owning process.

    Args:
        home: The project's folder on this machine.
        name: The collector's name.
        durability: Kept for comparison: in a cluster every group is on the disks of a majority before ``append`` ends.
        jetstream: The cluster's.
        names: The project's.
        session: This process's, which holds the claim to the collector.

    Raises:
        JournalBusyError: Another worker owns it.
    """

    def __init__(
        self, home: Path, name: str, durability: Durability, jetstream: JetStream, names: Names, session: Session
    ) -> None:
        self.durability = durability
        self.changed = threading.Condition(threading.RLock())
        self.answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {}
        self.is_closed = False
        self.log = Log(jetstream, names, name)
        self._home = home
        self._name = name
        self._pid = os.getpid()
        self._jetstream = jetstream
        self._names = names
        self._session = session
        self._lost: str | None = None
        self._queue: list[_Group] = []
        self._is_publishing = False
        self._details_s = self._purge_s = self._removals_s = 0.0
        self.told_details: dict[str, Any] = {}
        self._purged = 0
        self._message_bytes = jetstream.connection.max_payload - HEAD_BYTES
        self._document = Document(jetstream, names.state, names.document(name, "journal"))
        self._readers: dict[StreamNo, ClusterReader] = {}
        session.claim(name, self.lose)
        try:
            self._open()
            self._end_answers = jetstream.connection.answer(names.ask(name), self._answer)
        except BaseException:
            session.release(name)
            raise

    @property
    def journal_id(self) -> str:
        return str(self._kept["journal_id"])

    @property
    def epoch(self) -> str:
        """The random id of this open."""
        return str(self._kept["epochs"][-1])

    def knows_epoch(self, epoch: str) -> bool:
        """Whether the journal was ever opened under an epoch."""
        return epoch in self._kept["epochs"]

    def check_process(self) -> None:
        """Raise in a forked child.

        Raises:
            JournalBusyError: This is one.
        """
        check_process(self._name, self._pid)

    def check(self) -> None:
        """Raise unless this process may use the journal.

        Raises:
            JournalBusyError: It no longer owns it, or is a forked child.
            NotAttachedError: It was closed.
        """
        self.check_process()
        if self._lost is not None:
            raise JournalBusyError(f"this process no longer owns the journal of {self._name}: {self._lost}")
        if self.is_closed:
            raise NotAttachedError(f"the journal of {self._name} has been closed; start the stream again")

    def checked(self) -> threading.Condition:
        """The lock, where this process may use the journal."""
        self.check()
        return self.changed

    @property
    def is_lost(self) -> bool:
        """Whether another worker may own it by now."""
        return self._lost is not None

    def lose(self, reason: str) -> None:
        """Let go of the journal: another worker may own it."""
        with self.changed:
            if self._lost is None and not self.is_closed:
                logger.warning("the journal of %s is let go: %s", self._name, reason)
            self._lost = self._lost or reason
            self.is_closed = True
            self.changed.notify_all()
            for reader in self._readers.values():
                reader.tell()

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
        self.check()
        parts = parts_of(frames, _SLICE, _PLAIN_BYTES)
        if removes is not None:
            for part in parts:
                part.flags |= Flag.RETRIED
        removal = None if removes is None else self._removal(removes, stream_no, sum(part.rows for part in parts))
        group = _Group(parts, stream_no, None if cursor is None else _json(cursor), removal)
        if group.size_bytes > _MOST_MESSAGES * self._message_bytes:
            raise FrameError(
                f"a group of {group.size_bytes} bytes is too large for the cluster, which takes "
                f"{_MOST_MESSAGES * self._message_bytes} at once; put smaller frames"
            )
        if not parts and group.cursor is None and removal is None:
            return self.log.end.sequence
        rows = sum(part.rows for part in parts)
        with tracing.begin("journal", "producer", collector=self._name, frames=len(frames), rows=rows) as span:
            group.trace = (span.context or b"").hex()
            return self._append(group, timeout_s if block else 0)

    @uninterrupted
    def _append(self, group: _Group, timeout_s: float | None) -> int:
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            with self.changed:
                check()
                self._wait_for_room(group, deadline_s)
                self.check()
                if group.stream_no not in self._readers and group.stream_no != ALL:
                    raise NotAttachedError("the stream was forgotten; start it again")
                self._queue.append(group)
            self._have_published(group)
            if not isinstance(group.error, FullError):
                break
            self._wait_for_space(group, deadline_s)
        if group.error is not None:
            raise group.error
        if group.removal is not None:
            self._finish_removals()
        return group.last_sequence

    @uninterrupted
    def attach(self, identity: StreamIdentity) -> tuple[StreamNo, ClusterReader]:
        with self.checked():
            reader = self._reader(identity.name)
            if reader is None:
                reader = self._registered_now(identity)
            elif reader.state.attached:
                raise ConfigurationError(
                    f"a stream to {identity.name} is running already; stop it first, or give one of the two another "
                    "table or stream_id"
                )
            reader.change(identity=identity, attached=True)
            return reader.state.stream_no, reader

    @uninterrupted
    def detach(self, stream_no: StreamNo) -> None:
        self.check_process()
        with self.changed:
            if stream_no in self._readers:
                self._readers[stream_no].change(attached=False)

    def registered(self) -> list[Registered]:
        readers = list(self._readers.items())
        return [Registered(number, each.state.identity.name, each.key, each) for number, each in readers]

    @uninterrupted
    def forget(self, identity: str) -> bool:
        with self.checked():
            reader = self._reader(identity)
            if reader is None:
                return False
            if reader.state.attached:
                raise ConfigurationError(f"the stream {identity} is running; stop it before you forget it")
            number = reader.state.stream_no
            self._save_kept(streams=[each for each in self._kept["streams"] if each != number])
            del self._readers[number]
            self.changed.notify_all()
        self._stream_document(number).remove()
        return True

    def drop_rejected(self, stream_no: StreamNo, file: str, rows: int) -> None:
        removal = self._removal(file, stream_no, rows)
        if removal is not None:
            self._append(_Group((), ALL, None, removal), None)

    def overview(self) -> list[StreamOverview]:
        self.check_process()
        found = []
        for reader in list(self._readers.values()):
            state, total = replace(reader.state, oldest_ns=reader.oldest_ns()), self.log.end.total
            found.append(state.overview(self._name, total(state.stream_no), running=state.attached))
        return found

    @uninterrupted
    def cursor(self) -> dict[str, Any]:
        self.check_process()
        self._settle()
        with self.changed:
            return dict(json.loads(self._cursor))

    def on_request(self, verb: str, answer: Callable[[Mapping[str, Any]], Any]) -> None:
        self.answers[verb] = answer

    @uninterrupted
    def close(self) -> None:
        """Save what is known, and give the collector to whoever wants it; a no-op when called again."""
        if self._pid != os.getpid():
            return
        with self.changed:
            was_closed, self.is_closed = self.is_closed, True
            self.changed.notify_all()
            for reader in self._readers.values():
                reader.tell()
        self._end_answers()
        self.log.leave()
        if was_closed:
            return
        try:
            self.save_changes()
            self._publish_details()
        except JournalError as error:
            logger.warning("the last positions of %s are not saved, but the ledgers have them: %s", self._name, error)
        self._session.release(self._name)

    def keep_house(self) -> None:
        """Save positions, remove what every stream has passed, and publish what streams say of themselves."""
        if self.is_closed:
            return
        now_s = time.monotonic()
        try:
            self.save_changes()
            if now_s - self._purge_s >= _PURGE_S:
                self._purge_s = now_s
                self._purge()
            if now_s - self._details_s >= _DETAILS_S:
                self._details_s = now_s
                self._publish_details()
            if self._removals and now_s - self._removals_s >= _REMOVALS_S:
                self._removals_s = now_s
                self._finish_removals()
        except JournalBusyError as error:
            self.lose(str(error))

    def save_changes(self) -> None:
        """Save the state of each stream that has changed."""
        for reader in list(self._readers.values()):
            reader.save_if_changed()

    def _open(self) -> None:
        new: dict[str, Any] = {"journal_id": secrets.token_hex(8), "open_count": 0, "epochs": [], "streams": []}
        kept = self._document.load() or new
        kept["open_count"] += 1
        kept["epochs"] = [*kept["epochs"], secrets.token_hex(8)][-_MOST_EPOCHS:]
        self._kept: dict[str, Any] = kept
        self._document.save(kept)
        replicas = self._jetstream.connection.address.replicas
        self._jetstream.make_stream(log_config(self._names, self._name, replicas, None))
        cursor, self._removals = self.log.take(kept["open_count"], kept.get("removed_until", 0))
        self._cursor = json.dumps(cursor).encode()
        found = self._jetstream.last(self._names.state, self._names.document(self._name, "details"))
        self.told_details = unpacked(found.payload) if found is not None else {}
        self._sequence = max(kept["open_count"] << 32, self.log.end.sequence)
        for number in kept["streams"]:
            document = self._stream_document(number)
            said = document.load()
            if said is None:
                raise JournalError(f"the cluster has lost the state of stream {number} of {self._name}")
            reader = ClusterReader(self, replace(StreamState.of(said), attached=False), document)
            self._readers[StreamNo(number)] = reader
            reader.change(attached=False)
            reader.save_if_changed()  # From now on the last owner can't write it.
        if self._removals:
            self._finish_removals()

    def _stream_document(self, number: int) -> Document:
        return Document(self._jetstream, self._names.state, self._names.document(self._name, f"stream.{number}"))

    def _save_kept(self, **changes: Any) -> None:
        kept = {**self._kept, **changes}
        self._document.save(kept)
        self._kept = kept

    def _registered_now(self, identity: StreamIdentity) -> ClusterReader:
        """Register a stream at the log's end; nothing is published meanwhile."""
        while self._is_publishing:
            wait(self.changed)
            self.check()
        end = self.log.end
        number = StreamNo(self._kept.get("last_stream_no", 0) + 1)
        place = Place(end.rows + 1, end.rows)
        position = Position(max(end.sequence, self._sequence))
        state = StreamState(number, secrets.token_hex(8), identity, position, place, end.total(number))
        document = self._stream_document(number)
        document.save(state.as_json())
        self._save_kept(streams=[*self._kept["streams"], number], last_stream_no=number)
        reader = self._readers[number] = ClusterReader(self, state, document)
        return reader

    def _reader(self, identity: str) -> ClusterReader | None:
        return next((each for each in self._readers.values() if each.state.identity.name == identity), None)

    def _receivers(self, stream_no: StreamNo) -> list[ClusterReader]:
        return [reader for number, reader in self._readers.items() if stream_no in {ALL, number}]

    def _wait_for_room(self, group: _Group, deadline_s: float | None) -> None:
        if not group.parts:
            return
        size_bytes, told = group.size_bytes, False
        while full := [each for each in self._receivers(group.stream_no) if not each.has_room(size_bytes)]:
            self.check()
            remaining_s = None if deadline_s is None else deadline_s - time.monotonic()
            if remaining_s is not None and remaining_s <= 0:
                raise BacklogFullError("; ".join(each.refuse(size_bytes) for each in full))
            if not told:
                logger.warning("put waits: %s", full[0].refuse(size_bytes))
                told = True
            wait(self.changed, remaining_s)

    def _wait_for_space(self, group: _Group, deadline_s: float | None) -> None:
        """Wait a moment before a group that the servers have no space for is tried again.

        Raises:
            BacklogFullError: There is no time left.
        """
        error, group.error, group.is_done = group.error, None, False
        if deadline_s is not None and time.monotonic() >= deadline_s:
            raise BacklogFullError(f"the cluster has no space for the rows of {self._name}: {error}") from error
        with self.changed:
            wait(self.changed, _FULL_PAUSE_S)

    def _have_published(self, group: _Group) -> None:
        """Publish what is queued, as the first who comes, or wait until another thread has published it."""
        while True:
            with self.changed:
                while self._is_publishing and not group.is_done:
                    try:
                        wait(self.changed)
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

    def _taken(self) -> list[_Group]:
        """Groups to publish together; called with the lock held."""
        size_bytes, count = 0, 0
        for group in self._queue:
            size_bytes += group.size_bytes
            if count and size_bytes > _TOGETHER_BYTES:
                break
            count += 1
        groups, self._queue = self._queue[:count], self._queue[count:]
        return groups

    def _publish(self, groups: Sequence[_Group]) -> None:
        """Publish groups; only one thread at a time does that."""
        self.check()
        self.log.settle()
        drafts: list[Draft] = []
        sequence = max(self._sequence, self.log.end.sequence)
        time_ns = max(time.time_ns(), self.log.end.timestamp_ns + 1)
        for group in groups:
            first_ns = time_ns
            for part in group.parts:
                sequence += 1
                time_ns = first_ns + part.frame
                if not drafts or drafts[-1].kind != ROWS or not drafts[-1].has_room(part, self._message_bytes):
                    drafts.append(Draft(ROWS))
                drafts[-1].add(part, sequence, time_ns, group.stream_no, group.trace)
                group.records.append(drafts[-1].records[-1])
            time_ns += 1
            group.last_sequence = sequence
        drafts = [each for draft in drafts for each in draft.cut(self._message_bytes)]
        drafts += [removal_draft(group.removal) for group in groups if group.removal is not None]
        cursors = [group.cursor for group in groups if group.cursor is not None]
        drafts += [cursor_draft(cursor) for cursor in cursors[-1:]]
        try:
            self.log.publish(drafts)
        except JournalBusyError as error:
            self.lose(str(error))
            raise
        self._sequence = sequence
        removals = [dict(group.removal) for group in groups if group.removal is not None]
        if removals:
            with self.changed:
                self._removals = [*self._removals, *removals]
        if cursors:
            self._cursor = cursors[-1]

    def _published(self, groups: Sequence[_Group], error: BaseException | None) -> None:
        with self.changed:
            self._is_publishing = False
            for group in groups:
                group.error, group.is_done = error, True
                for reader in self._receivers(ALL) if error is None else ():
                    reader.accept(group.records)
            self.changed.notify_all()

    def _settle(self) -> None:
        """Find out whether a publication without an answer was stored, and read the collector's state after it."""
        with self.changed:
            while self._is_publishing:
                wait(self.changed)
            self.check()
            self._is_publishing = True
        try:
            before = self.log.end
            self.log.settle()
            if self.log.end.cursor != before.cursor:
                self._cursor = bytes(self.log.message(self.log.end.cursor).body)
        except JournalBusyError as error:
            self.lose(str(error))
            raise
        finally:
            with self.changed:
                self._is_publishing = False
                for reader in self._readers.values():
                    reader.tell()
                self.changed.notify_all()

    def _purge(self) -> None:
        """Remove what every stream has passed; the last message stays.

        Only saved places count: the next owner reads on from there, whatever this one has acknowledged since.
        """
        before = min([self.log.end.rows, *(each.saved_place.number for each in list(self._readers.values()))])
        if before > self._purged:
            self.log.purge(before)
            self._purged = before

    def _publish_details(self) -> None:
        readers, before = list(self._readers.values()), self.told_details
        said = {each.state.identity.name: dict(each.details()) for each in readers}
        said = {identity: details or before.get(identity, {}) for identity, details in said.items()}
        if any(said.values()) and said != before:
            self._jetstream.publish(Message(self._names.document(self._name, "details"), packed(said)))
            self.told_details = said

    def _answer(self, request: bytes) -> bytes:
        """Answer a command."""
        try:
            asked = json.loads(request)
            answer = self.answers.get(asked["verb"])
            if answer is None:
                return _dump({"error": f"this process can't {asked['verb']}; its streams are not running"})
            return _dump({"result": answer(asked["arguments"])})
        except Api2dbError as error:
            return _dump({"error": str(error), "kind": type(error).__name__})
        except Exception as error:  # whatever it is, the asker gets it, and the owner of the journal runs on
            logger.warning("a request could not be answered", exc_info=True)
            return _dump({"error": redact(str(error)) or type(error).__name__})

    def _removal(self, name: str, stream_no: StreamNo, rows: int) -> dict[str, Any] | None:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ConfigurationError(f"{name} is not below {self._home}; name a file of the project")
        known_by = _known_by(self._home / name)
        if known_by is None:
            return None
        removal = {"file": name, "known_by": known_by, "stream_no": stream_no, "rows": rows}
        if removal["known_by"] in [each["known_by"] for each in self._removals if each["file"] == name]:
            raise ConfigurationError(f"the rows of {name} were put again or dropped before")
        return removal

    def _finish_removals(self) -> None:
        """Remove the files whose rows were put again or dropped, and no longer count these rows."""
        for removal in list(self._removals):
            path = self._home / removal["file"]
            with suppress(OSError):
                if _known_by(path) == removal["known_by"]:
                    path.unlink()
                with self.changed:
                    self._removals = [each for each in self._removals if each is not removal]
                    reader = self._readers.get(StreamNo(removal["stream_no"]))
                    if reader is not None:
                        said = reader.state.delivered
                        rejected_bytes = said.rejected_bytes - removal["known_by"][0]
                        left = replace(said, rejected=said.rejected - removal["rows"], rejected_bytes=rejected_bytes)
                        reader.change(delivered=left)
                logger.debug("%s is removed", path)
        with self.changed:
            finished = self.log.end.number
            if not self._removals and finished > self._kept.get("removed_until", 0):
                self._save_kept(removed_until=finished)
                self.log.purge_removals()


def _known_by(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _dump(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said).encode()


def _json(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a collector's state must be a JSON dict: {error}") from error
