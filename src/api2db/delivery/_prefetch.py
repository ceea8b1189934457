"""Prefetch: the next batch is read while the target is busy with this one."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from api2db.errors import JournalError
from api2db.journal import Entry, Position, ReadLimit, StreamReader

# A smaller load ends before a prefetch pays.
_LEAST_BYTES = 1 << 18


class Prefetch:
    """The entries after the batch in flight, read in a thread: at most as many as one read returns.

    Args:
        reader: The stream's.
    """

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self._news = threading.Event()
        self._ended = threading.Event()
        self._entries: list[Entry] = []
        self._start: tuple[Position, ReadLimit] | None = None

    def tell_news(self) -> None:
        """Announce that there may be more to read; called by any thread."""
        if not self._news.is_set():
            self._news.set()

    @contextmanager
    def behind(
        self, position: Position, limit: ReadLimit, enough: Callable[[Sequence[Entry]], bool] = lambda _: False
    ) -> Iterator[None]:
        """Within the block, read what follows a position, unless that was done before and not taken.

        A small backlog is left to the next read.

        Args:
            position: Where to read.
            limit: The most to read.
            enough: Called in the thread with all that was read so far; returns whether to read no more.
        """
        is_read = bool(self._entries) and self._start == (position, limit)
        if is_read or self._reader.waiting_bytes < _LEAST_BYTES:
            yield
            return
        self._ended.clear()
        self._entries, self._start = [], (position, limit)
        thread = threading.Thread(target=self._run, args=(position, limit, enough), daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no thread can be started while the interpreter exits
            yield
            return
        try:
            yield
        finally:
            self._ended.set()
            self._news.set()
            thread.join()

    def take(self, position: Position, limit: ReadLimit) -> list[Entry]:
        """Hand over the entries; none unless they follow this position and were read within this limit."""
        entries, self._entries = self._entries, []
        return entries if self._start == (position, limit) else []

    def _run(self, after: Position, limit: ReadLimit, enough: Callable[[Sequence[Entry]], bool]) -> None:
        """Read until the limit is reached. An error, for instance of the disk, is raised again by the next read."""
        with suppress(JournalError, OSError):
            while not self._ended.is_set():
                self._news.clear()
                seen_bytes = self._reader.waiting_bytes
                entries = self._reader.read(limit, after=after)
                self._entries += entries
                limit = _rest(limit, entries)
                if enough(self._entries) or limit.rows <= 0 or limit.size_bytes <= 0:
                    return
                after = entries[-1].position if entries else after
                while not self._ended.is_set() and self._reader.waiting_bytes - seen_bytes < _LEAST_BYTES:
                    self._news.wait()
                    self._news.clear()


def _rest(limit: ReadLimit, entries: Sequence[Entry]) -> ReadLimit:
    rows = limit.rows - sum(entry.batch.num_rows for entry in entries)
    if rows <= 0:
        return limit._replace(rows=0)
    return limit._replace(rows=rows, size_bytes=limit.size_bytes - sum(entry.size_bytes for entry in entries))
