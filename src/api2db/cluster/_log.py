"""The log of one collector: a JetStream stream to which one owner at a time appends.

Every publication says which number the stream's last message has. So JetStream refuses it if anybody else has written
meanwhile, and a publication whose answer was lost can be repeated: it is stored once at most.
"""

import json
import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from api2db.cluster._connection import Message
from api2db.cluster._jetstream import FullError, JetStream, MovedError, Stored, until_answered
from api2db.cluster._message import CURSOR, OWNER, ROWS, Draft, LogEnd, LogMessage, counted, decoded
from api2db.cluster._names import Names
from api2db.errors import ClusterUnavailableError, JournalBusyError, JournalError

logger = logging.getLogger(__name__)
_WAIT_S: Final = 20.0
_READ_S: Final = 20.0
_PAUSE_S: Final = 0.1
_REMOVAL: Final = "removal"
_CACHE_BYTES: Final = 64 << 20


class GapError(JournalError):
    """Messages of the log are missing."""


class _Cache:
    """The newest messages that this process has published or read, by log and the rows message before them."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._messages: OrderedDict[tuple[str, int], LogMessage] = OrderedDict()

    def add(self, log: str, message: LogMessage) -> None:
        """Add a rows message."""
        with self._lock:
            self._drop((log, message.before))
            self._messages[log, message.before] = message
            self._held_bytes += len(message.body)
            while self._held_bytes > self._size_bytes:
                self._drop(next(iter(self._messages)))

    def after(self, log: str, before: int) -> LogMessage | None:
        """The rows message that follows another one, if it is here."""
        with self._lock:
            return self._messages.get((log, before))

    def forget(self, log: str, last: int | None = None) -> None:
        """Drop the messages of a log, or those up to a number."""
        with self._lock:
            for key in [key for key in self._messages if key[0] == log and (last is None or key[1] < last)]:
                self._drop(key)

    def _drop(self, key: tuple[str, int]) -> None:
        found = self._messages.pop(key, None)
        if found is not None:
            self._held_bytes -= len(found.body)


_cache: Final = _Cache(_CACHE_BYTES)


@dataclass(frozen=True, slots=True)
class _Publication:
    """Messages that are published together."""

    written: str
    messages: tuple[Message, ...]
    rows: tuple[LogMessage, ...]
    end: LogEnd


def log_config(names: Names, collector: str, replicas: int, limit_bytes: int | None) -> dict[str, Any]:
    """The configuration of a collector's stream.

    Args:
        limit_bytes: The size at which it takes no more; None for no limit.
    """
    return {
        "name": names.log(collector),
        "subjects": [names.log_subject(collector, ">")],
        "storage": "file",
        "num_replicas": replicas,
        "retention": "limits",
        "discard": "new",
        "max_bytes": -1 if limit_bytes is None else limit_bytes,
        "max_msgs": -1,
        "max_age": 0,
        "allow_atomic": True,
        "allow_direct": True,
        "deny_delete": True,
        "duplicate_window": 1_000_000_000,
    }


class Log:
    """The end of a log, and its messages.

    One thread at a time publishes; any thread reads.

    Args:
        jetstream: The cluster's.
        names: The project's.
        collector: The collector's name.

    Attributes:
        end: Where it ends, as far as this process knows.
    """

    def __init__(self, jetstream: JetStream, names: Names, collector: str) -> None:
        self._jetstream = jetstream
        self._names = names
        self._collector = collector
        self._stream = names.log(collector)
        self._unanswered: list[_Publication] = []
        self._is_fenced = False
        self.end = LogEnd()

    def take(self, open_count: int, removed_until: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Become the owner: from now on nobody else can append.

        Args:
            open_count: How often the journal was opened.
            removed_until: The number of the message up to which all removals are finished.

        Returns:
            The collector's state as of the last group, and the removals that may not be finished.

        Raises:
            JournalBusyError: A later owner has taken it already.
        """
        while True:
            self.end = self._found_end()
            if self.end.open_count > open_count:
                raise JournalBusyError(f"another process has opened the journal of {self._collector} meanwhile")
            self.end = replace(self.end, open_count=open_count)
            try:
                self.publish([Draft(OWNER)])
            except JournalBusyError:
                self._is_fenced = False
                continue  # The last owner, or another new one, has written since the look.
            break
        self._jetstream.purge(self._stream, self._subject(OWNER), keep=1)
        return self._found_cursor(), [json.loads(bytes(each.body)) for each in self._removals(removed_until + 1)]

    def look(self) -> LogEnd:
        """Where it ends, for somebody who does not own it."""
        return self._found_end()

    def publish(self, drafts: Sequence[Draft]) -> None:
        """Append messages together; they are on the disks of a majority of the servers on return.

        Raises:
            JournalBusyError: Another process has taken the log; nothing was stored.
            ClusterUnavailableError: The cluster does not answer; it is unknown whether they were stored. The next call
                finds that out first.
            FullError: A limit of bytes is reached; nothing was stored.
            JournalError: The cluster has lost messages that it had acknowledged.
        """
        self.settle()
        self._store(self._prepared(drafts))

    def settle(self) -> None:
        """Find out whether the last publication without an answer was stored, and see to it that it never is if not.

        Raises:
            ClusterUnavailableError: The cluster does not answer.
        """
        if self._is_fenced:
            raise self._fenced()
        if self._unanswered:
            # A message of no meaning takes the place of the lost ones, unless they have taken it.
            self._store(self._prepared([Draft(OWNER)]))

    def _store(self, publication: _Publication) -> None:
        """Publish until something is stored behind the end: this, or an earlier publication without an answer."""
        candidates = [publication, *self._unanswered]

        def attempt() -> _Publication:
            try:
                self._jetstream.publish_together(publication.messages, expected_last=self.end.number)
            except MovedError as error:
                return self._found(candidates, error)
            return publication

        try:
            stored = until_answered(attempt, _WAIT_S)
        except ClusterUnavailableError:
            self._unanswered = candidates
            raise
        self._unanswered = []
        self.end = stored.end
        for message in stored.rows:
            _cache.add(self._stream, message)

    def read(self, number: int, before: int, size_bytes: int) -> list[LogMessage]:
        """Rows messages in their order, up to a size but at least one where there are any.

        Args:
            number: Where to begin.
            before: The rows message before the first one that is wanted; -1 if that is unknown.
            size_bytes: Where to stop.

        Raises:
            GapError: Messages are missing.
            ClusterUnavailableError: The cluster does not answer, or no server has yet what is wanted.
        """
        found: list[LogMessage] = []
        end, deadline_s, held = self.end.rows, time.monotonic() + _READ_S, 0
        while before < end and held < size_bytes:
            message = _cache.after(self._stream, before)
            if message is None:
                some = self._fetched(max(number, before + 1), before, size_bytes - held)
                if not some and time.monotonic() > deadline_s:
                    raise ClusterUnavailableError(f"no server has the messages of {self._stream} behind {before}")
                if not some:
                    time.sleep(_PAUSE_S)
                for each in some:
                    _cache.add(self._stream, each)
                if some and before < 0:
                    before = some[0].before
                continue
            found.append(message)
            held += len(message.body)
            before = message.number
        return found

    def message(self, number: int) -> LogMessage:
        """One message, as the stream's leader has it.

        Raises:
            GapError: It is missing.
        """
        found = until_answered(lambda: self._jetstream.get(self._stream, number), _READ_S)
        if found is None:
            raise GapError(f"message {number} of the cluster's stream {self._stream} is missing")
        return decoded(number, found.payload)

    def purge(self, before: int) -> None:
        """Remove the rows messages before a number, and all states but the last."""
        self._jetstream.purge(self._stream, self._subject(ROWS), before=before)
        self._jetstream.purge(self._stream, self._subject(CURSOR), keep=1)
        _cache.forget(self._stream, before)

    def purge_removals(self) -> None:
        """Remove what is known of removals, which are finished; but never the last message."""
        self._jetstream.purge(self._stream, self._subject(_REMOVAL), before=self.end.number)

    def leave(self) -> None:
        """Forget what is cached."""
        _cache.forget(self._stream)

    def _subject(self, kind: str) -> str:
        return self._names.log_subject(self._collector, kind)

    def _found_end(self) -> LogEnd:
        """The last message, which says all; a stream that only looks empty is asked again."""

        def attempt() -> LogEnd:
            info = self._jetstream.stream(self._stream)
            number = 0 if info is None else int(info["state"]["last_seq"])
            if not number:
                return LogEnd()
            found = self._jetstream.get(self._stream, number)
            if found is None:
                raise GapError(f"the last message of the cluster's stream {self._stream}, number {number}, is missing")
            return decoded(number, found.payload).end

        return until_answered(attempt, _WAIT_S)

    def _found_cursor(self) -> dict[str, Any]:
        if not self.end.cursor:
            return {}
        state: dict[str, Any] = json.loads(bytes(self.message(self.end.cursor).body))
        return state

    def _removals(self, number: int) -> list[LogMessage]:
        subject = self._subject(_REMOVAL)
        found = until_answered(lambda: self._jetstream.read(self._stream, subject, number, _CACHE_BYTES), _READ_S)
        return [decoded(each.sequence, each.payload) for each in found]

    def _prepared(self, drafts: Sequence[Draft]) -> _Publication:
        written, end = secrets.token_hex(8), self.end
        messages: list[Message] = []
        rows: list[LogMessage] = []
        for draft in drafts:
            before, number = end.rows, end.number + 1
            end = replace(
                end,
                number=number,
                rows=number if draft.kind == ROWS else end.rows,
                cursor=number if draft.kind == CURSOR else end.cursor,
                sequence=draft.records[-1].sequence if draft.records else end.sequence,
                timestamp_ns=draft.records[-1].timestamp_ns if draft.records else end.timestamp_ns,
                counts=counted(end.counts, draft.records),
            )
            payload = draft.encoded(end, before, written)
            messages.append(Message(self._subject(draft.kind), payload))
            if draft.kind == ROWS:
                rows.append(decoded(number, payload))
        return _Publication(written, tuple(messages), tuple(rows), end)

    def _found(self, candidates: Sequence[_Publication], error: MovedError) -> _Publication:
        """See what stands behind the end that is known here."""
        found = self._jetstream.get(self._stream, self.end.number + 1)
        if found is None:
            self._check_not_lost(error)
            raise ClusterUnavailableError("the cluster has not decided yet where its stream ends") from error
        written = decoded(found.sequence, found.payload).written
        for publication in candidates:
            if publication.written == written:
                return publication
        self._is_fenced = True
        raise self._fenced() from error

    def _check_not_lost(self, error: MovedError) -> None:
        info = self._jetstream.stream(self._stream)
        last = 0 if info is None else int(info["state"]["last_seq"])
        if last < self.end.number:
            raise GapError(
                f"the cluster has lost acknowledged messages: its stream {self._stream} ends at {last} and not at "
                f"{self.end.number}; look at the servers' logs and disks, then start this again: what is left is "
                "delivered, and the rows of the lost messages must be polled again"
            ) from error

    def _fenced(self) -> JournalBusyError:
        return JournalBusyError(
            f"another process has taken the journal of {self._collector}; this one has let go of it, and what it put "
            "before is there"
        )

    def _fetched(self, number: int, before: int, size_bytes: int) -> list[LogMessage]:
        """What a server has from a number on, up to the first message that does not follow."""
        try:
            stored = self._jetstream.read(self._stream, self._subject(ROWS), number, max(size_bytes, 1))
        except ClusterUnavailableError:
            return []
        found: list[LogMessage] = []
        for each in stored:
            message = self._follower(each, before)
            if message is None:
                break
            found.append(message)
            before = message.number
        return found

    def _follower(self, stored: Stored, before: int) -> LogMessage | None:
        """The message, if it follows another one; a server that lags may lack some, and the leader then knows.

        Raises:
            GapError: The leader lacks the messages between.
        """
        message = decoded(stored.sequence, stored.payload)
        if before in {message.before, -1}:
            return message
        missing = message.before
        if until_answered(lambda: self._jetstream.get(self._stream, missing), _READ_S) is not None:
            return None
        raise GapError(
            f"rows of {self._collector} are missing in the cluster: between messages {before} and {message.number} of "
            f"its stream {self._stream}; delivery stops here. See docs/cluster.md for what to do"
        )


def removal_draft(removal: Mapping[str, Any]) -> Draft:
    """A message that says which file's rows are put again."""
    return Draft(_REMOVAL, [json.dumps(removal).encode()])


def cursor_draft(state: bytes) -> Draft:
    """A message with a collector's state."""
    return Draft(CURSOR, [state])


__all__ = ["FullError", "GapError", "Log", "cursor_draft", "log_config", "removal_draft"]
