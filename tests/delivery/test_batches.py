"""What was read from the journal and is not in a batch yet is not read again."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from api2db.delivery._batches import LIMIT, Batches
from api2db.delivery._override_loader import OverrideTarget
from api2db.journal import Delivered, Entry, Position, ReadLimit, StreamIdentity, StreamReader, journal_store

pytestmark = pytest.mark.every_journal
FRAMES = 20
VALUES: list[list[int] | list[str]] = [[n] if n % 2 else [str(n)] for n in range(FRAMES)]


class Reads:
    """A reader that counts its reads."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader
        self.count = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._reader, name)

    def read(self, limit: ReadLimit, timeout_s: float | None = None, *, after: Position | None = None) -> list[Entry]:
        self.count += 1
        return self._reader.read(limit, timeout_s, after=after)


@pytest.fixture
def reads(tmp_path: Path) -> Iterator[Reads]:
    """Frames of which no two neighbours have a common schema."""
    handle = journal_store(tmp_path).open("flights")
    _, reader = handle.journal.attach(StreamIdentity("flights", "memory"))
    handle.journal.append([pa.record_batch({"n": values}) for values in VALUES])
    yield Reads(reader)
    handle.release()


def batches_of(reads: Reads) -> Batches:
    return Batches(reads, OverrideTarget(), LIMIT, keyed=False, dtypes=None)  # type: ignore[arg-type]


def passed(reads: Reads, batches: Batches) -> list[int | str]:
    batch = batches.next(0)
    if batch is None:
        return []
    reads.acknowledge(batch.end, Delivered(rows=batch.num_rows))  # type: ignore[operator]
    values: list[int | str] = batch.rows.column("n").to_pylist()
    return values


def test_frames_of_other_types_wait_in_memory(reads: Reads) -> None:
    batches = batches_of(reads)
    assert [passed(reads, batches) for _ in range(FRAMES)] == VALUES
    assert reads.count == 1
    assert batches.next(0) is None


def test_they_are_read_again_from_where_the_stream_has_come_to_by_itself(reads: Reads) -> None:
    batches = batches_of(reads)
    first, second = batches.next(0), passed(reads, batches)
    assert first is not None
    assert first.rows.column("n").to_pylist() == second == VALUES[0]
    assert [each for entry in first.rest for each in entry.batch.column("n").to_pylist()] == [
        each for values in VALUES[1:] for each in values
    ]
    reads.acknowledge(first.rest[4].position, Delivered())  # type: ignore[operator]
    assert passed(reads, batches) == VALUES[6]


def test_fewer_rows_than_were_read_are_read_again(reads: Reads) -> None:
    batches = batches_of(reads)
    assert passed(reads, batches) == VALUES[0]
    batches.fit(1)
    assert passed(reads, batches) == VALUES[1]
    assert reads.count == 2


def test_after_a_wait_for_the_target_they_are_read_again(reads: Reads) -> None:
    batches = batches_of(reads)
    assert passed(reads, batches) == VALUES[0]
    assert batches.wait(0)
    assert passed(reads, batches) == VALUES[1]
    assert reads.count == 3
