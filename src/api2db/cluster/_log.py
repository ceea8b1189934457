"""The log of one collector: a JetStream stream to which one owner at a time appends.

Every publication says which number the stream's last message has. So JetStream refuses it if anybody else has written
meanwhile, and a publication whose answer was lost can be repeated: it is stored once at most.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from api2db.cluster._cache import cache
from api2db.cluster._connection import Message
from api2db.cluster._jetstream import NO_STREAM, FullError, JetStream, MovedError, RefusedError, until_answered
from api2db.cluster._log_messages import GapError, LogMessages
from api2db.cluster._message import CURSOR, OWNER, REMOVAL, ROWS, Draft, LogEnd, LogMessage, counted, decoded
from api2db.cluster._names import Names
from api2db.errors import ClusterUnavailableError, JournalBusyError

_WAIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class _Publication:
    """Messages that are published together."""

    written: str
    messages: tuple[Message, ...]
    rows: tuple[LogMessage, ...]
    end: LogEnd


def log_config(names: Names, collector: str, replicas: int) -> dict[str, Any]:
    """The configuration of a collector's stream."""
    return {
        "name": names.log(collector),
        "subjects": [names.log_subject(collector, ">")],
        "storage": "file",
        "num_replicas": replicas,
        "retention": "limits",
        "discard": "new",
        "max_msgs": -1,
        "max_age": 0,
        "allow_atomic": True,
        "allow_direct": True,
        "deny_delete": True,
        "duplicate_window": 1_000_000_000,
    }


class Log:
    """The end of a log, to which one thread at a time publishes.

    Args:
        jetstream: The cluster's.
        names: The project's.
        collector: The collector's name.

    Attributes:
        end: Where it ends, as far as this process knows.
        messages: Its messages.
    """

    def __init__(self, jetstream: JetStream, names: Names, collector: str) -> None:
        self.end = LogEnd()
        self.messages = LogMessages(jetstream, names, collector)
        self._jetstream = jetstream
        self._collector = collector
        self._stream = self.messages.stream
        self._unanswered: list[_Publication] = []
        self._is_fenced = False

    def take(self, open_count: int) -> None:
        """Become the owner: from now on nobody else can append.

        Args:
            open_count: How often the journal was opened.

        Raises:
            JournalBusyError: A later owner has taken it already.
            FullError: A limit of bytes is reached.
        """
        while True:
            self.end = self.messages.end()
            if self.end.open_count > open_count:
                raise JournalBusyError(f"another process has opened the journal of {self._collector} meanwhile")
            self.end = replace(self.end, open_count=open_count)
            try:
                self.publish([Draft(OWNER)])
            except JournalBusyError:
                self._is_fenced = False
                continue  # The last owner, or another new one, has written since the look.
            break
        self._remove_older_marks()

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
        candidates, is_known = [publication, *self._unanswered], True

        def attempt() -> _Publication:
            nonlocal is_known
            try:
                self._jetstream.publish_together(publication.messages, expected_last=self.end.number)
            except MovedError as error:
                return self._found(candidates, error)
            except ClusterUnavailableError:
                is_known = False
                raise
            except FullError as error:
                if is_known:
                    raise
                return self._found(candidates, error)  # An earlier attempt may have filled it.
            return publication

        try:
            stored = until_answered(attempt, _WAIT_S)
        except ClusterUnavailableError:
            self._unanswered = candidates
            raise
        self._unanswered = []
        self.end = stored.end
        for message in stored.rows:
            cache.add(self._stream, message)

    def cursor(self) -> bytes:
        """The collector's state as of the last group, as JSON."""
        number = self.end.cursor
        if not number:
            return b"{}"
        first = self.messages.message(number)
        count = 1 if first.part is None else first.part[1]
        rest = [self.messages.message(number + at) for at in range(1, count)]
        return b"".join(bytes(each.body) for each in (first, *rest))

    def read(self, number: int, before: int, size_bytes: int) -> list[LogMessage]:
        """Rows messages up to the end; see ``LogMessages.read``."""
        return self.messages.read(number, before, self.end.rows, size_bytes)

    def purge(self, before: int) -> None:
        """Remove the rows messages before a number, and all states but the last."""
        cursor = self.end.cursor
        self._jetstream.purge(self._stream, self.messages.subject(ROWS), before=before)
        if cursor:
            self._jetstream.purge(self._stream, self.messages.subject(CURSOR), before=cursor)
        cache.forget(self._stream, before)

    def purge_kind(self, kind: str, before: int | None = None) -> None:
        """Remove the messages of another kind, those before a number or all, but never the log's last message."""
        before = self.end.number if before is None else min(before, self.end.number)
        self._jetstream.purge(self._stream, self.messages.subject(kind), before=before)

    def empty(self, kinds: Sequence[str]) -> None:
        """Remove everything but a last message, which says that the log has no rows and no state."""
        self.end = replace(self.end, rows=0, cursor=0)
        self.publish([Draft(OWNER)])
        for kind in kinds:
            self.purge_kind(kind)
        cache.forget(self._stream)

    def leave(self) -> None:
        """Forget what is cached."""
        cache.forget(self._stream)

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
                cursor=number if draft.kind == CURSOR and not (draft.part and draft.part[0]) else end.cursor,
                sequence=draft.records[-1].sequence if draft.records else end.sequence,
                timestamp_ns=draft.records[-1].timestamp_ns if draft.records else end.timestamp_ns,
                counts=counted(end.counts, draft.records),
            )
            payload = draft.encoded(end, before, written)
            messages.append(Message(self.messages.subject(draft.kind), payload))
            if draft.kind == ROWS:
                rows.append(decoded(number, payload))
        return _Publication(written, tuple(messages), tuple(rows), end)

    def _remove_older_marks(self) -> None:
        """Remove the marks of earlier owners; what is left is removed by the next owner."""
        try:
            self._jetstream.purge(self._stream, self.messages.subject(OWNER), keep=1)
        except RefusedError as error:
            # The stream has just stored a message, but for a moment a server may not know a new stream.
            if error.code != NO_STREAM:
                raise

    def _found(self, candidates: Sequence[_Publication], error: RefusedError) -> _Publication:
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

    def _check_not_lost(self, error: RefusedError) -> None:
        last = self.messages.last_number()
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


def removal_draft(removal: Mapping[str, Any]) -> Draft:
    """A message that says which file's rows are put again or dropped."""
    return Draft(REMOVAL, [json.dumps(removal).encode()])


def cursor_drafts(state: bytes, limit: int) -> list[Draft]:
    """The messages with a collector's state.

    Args:
        state: The state as JSON.
        limit: The largest body of a message, bytes.
    """
    return Draft(CURSOR, [state], size_bytes=len(state)).cut(limit)


__all__ = ["Log", "cursor_drafts", "log_config", "removal_draft"]
