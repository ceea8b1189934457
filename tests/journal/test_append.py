import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from api2db import tracing
from api2db.errors import ConfigurationError, JournalError
from api2db.frames import EncodedRows, frame_and_refused, to_batch
from api2db.journal import ALL, Delivered, NotAttachedError, Position, ReadLimit, StreamIdentity, StreamNo, split
from api2db.journal._epochs import read_epochs
from api2db.journal._segment import Location
from api2db.journal.port import ENTRY_BYTES
from tests.journal.conftest import Opener
from tests.journal.tools import (
    LIMIT,
    OTHER,
    STREAM,
    delivered_from,
    drain,
    frame,
    numbers,
    random_frame,
    segments,
    take,
)


class Fsyncs:
    """Counts the real calls, and can hold them up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self._real = os.fdatasync
        monkeypatch.setattr(os, "fdatasync", self)

    def __call__(self, fd: int) -> None:
        self.count += 1
        self.begun.set()
        assert self.gate.wait(30)
        self._real(fd)


@pytest.fixture
def fsyncs(monkeypatch: pytest.MonkeyPatch) -> Fsyncs:
    return Fsyncs(monkeypatch)


def in_threads(work: Callable[[int], object], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_what_was_put_is_read_in_order_and_once(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    for number in range(20):
        journal.append([frame(number)])
    assert drain(log) == list(range(20))
    assert drain(log) == []


def test_a_put_is_on_the_disk_when_it_returns(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened()
    for number in range(3):
        before = fsyncs.count
        journal.append([frame(number)])
        assert fsyncs.count == before + 1


def test_puts_that_wait_for_an_fsync_share_the_next_one(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    fsyncs.gate.clear()
    fsyncs.begun.clear()
    before = fsyncs.count
    leader = in_threads(lambda _: journal.append([frame(1)]), 1)
    assert fsyncs.begun.wait(30)
    followers = in_threads(lambda number: journal.append([frame(2 + number)]), 10)
    while len(journal.appender._unsynced) < 11:
        threading.Event().wait(0.001)
    assert log.backlog().frames == 1, "no frame is visible before its fsync"
    fsyncs.gate.set()
    for thread in leader + followers:
        thread.join()
    assert fsyncs.count == before + 2
    assert sorted(drain(log)) == list(range(12))


def test_frames_are_encoded_outside_the_lock(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    from api2db.journal import _rows

    journal = opened()
    free: list[bool] = []
    real = _rows.frame_parts

    def watched(*arguments: object) -> Iterator[object]:
        free.append(journal.core.changed.acquire(blocking=False))
        journal.core.changed.release()
        yield from real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(_rows, "frame_parts", watched)
    journal.append([frame(1)])
    assert free == [True]


def test_frames_of_one_put_share_one_fsync(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened()
    journal.append([frame(0)])
    before = fsyncs.count
    journal.append([frame(number) for number in range(1, 50)])
    assert fsyncs.count == before + 1


def test_durability_process_costs_no_fsync_until_delivery_and_delivery_reads_only_what_is_fsynced(
    opened: Opener, fsyncs: Fsyncs
) -> None:
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    before = fsyncs.count
    for number in range(1, 5):
        journal.append([frame(number)])
    assert fsyncs.count == before
    assert numbers(log.read(LIMIT, 0)) == [0, 1, 2, 3, 4]
    assert fsyncs.count == before + 1


def test_durability_process_never_has_more_than_a_few_megabytes_unsynced(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened(durability="process")
    journal.append([frame(0)])
    before = fsyncs.count
    for number in range(5):
        journal.append([random_frame(number, 1, 4 << 20)])
    assert fsyncs.count >= before + 1
    assert journal.appender._unsynced_bytes < 16 << 20


def test_a_rotation_while_others_put_loses_and_swaps_nothing(opened: Opener, tmp_path: Path) -> None:
    journal = opened(segment_bytes=2000)
    _, log = journal.attach(STREAM)

    def put(thread: int) -> None:
        for number in range(40):
            journal.append([frame(1000 * thread + number)])

    for running in in_threads(put, 6):
        running.join()
    assert len(segments(journal.folder)) > 3
    entries = log.read(ReadLimit(10_000, 1 << 30), 0)
    assert all(one.position < other.position for one, other in pairwise(entries))
    found = numbers(entries)
    assert Counter(found) == Counter(1000 * thread + number for thread in range(6) for number in range(40))
    for thread in range(6):
        assert [number for number in found if number // 1000 == thread] == [1000 * thread + n for n in range(40)]


def test_no_number_is_given_while_a_put_waits_for_a_new_segment(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened(durability="process")
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    journal.appender.needs_new_segment = True
    fsyncs.gate.clear()
    fsyncs.begun.clear()
    given = journal.core.sequence
    threads = in_threads(lambda number: journal.append([frame(1 + number)]), 4)
    assert fsyncs.begun.wait(30)
    with journal.core.changed:
        assert journal.core.sequence == given
    fsyncs.gate.set()
    for thread in threads:
        thread.join()
    assert sorted(drain(log)) == [0, 1, 2, 3, 4]


def test_timestamps_rise_strictly_whatever_the_clock_does(opened: Opener) -> None:
    times = iter([1000, 1000, 900, 5000, 1, 1, 6000, 0, 0, 0])
    journal = opened(clock=lambda: next(times))
    _, log = journal.attach(STREAM)
    for number in range(6):
        journal.append([frame(number)])
    found = [entry.timestamp_ns for entry in split(log.read(LIMIT, 0))]
    journal.close()
    journal = opened(clock=lambda: 0)
    journal.append([frame(6)])
    _, log = journal.attach(STREAM)
    found += [entry.timestamp_ns for entry in split(log.read(LIMIT, 0))][6:]
    assert found == [1000, 1001, 1002, 5000, 5001, 5002, 5003]


def test_timestamps_rise_though_everything_was_delivered_before_the_clock_went_back(opened: Opener) -> None:
    journal = opened(clock=lambda: 10**18)
    _, log = journal.attach(STREAM)
    for number in range(3):
        journal.append([frame(number)])
    first = take(log)[-1].timestamp_ns
    journal.close()
    for _ in range(3):
        journal = opened(clock=lambda: 5)
        _, log = journal.attach(STREAM)
        journal.append([frame(9)])
        second = take(log)[-1].timestamp_ns
        assert second > first
        first = second
        journal.close()


def test_a_long_frame_is_slices_of_one_put_under_one_time(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened(slice_limit=ReadLimit(rows=10, size_bytes=1 << 20))
    _, log = journal.attach(STREAM)
    journal.append([frame(0)])
    before = fsyncs.count
    journal.append([frame(1, rows=35), frame(2)])
    assert fsyncs.count == before + 1
    entries = [*split(log.read(LIMIT, 0))][1:]
    assert [entry.batch.num_rows for entry in entries] == [10, 10, 10, 5, 1]
    assert [entry.frame_end for entry in entries] == [False, False, False, True, True]
    assert len({entry.timestamp_ns for entry in entries[:4]}) == 1
    assert entries[4].timestamp_ns > entries[3].timestamp_ns


def test_encoded_frames_are_stored_as_converted_ones_are(opened: Opener) -> None:
    journal = opened(slice_limit=ReadLimit(rows=10, size_bytes=1 << 20))
    _, log = journal.attach(STREAM)
    sizes = [3, 5, 10, 25, 1]
    frames = [pd.DataFrame({"n": range(rows), "text": ["x" * row for row in range(rows)]}) for rows in sizes]
    parts = [part for frame in frames for part in frame_and_refused(frame, "encoded")]
    assert [isinstance(part, EncodedRows) for part in parts] == [False, True, True, True, True]
    journal.append(parts)
    entries = [*split(log.read(LIMIT, 0))]
    assert [entry.batch.num_rows for entry in entries] == [3, 5, 10, 10, 10, 5, 1]
    found = pa.Table.from_batches([entry.batch for entry in entries])
    assert found.equals(pa.Table.from_batches(map(to_batch, frames)))


def test_small_frames_are_read_together_and_each_can_be_acknowledged(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    sizes = [3, 0, 1, 5]
    for number, rows in enumerate(sizes):
        journal.append([frame(number, rows=rows)])
    [entry] = log.read(LIMIT, 0)
    assert entry.frames == 4
    assert [rows for _, rows in entry.frame_times()] == sizes
    for number, piece in enumerate(entry.split()):
        assert piece.batch.equals(frame(number, rows=sizes[number]))
        log.acknowledge(piece.position, Delivered(rows=sizes[number]))
        assert (log.backlog().frames, log.backlog().rows) == (3 - number, sum(sizes[number + 1 :]))


@pytest.mark.parametrize(
    "text", [pa.nulls(1), pa.array(["a"]).dictionary_encode()], ids=lambda column: str(column.type)
)
def test_small_frames_that_can_not_be_read_together_count_for_the_memory_of_an_object_each(
    opened: Opener, text: pa.Array
) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([pa.record_batch({"text": pa.array([f"{n}"]) if n % 2 else text}) for n in range(100)])
    limit = ReadLimit(rows=1000, size_bytes=10 * ENTRY_BYTES)
    sizes = []
    while entries := log.read(limit, 0):
        sizes.append(len(entries))
        log.acknowledge(entries[-1].position, Delivered())
    assert sizes == [10] * 10


def test_small_frames_that_are_read_together_keep_the_contexts_of_their_spans(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    contexts = [bytes([number]) * tracing.CONTEXT_BYTES for number in range(3)]
    for number, context in enumerate([*contexts, None]):
        span = nullcontext(SimpleNamespace(context=context))
        monkeypatch.setattr(tracing, "begin", lambda *_, span=span, **__: span)
        monkeypatch.setattr(tracing, "is_on", lambda: True)
        journal.append([frame(number, rows=2)])
    entries = log.read(LIMIT, 0)
    assert [entry.traces for entry in entries] == [contexts, [None]]
    assert [piece.trace for piece in split(entries)] == [*contexts, None]
    assert entries[0].up_to(2).traces == contexts[:2]
    assert numbers(entries) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_frame_larger_than_a_segment_comes_back_whole(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    large = random_frame(1, 80, 1 << 20)
    journal.append([large])
    journal.append([frame(2)])
    found: list[pa.RecordBatch] = []
    while entries := log.read(LIMIT, 0):
        assert sum(entry.batch.nbytes for entry in entries) < 64 << 20, "a read is bounded, however large the frame"
        found += [entry.batch for entry in entries]
        log.acknowledge(entries[-1].position, Delivered())
    assert pa.Table.from_batches(found[:-1]).combine_chunks().equals(pa.Table.from_batches([large]))
    assert found[-1].num_rows == 1


@pytest.mark.parametrize(
    "batch",
    [
        pa.record_batch({"view": pa.array(["a", None, "long enough to need a buffer of its own"], pa.string_view())}),
        pa.record_batch({"category": pa.array(["x", "y", "x", None]).dictionary_encode()}),
        pa.record_batch({"nested": pa.array([{"c": "x"}, {"c": "y"}], pa.struct([("c", pa.string())]))}),
        pa.record_batch({"json": pa.ExtensionArray.from_storage(pa.json_(pa.utf8()), pa.array(['{"a": 1}', None]))}),
        pa.record_batch({"nothing": pa.nulls(3)}),
        pa.record_batch({"list": pa.array([[1, 2], None, []])}),
        pa.record_batch({"empty": pa.array([], pa.int64())}),
    ],
    ids=lambda batch: batch.schema.names[0],
)
def test_every_kind_of_column_comes_back_as_it_was_put(opened: Opener, batch: pa.RecordBatch) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    batch = batch.replace_schema_metadata({"pandas": "{}"})
    journal.append([batch, batch.slice(1)])
    whole, rest = (entry.batch for entry in split(log.read(LIMIT, 0)))
    assert whole.to_pylist() == batch.to_pylist()
    assert rest.to_pylist() == batch.slice(1).to_pylist()
    assert whole.schema.metadata == {b"pandas": b"{}"}
    if "view" not in batch.schema.names:
        assert whole.schema.equals(batch.schema, check_metadata=True)


def test_a_table_of_many_chunks_is_one_frame_in_slices(opened: Opener) -> None:
    journal = opened(slice_limit=ReadLimit(rows=7, size_bytes=1 << 20))
    _, log = journal.attach(STREAM)
    table = pa.concat_tables([pa.Table.from_batches([frame(number, 5)]) for number in range(4)])
    journal.append([table])
    entries = take(log)
    assert numbers(entries) == [number for number in range(4) for _ in range(5)]
    assert [entry.frame_end for entry in entries] == [False, False, True]
    assert len({entry.timestamp_ns for entry in entries}) == 1


def test_dictionaries_within_other_columns_come_back(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    inner = pa.array(["x", "y", "x"]).dictionary_encode()
    batch = pa.record_batch({"struct": pa.StructArray.from_arrays([inner], ["inner"])})
    journal.append([batch])
    assert log.read(LIMIT, 0)[0].batch.equals(batch)


def test_only_what_may_stay_on_the_disk_is_compressed(opened: Opener) -> None:
    journal = opened(slice_limit=ReadLimit(rows=1 << 20, size_bytes=1 << 20))
    stream_no, log = journal.attach(StreamIdentity("with a quota", "sql.duckdb", quota_bytes=4 << 20))
    small, large = (pa.record_batch({"zero": pa.array([0.0] * rows)}) for rows in (1 << 16, 1 << 18))
    sizes = []
    for batch in (small, large, small):
        before = log.backlog().size_bytes
        journal.append([batch], stream_no=stream_no)
        sizes.append(log.backlog().size_bytes - before)
    at_first, of_several_records, beyond_a_quarter = sizes
    assert at_first >= small.nbytes
    assert of_several_records < large.nbytes / 8
    assert beyond_a_quarter < small.nbytes / 8
    found = [entry.batch for entry in take(log, ReadLimit(rows=1 << 20, size_bytes=1 << 30))]
    assert pa.Table.from_batches(found).equals(pa.Table.from_batches([small, large, small]))


def test_a_few_rows_of_a_large_frame_cost_only_what_they_are(opened: Opener) -> None:
    journal = opened()
    for type_ in (pa.large_string(), pa.string_view()):
        column = pa.array(["x" * 100] * 100_000).cast(type_)
        journal.append([pa.record_batch({"text": column}).slice(7, 5)])
    assert sum(path.stat().st_size for path in segments(journal.folder)) < 10_000


def test_a_large_dictionary_does_not_make_a_slice_of_each_row(opened: Opener) -> None:
    journal = opened(slice_limit=ReadLimit(rows=1 << 20, size_bytes=100_000))
    _, log = journal.attach(STREAM)
    column = pa.array([f"category {number}" for number in range(20_000)]).dictionary_encode().slice(0, 100)
    journal.append([pa.record_batch({"category": column})])
    assert len(log.read(LIMIT, 0)) == 1


def test_a_schema_is_not_stored_anew_with_each_frame(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    wide = pa.record_batch({f"a column with a long name {number}": [number] for number in range(200)})
    for _ in range(3):
        journal.append([wide])
    sizes = [journal.appender._unsynced_bytes, segments(journal.folder)[-1].stat().st_size]
    journal.append([wide])
    grown = segments(journal.folder)[-1].stat().st_size - sizes[1]
    assert grown < wide.schema.serialize().size
    assert len([*split(log.read(LIMIT, 0))]) == 4


def test_changing_schemas_are_read_back_each_with_its_own(opened: Opener) -> None:
    journal = opened(segment_bytes=4000)
    _, log = journal.attach(STREAM)
    batches = [pa.record_batch({f"c{number % 7}": [number], "n": [number]}) for number in range(60)]
    for batch in batches:
        journal.append([batch])
    found = []
    while entries := take(log, ReadLimit(9, 1 << 20)):
        found += [entry.batch for entry in split(entries)]
    assert [batch.to_pylist() for batch in found] == [batch.to_pylist() for batch in batches]


def test_a_frame_put_into_a_lane_is_that_streams_alone_and_one_put_for_all_is_stored_once(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    _, other = journal.attach(OTHER)
    journal.append([frame(1)])
    journal.append([frame(2)], stream_no=stream_no)
    journal.append([frame(3)])
    size = segments(journal.folder)[-1].stat().st_size
    assert size < 3 * 1500
    assert drain(log) == [1, 2, 3]
    assert drain(other) == [1, 3]


def test_a_stream_that_is_registered_begins_at_the_end(opened: Opener) -> None:
    journal = opened()
    journal.append([frame(1)])
    _, log = journal.attach(STREAM)
    assert log.backlog().frames == 0
    journal.append([frame(2)])
    assert drain(log) == [2]


def test_a_stream_that_was_detached_goes_on_where_it_was(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    journal.append([frame(1), frame(2)])
    log.acknowledge(log.read(ReadLimit(1, 1), 0)[-1].position, Delivered(rows=1))
    journal.detach(stream_no)
    journal.append([frame(3)])
    again, log = journal.attach(STREAM)
    assert again == stream_no
    assert drain(log) == [2, 3]


def test_two_live_streams_of_one_identity_are_refused(opened: Opener) -> None:
    journal = opened()
    journal.attach(STREAM)
    with pytest.raises(ConfigurationError, match="running already"):
        journal.attach(STREAM)


def test_a_forgotten_stream_is_gone_with_what_waited_and_a_running_one_is_not_forgotten(opened: Opener) -> None:
    journal = opened(segment_bytes=1000)
    stream_no, _ = journal.attach(STREAM)
    for number in range(10):
        journal.append([frame(number)])
    with pytest.raises(ConfigurationError, match="running"):
        journal.forget(STREAM.name)
    journal.detach(stream_no)
    assert journal.forget(STREAM.name)
    assert not journal.forget(STREAM.name)
    assert len(segments(journal.folder)) == 1
    new_lane, log = journal.attach(STREAM)
    assert new_lane != stream_no
    assert log.backlog().frames == 0


def test_a_frame_can_be_read_in_parts_and_the_rest_comes_next_also_after_an_open(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    _, other = journal.attach(OTHER)
    journal.append([frame(1, rows=10)], stream_no=StreamNo(2))
    journal.append([frame(2, rows=10)])
    first = take(log, ReadLimit(4, 1 << 20))
    assert (first[0].batch.num_rows, first[0].frame_end) == (4, False)
    assert log.backlog().rows == 6
    journal.close()
    journal = opened()
    _, log = journal.attach(STREAM)
    assert log.backlog().rows == 6
    assert [entry.batch.num_rows for entry in take(log)] == [6]
    assert log.backlog() == other.backlog().__class__(0, 0, 0, None)


def test_reads_behind_one_another_give_what_one_read_gives(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    for number in range(5):
        journal.append([frame(number, 10)], stream_no=stream_no)
    limit = ReadLimit(rows=15, size_bytes=1 << 20)
    first = log.read(limit)
    second = log.read(limit, after=first[-1].position)
    for entries in (first, second):
        log.acknowledge(entries[-1].position, Delivered(rows=15))
    assert numbers([*first, *second]) + drain(log) == [number for number in range(5) for _ in range(10)]
    assert log.waiting_bytes == 0


def test_a_read_behind_another_waits_for_nothing(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    journal.append([frame(0)], stream_no=stream_no)
    first = log.read(LIMIT)
    assert log.read(LIMIT, after=first[-1].position) == []
    journal.append([frame(1)], stream_no=stream_no)
    assert numbers(log.read(LIMIT, after=first[-1].position)) == [1]


def test_what_was_read_ahead_is_read_again_where_not_all_before_it_was_delivered(opened: Opener) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    for number in range(4):
        journal.append([frame(number)], stream_no=stream_no)
    limit = ReadLimit(rows=2, size_bytes=1 << 20)
    first = log.read(limit)
    log.read(limit, after=first[-1].position)
    log.acknowledge(next(split(first)).position, Delivered(rows=1))
    assert numbers(log.read(limit)) == [1, 2]
    assert drain(log) == [1, 2, 3]


def test_a_read_may_begin_behind_any_position(opened: Opener) -> None:
    journal = opened(segment_bytes=1500)
    _, log = journal.attach(STREAM)
    for number in range(30):
        journal.append([frame(number)])
    positions = [entry.position for entry in split(log.read(LIMIT))]
    assert numbers(log.read(LIMIT, after=positions[9])) == list(range(10, 30))
    log.acknowledge(positions[19], Delivered(rows=20))
    assert log.backlog().frames == 10
    assert drain(log) == list(range(20, 30))


def test_acknowledging_what_was_read_ahead_reads_nothing_again(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    for number in range(4):
        journal.append([frame(number)])
    limit = ReadLimit(rows=2, size_bytes=1 << 20)
    first = log.read(limit)
    second = log.read(limit, after=first[-1].position)
    with monkeypatch.context() as patched:
        patched.setattr(journal.core.segment_set, "blocks", None)
        log.acknowledge(first[-1].position, Delivered(rows=2))
        log.acknowledge(second[-1].position, Delivered(rows=2))
    assert log.waiting_bytes == 0


def test_what_comes_for_another_stream_is_passed_once(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    other, _ = journal.attach(OTHER)
    journal.append([frame(0)], stream_no=stream_no)
    first = log.read(LIMIT)
    begun, blocks = [], journal.core.segment_set.blocks

    def watched(start: Location, *arguments: Any, **options: Any) -> Iterator[Any]:
        begun.append(start)
        yield from blocks(start, *arguments, **options)

    monkeypatch.setattr(journal.core.segment_set, "blocks", watched)
    for number in range(1, 4):
        journal.append([frame(number)], stream_no=other)
        assert log.read(LIMIT, after=first[-1].position) == []
    assert begun == sorted(set(begun))
    journal.append([frame(4)], stream_no=stream_no)
    log.acknowledge(first[-1].position, Delivered(rows=1))
    assert drain(log) == [4]


def test_a_read_ahead_that_fails_midway_loses_and_doubles_nothing(
    opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened()
    stream_no, log = journal.attach(STREAM)
    limit = ReadLimit(rows=10, size_bytes=1 << 20)
    journal.append([frame(0)], stream_no=stream_no)
    last = log.read(limit)[-1].position
    for number in range(1, 3):
        journal.append([frame(number)], stream_no=stream_no)
        last = log.read(limit, after=last)[-1].position
    journal.append([frame(3), frame(4)], stream_no=stream_no)
    blocks = journal.core.segment_set.blocks

    def failing(*arguments: Any, **options: Any) -> Iterator[Any]:
        yield next(blocks(*arguments, **options))
        raise OSError(errno.EIO, "a disk that can't be read")

    with monkeypatch.context() as patched:
        patched.setattr(journal.core.segment_set, "blocks", failing)
        with pytest.raises(OSError, match="can't be read"):
            log.read(limit, after=last)
    assert numbers(log.read(limit, after=last)) == [3, 4]
    log.acknowledge(last, Delivered(rows=3))
    assert drain(log, limit) == [3, 4]


def test_whole_frames_are_never_cut(opened: Opener) -> None:
    journal = opened(slice_limit=ReadLimit(rows=10, size_bytes=1 << 20))
    _, log = journal.attach(STREAM)
    for number in range(3):
        journal.append([frame(number, rows=35)])
    for number in range(3):
        entries = take(log, ReadLimit(5, 1, whole_frames=True))
        assert [entry.batch.num_rows for entry in entries] == [10, 10, 10, 5]
        assert set(numbers(entries)) == {number}
        assert entries[-1].frame_end


def test_a_read_stops_at_its_limit_of_rows_or_bytes_and_gives_at_least_one_row(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    for number in range(30):
        journal.append([frame(number, rows=3)])
    assert sum(entry.batch.num_rows for entry in log.read(ReadLimit(10, 1 << 20), 0)) == 10
    assert len(log.read(ReadLimit(1000, 1), 0)) == 1
    assert len(log.read(ReadLimit(1, 1 << 20), 0)[0].batch) == 1


def test_the_newest_frame_is_given_whole_with_what_it_supersedes(opened: Opener) -> None:
    journal = opened(slice_limit=ReadLimit(rows=10, size_bytes=1 << 20))
    _, log = journal.attach(STREAM)
    for number in range(5):
        journal.append([frame(number, rows=25)])
    entries, superseded = log.newest()
    assert set(numbers(entries)) == {4}
    assert [entry.batch.num_rows for entry in entries] == [10, 10, 5]
    assert superseded == (4, 100)
    log.acknowledge(entries[0].position, Delivered(rows=10))
    again, superseded = log.newest()
    assert [entry.batch.num_rows for entry in again] == [10, 5]
    log.acknowledge(again[-1].position, Delivered(rows=15))
    assert log.backlog().frames == 0
    assert log.newest() == ([], (0, 0))


def test_a_flush_waits_for_what_was_put_before_its_mark(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    assert log.wait_for(log.mark(), 0)
    journal.append([frame(1)])
    mark = log.mark()
    journal.append([frame(2)])
    assert not log.wait_for(mark, 0.01)
    entries = log.read(ReadLimit(1, 1), 0)
    log.acknowledge(entries[-1].position, Delivered(rows=1))
    assert log.wait_for(mark, 0)
    assert not log.wait_for(log.mark(), 0.01)


def test_a_mark_is_known_to_a_later_open(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(1)])
    mark = log.mark()
    journal.close()
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(2)], cursor={"page": 2})
    assert not log.wait_for(mark, 0.01)
    entries = log.read(ReadLimit(1, 1), 0)
    log.acknowledge(entries[-1].position, Delivered(rows=1))
    assert log.wait_for(mark, 0)
    assert drain(log) == [2]
    journal.close()
    assert opened().readers[1].wait_for(mark, 0)


def test_a_wait_ends_when_the_journal_is_closed(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(1)])
    found: list[bool] = []
    threads = in_threads(lambda _: found.append(log.wait_for(log.mark(), None)), 1)
    journal.close()
    threads[0].join(30)
    assert found == [False]


def test_whoever_still_uses_a_closed_journal_is_told_so(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.close()
    for use in (
        journal.overview,
        journal.core.state.streams,
        journal.core.state.epochs,
        journal.core.state.segments,
        lambda: journal.core.state.meta("journal"),
        lambda: log.checkpoint("plan"),
        lambda: log.set_error("the target is down"),
    ):
        with pytest.raises(JournalError, match="has been closed"):
            use()


def test_a_waiting_read_ends_when_woken_or_when_a_frame_comes(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    found: list[list[int]] = []
    threads = in_threads(lambda _: found.append(numbers(log.read(LIMIT))), 1)
    log.wake()
    threads[0].join(30)
    assert found == [[]]
    threads = in_threads(lambda _: found.append(numbers(log.read(LIMIT))), 1)
    journal.append([frame(1)])
    threads[0].join(30)
    assert found == [[], [1]]


def test_seek_takes_over_what_a_ledger_says_forward_and_back(opened: Opener) -> None:
    journal = opened(segment_bytes=1500)
    _, log = journal.attach(STREAM)
    for number in range(30):
        journal.append([frame(number)])
    positions = [entry.position for entry in split(log.read(LIMIT, 0))]
    log.seek(positions[19])
    assert log.backlog().frames == 10
    log.seek(positions[4])
    assert log.backlog().frames == 25
    assert drain(log) == list(range(5, 30))
    log.seek(Position(positions[-1].sequence + 1000))
    assert log.backlog().frames == 0


def test_segments_go_once_every_stream_is_past_them(opened: Opener) -> None:
    journal = opened(segment_bytes=1500)
    _, log = journal.attach(STREAM)
    _, other = journal.attach(OTHER)
    for number in range(30):
        journal.append([frame(number)])
    many = len(segments(journal.folder))
    assert many > 5
    drain(log)
    assert len(segments(journal.folder)) == many
    half = other.read(ReadLimit(15, 1 << 20), 0)
    other.acknowledge(half[-1].position, Delivered(rows=15))
    assert 1 < len(segments(journal.folder)) < many
    assert drain(other) == list(range(15, 30))
    assert len(segments(journal.folder)) == 1
    journal.append([frame(31)])
    assert drain(log) == drain(other) == [31]


def test_a_put_of_nothing_says_the_last_number(opened: Opener) -> None:
    journal = opened()
    assert journal.append([], stream_no=ALL) == journal.append([])


def test_the_numbers_of_one_opening_can_run_out(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    journal.append([frame(1)])
    journal.core.sequence |= (1 << 32) - 3
    given = [journal.append([frame(number), frame(number)]) for number in range(2, 5)]
    assert given == sorted(set(given))
    assert drain(log) == [1, 2, 2, 3, 3, 4, 4]
    assert max(read_epochs(journal.folder).values()) == given[-1] >> 32, "it is on the disk before a number is given"
    journal.close()
    journal = opened()
    assert journal.append([frame(5)]) > given[-1]
    assert journal.append([frame(5)]) >> 32 > given[-1] >> 32


def test_memory_does_not_keep_what_was_put(opened: Opener) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    before = pa.total_allocated_bytes()
    for number in range(20):
        journal.append([random_frame(number, 1, 1 << 20)])
    assert pa.total_allocated_bytes() - before < 4 << 20
    assert log.backlog().size_bytes > 20 << 20


def test_a_read_of_a_few_frames_among_many_of_another_stream_keeps_only_those(opened: Opener) -> None:
    import tracemalloc

    journal = opened(durability="process")
    stream_no, log = journal.attach(STREAM)
    other, _ = journal.attach(OTHER)
    for number in range(40):
        journal.append([frame(number)], stream_no=stream_no)
        journal.append([random_frame(number, 1, 1 << 20)], stream_no=other)
    journal.sync()
    tracemalloc.start()
    entries = [*split(log.read(LIMIT, 0))]
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(entries) == 40
    assert kept < 8 << 20


def test_a_put_that_waits_for_an_fsync_while_the_journal_is_closed_returns(opened: Opener, fsyncs: Fsyncs) -> None:
    journal = opened()
    _, log = journal.attach(STREAM)
    raised: list[Exception] = []

    def put(number: int) -> None:
        try:
            journal.append([frame(number)])
        except Exception as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    fsyncs.gate.clear()
    fsyncs.begun.clear()
    first = in_threads(put, 1)
    assert fsyncs.begun.wait(30)
    closing = in_threads(lambda _: journal.close(), 1)
    while not journal.appender._closing:
        threading.Event().wait(0.001)
    late = in_threads(lambda _: put(2), 1)
    fsyncs.gate.set()
    for thread in (*first, *closing, *late):
        thread.join(30)
    assert [type(error) for error in raised] == [NotAttachedError], "only the late one, of which nothing is stored"
    with pytest.raises(NotAttachedError):
        log.read(LIMIT, 0)
    assert delivered_from(journal.home) == [0]


def test_a_put_that_waits_for_room_while_its_stream_is_forgotten_raises(opened: Opener) -> None:
    journal = opened()
    small = StreamIdentity("small", "local.parquet", quota_bytes=1000)
    stream_no, _ = journal.attach(small)
    journal.append([frame(0, size_bytes=500)], stream_no=stream_no)
    raised: list[Exception] = []

    def put(number: int) -> None:
        try:
            journal.append([frame(number, size_bytes=500)], stream_no=stream_no)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)

    waiting = in_threads(put, 1)
    while not journal.core.changed._waiters:  # type: ignore[attr-defined]
        threading.Event().wait(0.001)
    journal.detach(stream_no)
    assert journal.forget(small.name)
    waiting[0].join(30)
    assert [type(error) for error in raised] == [NotAttachedError]
    with pytest.raises(NotAttachedError):
        journal.append([frame(1)], stream_no=stream_no)
