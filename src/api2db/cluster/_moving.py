"""Moves a collector's journal from this machine's disk into the cluster, and back.

At every moment at most one of the two can be used. The cluster's document of a journal has ``moved`` while the journal
is not there: ``importing``, ``exporting`` or ``exported``. The folder on disk has a file of that name (see
``api2db.journal._moving``). An import first closes the cluster's side, then copies, closes the disk's side, and opens
the cluster's; an export does the reverse. Whatever is killed can be run again: it goes on behind the last record that
is in the log, or makes the folder on disk from the beginning.

Records keep their sequence numbers, streams their keys and positions, and journals their id and epochs. So the ledgers
of the targets are as true after a move as before it.
"""

import hashlib
import json
import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from api2db.cluster._aside import CONTENT, ENTRY, content_of
from api2db.cluster._connection import Message
from api2db.cluster._documents import packed
from api2db.cluster._entries import EntryReader
from api2db.cluster._journal import ClusterJournal, Prepare
from api2db.cluster._leases import machine_name
from api2db.cluster._log import cursor_drafts
from api2db.cluster._message import CURSOR, REMOVAL, ROWS, Draft
from api2db.cluster._places import Places
from api2db.cluster._publisher import MOST_MESSAGES
from api2db.cluster._state import Place, StreamState
from api2db.cluster._store import Cluster
from api2db.disk.folders import rejected_folder, upload_failed_folder
from api2db.errors import ConfigurationError
from api2db.journal import (
    ArrivingJournal,
    Checkpoint,
    CheckpointKind,
    LeavingJournal,
    MovedJournal,
    MovedRecord,
    MovedStream,
    Position,
    StreamNo,
    arrive,
    check_can_arrive,
    cursor_json,
)

logger = logging.getLogger(__name__)
_KINDS: Final = (ROWS, CURSOR, REMOVAL, f"{CONTENT}.>", f"{ENTRY}.>")
_TOGETHER_BYTES: Final = 8 << 20
_SCAN_BYTES: Final = 16 << 20
_TOKEN: Final = re.compile(r"\.([0-9a-f]{16})\.tmp$")
_END: Final = Position(1 << 62)


def _opened(home: Path, name: str, cluster: Cluster, prepared: Prepare) -> ClusterJournal:
    """Open the journal in the cluster; ``prepared`` returns what the cluster keeps of it meanwhile."""
    return ClusterJournal(home, name, "full", cluster.jetstream, cluster.names, cluster.session, prepared)


