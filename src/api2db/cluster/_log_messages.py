"""The messages of a collector's log, as the servers have them."""

import time
from collections.abc import Sequence
from typing import Final

from api2db.cluster._cache import cache
from api2db.cluster._jetstream import JetStream, Stored, until_answered
from api2db.cluster._message import ROWS, LogEnd, LogMessage, decoded
from api2db.cluster._names import Names
from api2db.errors import ClusterUnavailableError, JournalError

_WAIT_S: Final = 20.0
_PAUSE_S: Final = 0.1


class GapError(JournalError):
    """Messages of the log are missing."""


class LogMessages:
    """The messages of a log. Rows messages form a chain, and reading never passes over a missing one.

    Any thread reads.

    Args:
        jetstream: The cluster's.
        names: The project's.
        collector: The collector's name.

    Attributes:
        stream: The name of the stream.
    """

    def __init__(self, jetstream: JetStream, names: Names, collector: str) -> None:
        self.stream = names.log(collector)
        self._jetstream = jetstream
        self._names = names
        self._collector = collector

    def subject(self, kind: str) -> str:
        """The subject of the messages of a kind."""
        return self._names.log_subject(self._collector, kind)

    def end(self) -> LogEnd:
        """Where the log ends: its last message says it. A stream that only looks empty is asked again.

        Raises:
            GapError: The last message is missing.
            ClusterUnavailableError: The cluster does not answer.
        """

        def attempt() -> LogEnd:
            number = self.last_number()
            if not number:
                return LogEnd()
            found = self._jetstream.get(self.stream, number)
            if found is None:
                raise GapError(f"the last message of the cluster's stream {self.stream}, number {number}, is missing")
            return decoded(number, found.payload).end

        return until_answered(attempt, _WAIT_S)

    def last_number(self) -> int:
        """The number of the last message that the stream ever had; 0 if it had none."""
        info = self._jetstream.stream(self.stream)
        return 0 if info is None else int(info["state"]["last_seq"])

    def message(self, number: int) -> LogMessage:
        """One message, as the stream's leader has it.

        Raises:
            GapError: It is missing.
        """
        found = until_answered(lambda: self._jetstream.get(self.stream, number), _WAIT_S)
        if found is None:
            raise GapError(f"message {number} of the cluster's stream {self.stream} is missing")
        return decoded(number, found.payload)

    def of_kind(self, kind: str, number: int = 1) -> list[LogMessage]:
        """All messages of a kind from a number on, as the stream's leader has them."""
        found: list[LogMessage] = []
        while True:
            at = found[-1].number + 1 if found else number
            stored = until_answered(lambda at=at: self._jetstream.next(self.stream, self.subject(kind), at), _WAIT_S)  # type: ignore[misc]
            if stored is None:
                return found
            found.append(decoded(stored.sequence, stored.payload))

    def read(self, number: int, before: int, until: int, size_bytes: int) -> list[LogMessage]:
        """Rows messages in their order, up to a size but at least one where there are any.

        Args:
            number: Where to begin.
            before: The rows message before the first one that is wanted; -1 if that is unknown.
            until: The last rows message of the log; 0 if there is none.
            size_bytes: Where to stop.

        Raises:
            GapError: Messages are missing.
            ClusterUnavailableError: The cluster does not answer, or no server has yet what is wanted.
        """
        found: list[LogMessage] = []
        if not until:
            return found
        deadline_s, held = time.monotonic() + _WAIT_S, 0
        while before < until and held < size_bytes:
            message = cache.after(self.stream, before)
            if message is None:
                before = self._fetch(max(number, before + 1), before, size_bytes - held, deadline_s)
                continue
            found.append(message)
            held += len(message.body)
            before = message.number
        return found

    def _fetch(self, number: int, before: int, size_bytes: int, deadline_s: float) -> int:
        """Have the next messages in the cache; return the rows message before them."""
        fetched = self._fetched(number, before, size_bytes)
        for each in fetched:
            cache.add(self.stream, each)
        if fetched:
            return fetched[0].before
        if time.monotonic() > deadline_s:
            raise ClusterUnavailableError(f"no server has the messages of {self.stream} behind {before}")
        time.sleep(_PAUSE_S)  # The server that answered lags; it does not tell when it has caught up.
        return before

    def _fetched(self, number: int, before: int, size_bytes: int) -> Sequence[LogMessage]:
        """What a server has from a number on, up to the first message that does not follow."""
        try:
            stored = self._jetstream.read(self.stream, self.subject(ROWS), number, max(size_bytes, 1))
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
        if until_answered(lambda: self._jetstream.get(self.stream, missing), _WAIT_S) is not None:
            return None
        raise GapError(
            f"rows of {self._collector} are missing in the cluster: between messages {before} and {message.number} of "
            f"its stream {self.stream}; delivery stops here. See docs/cluster.md for what to do"
        )


__all__ = ["GapError", "LogMessages"]
