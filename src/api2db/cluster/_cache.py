"""A cache of the messages that this process has published or read last, shared by all its logs."""

import threading
from collections import OrderedDict
from typing import Final

from api2db.cluster._message import LogMessage

_CACHE_BYTES: Final = 64 << 20


class MessageCache:
    """Rows messages by log and the rows message before them; it never holds more bytes than its size.

    Args:
        size_bytes: What it holds at most.
    """

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


cache: Final = MessageCache(_CACHE_BYTES)