class Import:
    """One import.

    Args:
        home: The project's folder on this machine.
        cluster: The cluster.
        name: The collector's name.

    Raises:
        JournalBusyError: A process has the journal open, on disk or in the cluster.
        ConfigurationError: The cluster has another journal of that name.
        JournalError: The disk or the cluster refuses.
    """

    def __init__(self, home: Path, cluster: Cluster, name: str) -> None:
        self._home = home
        self._name = name
        self._cluster = cluster
        self._leaving = LeavingJournal(home, name)

    def run(self) -> int:
        """Move what is left to move; return how many rows were copied."""
        try:
            return self._run()
        finally:
            self._leaving.close()

    def _run(self) -> int:
        left = self._leaving.left
        prepared = self._prepared if left is None else self._resumed
        journal = _opened(self._home, self._name, self._cluster, prepared)
        try:
            rows = 0
            if left is None:
                rows = self._copy(journal)
            if journal.core.kept.get("moved") is not None:
                journal.core.keep(moved=None)
            self._leaving.clean()
            return rows
        finally:
            journal.close()

    def _prepared(self, name: str, kept: dict[str, Any] | None) -> dict[str, Any]:
        """What the cluster keeps of the journal while it is imported."""
        content = self._leaving.content()
        moved = {"step": "importing", "token": secrets.token_hex(8), "where": f"from {machine_name()}:{self._home}"}
        epochs = sorted(content.epochs, key=lambda epoch: content.epochs[epoch])
        if kept is None:
            kept = {"journal_id": content.journal_id, "open_count": 0, "epochs": [], "moved": moved}
        _check_is_same(name, kept, content.journal_id)
        before = kept.get("moved")
        if before is None:
            raise ConfigurationError(
                f"the journal of {name} is in the cluster already, and the one on this disk is an older copy of it"
            )
        if before["step"] == "exporting":
            raise ConfigurationError(f"an export of {name} was interrupted; finish it first: {before['where']}")
        return {
            **kept,
            "open_count": max(kept["open_count"], content.counter),
            "epochs": [*(each for each in kept["epochs"] if each not in epochs), *epochs],
            "streams": [],
            "moved": before if before["step"] == "importing" else moved,
        }

    def _resumed(self, name: str, kept: dict[str, Any] | None) -> dict[str, Any]:
        """What the cluster keeps of a journal that has left the disk."""
        if kept is None:
            raise ConfigurationError(f"the cluster has no journal of {name}; is this its address?")
        left = self._leaving.left or {}
        _check_is_same(name, kept, left["journal"])
        moved = kept.get("moved")
        if moved is not None and moved["step"] == "exported":
            raise ConfigurationError(
                f"the journal of {name} was exported; finish that with: api2db cluster export {name}"
            )
        if moved is not None and moved["step"] == "importing" and moved["token"] != left["token"]:
            raise ConfigurationError(f"another import of {name} was interrupted; finish it there: {moved['where']}")
        return {**kept, "moved": None}  # An export that was interrupted has changed nothing here.

    def _copy(self, journal: ClusterJournal) -> int:
        content = self._leaving.content()
        rows = self._copy_records(journal)
        log, files = journal.core.log, self._copy_files(journal)
        end = log.end
        log.end = replace(
            end,
            sequence=max(end.sequence, content.sequence),
            timestamp_ns=max(end.timestamp_ns, content.timestamp_ns),
        )
        cursor = cursor_json(content.cursor)
        journal.publisher.publish_alone(cursor_drafts(cursor, journal.publisher.message_bytes))
        for stream in content.streams:
            self._copy_stream(journal, stream)
        details = Message(journal.core.names.document(self._name, "details"), packed(content.details))
        journal.core.jetstream.publish(details)
        numbers = [stream.stream_no for stream in content.streams]
        journal.core.keep(streams=numbers, last_stream_no=content.last_stream_no)
        moved = journal.core.kept["moved"]
        self._leaving.leave(moved["token"], f"the cluster {self._cluster.address.text}", files)
        return rows

    def _copy_records(self, journal: ClusterJournal) -> int:
        core, drafts, rows, size_bytes = journal.core, list[Draft](), 0, 0
        begin = core.kept["moved"].get("from")
        if begin is None:
            core.log.empty(_KINDS)  # of an earlier life of the journal here
            journal.files.load()
            begin = core.log.end.number
            core.keep(moved={**core.kept["moved"], "from": begin})
        after = core.log.end.sequence if core.log.end.rows > begin else 0
        limit = journal.publisher.message_bytes
        for record in self._leaving.records(after):
            if not drafts or not drafts[-1].has_room(record.part, limit):
                if size_bytes > _TOGETHER_BYTES or len(drafts) >= MOST_MESSAGES // 2:
                    self._publish(journal, drafts)
                    drafts, size_bytes = [], 0
                drafts.append(Draft(ROWS))
            trace = (record.trace or b"").hex()
            drafts[-1].add(record.part, record.sequence, record.timestamp_ns, record.stream_no, trace)
            size_bytes += record.part.size_bytes
            rows += record.part.rows
        if drafts:
            self._publish(journal, drafts)
        return rows

    @staticmethod
    def _publish(journal: ClusterJournal, drafts: Iterable[Draft]) -> None:
        limit = journal.publisher.message_bytes
        journal.publisher.publish_alone([each for draft in drafts for each in draft.cut(limit)])

    def _copy_files(self, journal: ClusterJournal) -> list[str]:
        """Copy the rejected rows; return the files on disk that are removed in the end."""
        files = []
        for entry in journal.files.entries:  # of an interrupted import; their rows may have been put again since
            journal.files.remove(entry.key, entry.token)
        for rejected in self._leaving.rejected():
            content = (self._home / rejected.file).read_bytes()
            token = hashlib.blake2b(rejected.file.encode(), digest_size=8).hexdigest()
            journal.files.remove(rejected.key, token)  # what an interrupted import has left without an entry
            journal.files.write(rejected.key, content, token)
            journal.files.publish(rejected.key, token, rejected.file, {"size_bytes": len(content)})
            files.append(rejected.file)
        for stream in self._leaving.content().streams:
            files += self._unlisted(stream)
        return files

    def _unlisted(self, stream: MovedStream) -> list[str]:
        """The files of a stream's pending rows and of its parked batch."""
        kind = stream.identity.stream_type
        pending, parked = stream.checkpoints.get("pending"), stream.checkpoints.get("parked")
        paths = [] if pending is None else [rejected_folder(self._home, self._name, kind) / pending["temporary"]]
        if parked is not None:
            folder = upload_failed_folder(self._home, self._name, kind)
            paths += [folder / parked[name] for name in ("temporary", "file")]
        return [str(path.relative_to(self._home)) for path in paths]

    def _copy_stream(self, journal: ClusterJournal, stream: MovedStream) -> None:
        core, number = journal.core, stream.stream_no
        document = core.stream_document(number)
        document.load()
        checkpoints = dict(stream.checkpoints)
        if "pending" in checkpoints:
            checkpoints["pending"] = self._copy_pending(journal, stream, checkpoints["pending"])
        if "parked" in checkpoints:
            checkpoints["parked"] = {**checkpoints["parked"], "temporary": "", "file": "", "size_bytes": 0}
        state = StreamState(
            number, stream.key, stream.identity, _END, Place(1, -1), delivered=stream.delivered, checkpoints=checkpoints
        )
        found = Places(core.log, EntryReader(core.log, number)).found(state, stream.position)
        document.save(found.as_json())

    def _copy_pending(self, journal: ClusterJournal, stream: MovedStream, checkpoint: Checkpoint) -> Checkpoint:
        """Copy the rows whose fate the target's ledger decides."""
        folder = rejected_folder(self._home, self._name, stream.identity.stream_type)
        path = folder / checkpoint["temporary"]
        found = _TOKEN.search(checkpoint["temporary"])
        token = found[1] if found is not None else hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()
        if path.exists():
            journal.files.remove(stream.key, token)
            journal.files.write(stream.key, path.read_bytes(), token)
        return {**checkpoint, "temporary": token}


