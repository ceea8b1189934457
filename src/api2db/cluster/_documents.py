"""Documents: JSON that is replaced as a whole, and only where nobody else has replaced it meanwhile."""

import json
import secrets
import zlib
from collections.abc import Mapping
from typing import Any, Final

from api2db.cluster._connection import Message
from api2db.cluster._jetstream import JetStream, MovedError, until_answered
from api2db.errors import ClusterUnavailableError, JournalBusyError

_WAIT_S: Final = 20.0


class Document:
    """A document that one process at a time writes.

    Args:
        jetstream: The cluster's.
        stream: The stream that keeps it.
        subject: Its subject, which no other document has.
    """

    def __init__(self, jetstream: JetStream, stream: str, subject: str) -> None:
        self._jetstream = jetstream
        self._stream = stream
        self._subject = subject
        self._revision: int | None = None
        self._unanswered: set[str] = set()

    def load(self) -> dict[str, Any] | None:
        """Read it from the stream's leader; None if there is none."""
        found = until_answered(lambda: self._jetstream.last(self._stream, self._subject), _WAIT_S)
        self._revision = 0 if found is None else found.sequence
        return None if found is None or not found.payload else unpacked(found.payload)

    def save(self, value: Mapping[str, Any]) -> None:
        """Replace it; durable on return.

        Raises:
            JournalBusyError: Another process has replaced it since it was loaded.
            ClusterUnavailableError: The cluster does not answer; a later save settles whether this one counts.
        """
        if self._revision is None:
            self.load()
        token = secrets.token_hex(8)
        self._unanswered.add(token)
        payload = packed({**value, "written": token})

        def attempt() -> int:
            try:
                return self._jetstream.publish(Message(self._subject, payload), expected_of_subject=self._revision)
            except MovedError:
                return self._settled(token)

        self._revision = until_answered(attempt, _WAIT_S)
        self._unanswered.clear()

    def _settled(self, token: str) -> int:
        """The number of our own write whose answer was lost."""
        found = self._jetstream.last(self._stream, self._subject)
        written = None if found is None or not found.payload else unpacked(found.payload).get("written")
        if found is None or written not in self._unanswered:
            raise JournalBusyError(f"another process has written {self._subject}, so this one no longer owns it")
        self._revision = found.sequence
        if written != token:  # an earlier one, whose answer never came
            raise ClusterUnavailableError(f"an earlier write of {self._subject} has just been found")
        return found.sequence

    def remove(self) -> None:
        """Remove it."""
        until_answered(lambda: self._jetstream.purge(self._stream, self._subject), _WAIT_S)
        self._revision = 0

    def remove_older(self, subjects: str) -> None:
        """Remove the documents of a pattern that were written before this one was saved."""
        until_answered(lambda: self._jetstream.purge(self._stream, subjects, before=self._revision), _WAIT_S)


def packed(value: Mapping[str, Any]) -> bytes:
    """A document as bytes; a long one compressed."""
    return zlib.compress(json.dumps(value).encode(), 1)


def unpacked(payload: bytes) -> dict[str, Any]:
    """The document in bytes."""
    value: dict[str, Any] = json.loads(zlib.decompress(payload))
    return value
