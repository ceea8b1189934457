"""While a batch is delivered the next one is read."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from api2db.delivery._prefetch import Prefetch
from api2db.errors import JournalWriteError
from api2db.journal import Delivered, Entry, Position, ReadLimit, StreamIdentity, journal_store
from api2db.journal.port import ENTRY_BYTES

LIMIT = ReadLimit(rows=25, size_bytes=1 << 30)
LARGE_BYTES = 1 << 17


def rows_of(entries: list[Entry]) -> list[int]:
    return [number for entry in entries for number in entry.batch.column("n").to_pylist()]


pytestmark = pytest.mark.every_journal


class Stream:
    """A stream of frames of ten rows, and a reader that says when it has read."""

    def __init__(self, home: Path) -> None:
        self.handle = journal_store(home).open("flights")
        self.journal = self.handle.journal
        self.reader = self.journal.attach(StreamIdentity("flights", "memory"))[1]
        self.reads: list[list[Entry]] = []
        self.has_read = threading.Semaphore(0)
        self.prefetch = Prefetch(self)  # type: ignore[arg-type]
        self.reader.on_news(lambda _rows, _size_bytes: self.prefetch.tell_news())
        self.fails = False

    @property
    def waiting_bytes(self) -> int:
        return self.reader.waiting_bytes

    def put(self, number: int) -> None:
        rows = {"n": [number] * 10, "text": ["x" * (LARGE_BYTES // 4)] * 10}
        self.journal.append([pa.record_batch(rows)])

    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        try:
            if self.fails:
                raise JournalWriteError("planted")
            self.reads.append(self.reader.read(limit, timeout_s, after=after))
            return self.reads[-1]
        finally:
            self.has_read.release()

    def wait_until_read(self) -> None:
        assert self.has_read.acquire(timeout=30)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    found = Stream(tmp_path)
    for number in range(2):
        found.put(number)
    yield found
    found.handle.release()


def delivered(stream: Stream, meanwhile: Callable[[], Any]) -> list[int]:
    """Deliver the first frame, and give what was read of the others by then."""
    first = stream.reader.read(ReadLimit(10, 1 << 30))
    with stream.prefetch.behind(first[-1].position, LIMIT):
        stream.wait_until_read()
        meanwhile()
        stream.reader.acknowledge(first[-1].position, Delivered(rows=10))
    return rows_of(stream.prefetch.take(stream.reader.position, LIMIT))


def test_what_waits_is_read_while_a_batch_is_delivered(stream: Stream) -> None:
    assert delivered(stream, lambda: None) == [1] * 10


def test_what_comes_while_a_batch_is_delivered_is_read_too_up_to_the_limit(stream: Stream) -> None:
    def more() -> None:
        for number in (2, 3):
            stream.put(number)
            stream.wait_until_read()
        stream.put(4)

    assert delivered(stream, more) == [1] * 10 + [2] * 10 + [3] * 5
    assert len(stream.reads) == 3


def test_a_small_entry_counts_for_the_memory_of_an_object(stream: Stream) -> None:
    limit = ReadLimit(rows=1000, size_bytes=30 * ENTRY_BYTES)
    for number in range(100):
        stream.journal.append([pa.record_batch({f"c{number % 2}": [number]})])
    first = stream.reader.read(ReadLimit(20, 1 << 30))
    with stream.prefetch.behind(first[-1].position, limit):
        stream.wait_until_read()
    assert len(stream.prefetch.take(first[-1].position, limit)) == 30


def test_entries_read_ahead_are_dropped_at_another_position_or_limit(stream: Stream) -> None:
    first = stream.reader.read(ReadLimit(10, 1 << 30))
    for position, limit in ((Position(7), LIMIT), (first[-1].position, LIMIT._replace(rows=1))):
        with stream.prefetch.behind(first[-1].position, LIMIT):
            stream.wait_until_read()
        assert stream.prefetch.take(position, limit) == []
        assert stream.prefetch.take(first[-1].position, LIMIT) == [], "they are not kept"


def test_a_small_backlog_is_not_read_ahead(stream: Stream) -> None:
    last = stream.reader.read(ReadLimit(1 << 20, 1 << 30))[-1].position
    stream.reader.acknowledge(last, Delivered(rows=20))
    stream.journal.append([pa.record_batch({"n": [2]})])
    with stream.prefetch.behind(last, LIMIT):
        pass
    assert stream.reads == []


def test_an_error_while_reading_ahead_is_left_to_the_next_read(stream: Stream) -> None:
    stream.fails = True
    assert delivered(stream, lambda: None) == []
    assert rows_of(stream.reader.read(LIMIT, 0)) == [1] * 10