class Export:
    """One export.

    Args:
        home: The project's folder on this machine.
        cluster: The cluster.
        name: The collector's name.
    """

    def __init__(self, home: Path, cluster: Cluster, name: str) -> None:
        self._home = home
        self._name = name
        self._cluster = cluster
        self._where = f"to {machine_name()}:{home}"

    def run(self) -> int:
        """Move what is left to move; return how many rows were copied.

        Raises:
            JournalBusyError: A worker of the cluster has the journal.
            ConfigurationError: There is another journal of that name on this disk, or none in the cluster.
            JournalError: The disk or the cluster refuses.
        """
        journal = _opened(self._home, self._name, self._cluster, self._prepared)
        try:
            moved, rows = journal.core.kept["moved"], 0
            if moved["step"] == "exporting":
                rows = self._copy(journal, moved["token"])
                journal.core.keep(moved={**moved, "step": "exported"})
            arrive(self._home, self._name, moved["token"])
            self._clean(journal)
            return rows
        finally:
            journal.close()

    def _prepared(self, name: str, kept: dict[str, Any] | None) -> dict[str, Any]:
        """What the cluster keeps of the journal while it is exported."""
        if kept is None:
            raise ConfigurationError(f"the cluster has no journal of {name}; see: api2db status")
        moved = kept.get("moved")
        if moved is not None and moved["step"] == "importing":
            raise ConfigurationError(f"an import of {name} was interrupted; finish it first: {moved['where']}")
        if moved is not None and moved["step"] == "exported":
            if moved["where"] != self._where:
                raise ConfigurationError(f"the journal of {name} was exported {moved['where']}")
            return kept
        check_can_arrive(self._home, name)
        return {**kept, "moved": {"step": "exporting", "token": secrets.token_hex(8), "where": self._where}}

    def _copy(self, journal: ClusterJournal, token: str) -> int:
        core = journal.core
        states = [reader.state for reader in core.readers.values()]
        moved = MovedJournal(
            core.journal_id,
            core.kept["open_count"],
            dict(zip(core.kept["epochs"], self._counters(core.kept), strict=True)),
            core.kept.get("last_stream_no", 0),
            journal.publisher.sequence,
            core.log.end.timestamp_ns,
            json.loads(journal.publisher.cursor),
            [self._stream(state) for state in states],
            core.told_details,
        )
        where = f"the cluster {self._cluster.address.text}, from which it is being exported"
        arriving, rows = ArrivingJournal(self._home, self._name, token, where, moved), 0
        try:
            positions = {state.stream_no: state.position.sequence for state in states}
            for record, part in EntryReader(core.log, 0).parts(Place(1, -1), _SCAN_BYTES):
                behind = positions.get(StreamNo(record.stream_no), min(positions.values(), default=record.sequence))
                if record.sequence > behind:
                    trace = bytes.fromhex(record.trace) or None
                    number = StreamNo(record.stream_no)
                    arriving.add(MovedRecord(record.sequence, record.timestamp_ns, number, part, trace))
                    rows += record.rows
            for entry in journal.files.entries:
                content = content_of(core.log.messages, entry.key, entry.token)
                if content is None:
                    logger.error("the cluster has lost the rejected rows of %s, so they are not moved", entry.file)
                    continue
                arriving.put(entry.file, content)
            for state in states:
                self._put_pending(journal, arriving, state)
            arriving.complete(moved.cursor, moved.sequence + 1, moved.timestamp_ns + 1)
        finally:
            arriving.close()
        return rows

    @staticmethod
    def _counters(kept: dict[str, Any]) -> list[int]:
        """The counter of each epoch, which a cluster keeps in their order only."""
        return list(range(kept["open_count"] - len(kept["epochs"]) + 1, kept["open_count"] + 1))

    @staticmethod
    def _stream(state: StreamState) -> MovedStream:
        checkpoints: dict[CheckpointKind, Checkpoint] = dict(state.checkpoints)
        checkpoints.pop("parked", None)  # It is parked again, with a copy, if the target still refuses it.
        if "pending" in checkpoints:
            checkpoints["pending"] = {**checkpoints["pending"], "temporary": _pending_file(state)}
        return MovedStream(state.stream_no, state.key, state.identity, state.position, state.delivered, checkpoints)

    def _put_pending(self, journal: ClusterJournal, arriving: ArrivingJournal, state: StreamState) -> None:
        """Copy the rows whose fate the target's ledger decides, unless they have been listed."""
        token = state.checkpoints.get("pending", {}).get("temporary")
        if token is None or token in {entry.token for entry in journal.files.entries}:
            return
        content = content_of(journal.core.log.messages, state.key, token)
        if content is not None:
            folder = rejected_folder(self._home, self._name, state.identity.stream_type)
            arriving.put(str((folder / _pending_file(state)).relative_to(self._home)), content)

    def _clean(self, journal: ClusterJournal) -> None:
        """Remove what is on the disk now; the log keeps its last message, behind which an import would go on."""
        core = journal.core
        core.log.empty(_KINDS)
        core.readers = {}
        core.keep(streams=[])
        # A later owner writes the journal's document before any other, so none of its documents is removed.
        core.document.remove_older(core.names.document(core.name, "stream.*"))


def _check_is_same(name: str, kept: dict[str, Any], journal_id: str) -> None:
    """Raise if the cluster has another journal under the name of the one on this disk.

    Raises:
        ConfigurationError: It has.
    """
    if kept["journal_id"] != journal_id:
        raise ConfigurationError(
            f"the cluster has another journal of {name} already, not made of the one on this disk; export "
            "it to another machine, or give this project another name in the address of the cluster"
        )


def _pending_file(state: StreamState) -> str:
    return f".{state.key}.{state.checkpoints['pending']['temporary']}.tmp"


def import_journal(home: Path, cluster: Cluster, name: str) -> int:
    """Move a collector's journal from this disk into the cluster; return how many rows were copied.

    Killed in the middle, it goes on where it was when it is run again.

    Raises:
        JournalBusyError: A process has the journal open, on disk or in the cluster.
        ConfigurationError: The cluster has another journal of that name.
        JournalError: The disk or the cluster refuses.
    """
    return Import(home, cluster.ready(), name).run()


def export_journal(home: Path, cluster: Cluster, name: str) -> int:
    """Move a collector's journal from the cluster to this disk; return how many rows were copied.

    Killed in the middle, it begins again when it is run again.

    Raises:
        JournalBusyError: A worker of the cluster has the journal.
        ConfigurationError: There is another journal of that name on this disk, or none in the cluster.
        JournalError: The disk or the cluster refuses.
    """
    return Export(home, cluster.ready(), name).run()
