"""The behaviour suite: what every stream does, run on every target."""

import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Stream
from api2db.errors import ConfigurationError, JournalError
from api2db.frames import to_batch
from api2db.journal import journal_store
from api2db.stream import StreamStatus
from tests.stream.cases import (
    APPENDING,
    BY_URL,
    BY_URL_IN_SHORT,
    CASES,
    COLLECTOR,
    EMULATED,
    LIVE,
    LONG,
    OBJECTS,
    REPLACING,
    TargetCase,
    files,
    frame,
    making,
    shards,
    sql,
)
from tests.stream.eventually import eventually

pytestmark = pytest.mark.every_journal(
    cases=["sqlite", "shard_parquet"],
    nats=[
        "test_frames_arrive_in_the_order_in_which_they_were_put",
        "test_replace_keeps_the_newest_frame_and_counts_those_before_it",
    ],
)
Make = Callable[..., Stream]
APPENDING_EMULATOR, *OTHER_EMULATORS = EMULATED
BY_URL_AT_LENGTH = [case for case in BY_URL if case not in BY_URL_IN_SHORT]
IN_TORTURE = [pytest.param(case, marks=pytest.mark.torture) for case in (*OTHER_EMULATORS, *LONG, *BY_URL_AT_LENGTH)]
ELSEWHERE = [pytest.param(case, marks=pytest.mark.live) for case in LIVE]


@pytest.fixture(
    params=[*CASES, OBJECTS, APPENDING_EMULATOR, *BY_URL_IN_SHORT, *IN_TORTURE, *ELSEWHERE], ids=lambda case: case.name
)
def case(request: pytest.FixtureRequest) -> TargetCase:
    assert isinstance(request.param, TargetCase)
    return request.param.use(request)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    with making(tmp_path) as make:
        yield make


def put_to_all(home: Path, *frames: pd.DataFrame) -> None:
    """Put into the journal for all of its streams, as a collector does."""
    handle = journal_store(home).open(COLLECTOR)
    handle.journal.append([to_batch(each) for each in frames])
    handle.release()


def test_the_first_frame_makes_the_target(case: TargetCase, make: Make, tmp_path: Path) -> None:
    with make(case) as stream:
        stream.q.put(frame(1, 2))
    assert case.rows(tmp_path) == [{"id": 1, "text": "row 1"}, {"id": 2, "text": "row 2"}]


def test_frames_arrive_in_the_order_in_which_they_were_put(case: TargetCase, make: Make, tmp_path: Path) -> None:
    frames = [[10 * number, 10 * number + 1] for number in range(9, 0, -1)]
    with make(case) as stream:
        for numbers in frames:
            stream.q.put(frame(*numbers))
    assert case.ids(tmp_path) == case.expected(frames)


def test_what_was_put_before_a_start_is_delivered_after_it(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case)
    stream.q.put(frame(1))
    stream.q.put(frame(2))
    assert case.rows(tmp_path) == []
    stream.start()
    assert stream.flush(20)
    assert case.ids(tmp_path) == case.expected([[1], [2]])


def test_a_new_object_in_the_same_home_goes_on_where_the_last_ended(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    first = make(case)
    with first:
        first.q.put(frame(1))
    first.q.put(frame(2))
    first.stop()
    assert first.status().frames_waiting == 1
    with make(case) as second:
        second.q.put(frame(3))
    assert case.ids(tmp_path) == case.expected([[1], [2], [3]])
    assert second.status().frames_delivered == 3


def test_a_stream_is_started_again_after_a_stop(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case)
    for number in (1, 2, 3):
        stream.start()
        stream.q.put(frame(number))
        assert stream.flush(20)
        stream.stop()
    assert case.ids(tmp_path) == case.expected([[1], [2], [3]])


def test_to_start_a_running_stream_does_nothing(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case)
    stream.start()
    stream.start()
    stream.q.put(frame(1))
    assert stream.flush(20)
    assert case.ids(tmp_path) == [1]


def test_to_stop_what_was_never_started_or_is_stopped_does_nothing(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    stream = make(case)
    stream.stop()
    assert list(tmp_path.iterdir()) == []
    stream.start()
    stream.stop()
    stream.stop()


def test_the_lock_is_held_while_the_worker_lives_and_free_before_and_after(case: TargetCase, make: Make) -> None:
    stream = make(case)
    assert not stream.lock.locked()
    stream.start()
    assert stream.lock.locked()
    assert stream.status().running
    stream.stop()
    assert not stream.lock.locked()
    assert not stream.status().running


def test_stream_start_delivers_in_the_thread_that_calls_it_until_it_is_stopped(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    stream = make(case)
    stream.q.put(frame(1))
    thread = threading.Thread(target=stream.stream_start)
    thread.start()
    assert eventually(stream.lock.locked)
    assert stream.flush(20)
    stream.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert case.ids(tmp_path) == [1]


def test_leaving_the_with_block_delivers_and_stops(case: TargetCase, make: Make, tmp_path: Path) -> None:
    with make(case) as stream:
        assert stream.lock.locked()
        stream.q.put(frame(1))
    assert not stream.lock.locked()
    assert case.ids(tmp_path) == [1]


def test_an_error_in_the_with_block_passes_through_and_loses_nothing(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    def put_and_fail() -> None:
        with make(case) as stream:
            stream.q.put(frame(1))
            raise KeyError

    with pytest.raises(KeyError):
        put_and_fail()
    with make(case):
        pass
    assert case.ids(tmp_path) == [1]


def test_streaming_directly_returns_none_once_the_frame_is_there(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case)
    answer: object = stream.stream(frame(1))  # type: ignore[func-returns-value]
    assert answer is None
    assert case.ids(tmp_path) == [1]
    stream.stream(frame(2))
    assert case.ids(tmp_path) == case.expected([[1], [2]])


def test_flush_says_whether_everything_put_so_far_is_there(case: TargetCase, make: Make) -> None:
    stream = make(case)
    assert stream.flush(0) is True
    stream.q.put(frame(1))
    assert stream.flush(0) is False
    assert stream.flush(0.05) is False
    stream.start()
    assert stream.flush() is True
    assert stream.flush(0) is True


def test_the_queue_is_one_to_whoever_asks(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case)
    assert isinstance(stream.q, queue.Queue)
    assert stream.q.empty()
    stream.q.put_nowait(frame(1))
    stream.q.put(frame(2), True, 1)
    assert (stream.q.qsize(), stream.q.empty(), stream.q.full()) == (2, False, False)
    with pytest.raises(JournalError, match="worker"):
        stream.q.get()
    with pytest.raises(JournalError, match="worker"):
        stream.q.get_nowait()
    stream.q.task_done()
    stream.start()
    stream.q.join()
    assert stream.q.empty()
    assert case.ids(tmp_path) == case.expected([[1], [2]])


def test_at_the_quota_the_queue_is_full_until_room_is_made(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case, max_backlog_bytes=1)
    stream.q.put(frame(1))
    assert stream.q.full()
    with pytest.raises(queue.Full):
        stream.q.put_nowait(frame(2))
    with pytest.raises(queue.Full):
        stream.q.put(frame(2), timeout=0.01)
    stream.start()
    stream.q.put(frame(3))
    assert stream.flush(20)
    assert not stream.q.full()
    assert case.ids(tmp_path) == case.expected([[1], [3]])


def test_the_queue_is_full_where_a_put_has_just_been_refused(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case, max_backlog_bytes=10_000)
    stream.q.put(frame(1))
    assert not stream.q.full()
    with pytest.raises(queue.Full, match=r"\d+ bytes.*; \d+ more would exceed its max_backlog_bytes of 10000"):
        stream.q.put_nowait(pd.DataFrame({"id": [2], "text": ["x" * 10_000]}))
    assert stream.q.full()
    stream.q.put(frame(3))
    assert not stream.q.full()


def test_the_status_counts_what_waits_and_what_was_delivered(case: TargetCase, make: Make) -> None:
    stream = make(case)
    assert stream.status() == StreamStatus(False, 0, 0, 0, 0, 0, 0, 0, 0, None, 0.0)
    stream.q.put(frame(1, 2))
    stream.q.put(frame(3))
    waiting = stream.status()
    assert (waiting.frames_waiting, waiting.rows_waiting, waiting.rows_delivered) == (2, 3, 0)
    assert 0 < waiting.lag_s < 60
    stream.start()
    assert stream.flush(20)
    done = stream.status()
    superseded = 2 if case.newest_only else 0
    assert (done.running, done.frames_waiting, done.rows_waiting, done.lag_s) == (True, 0, 0, 0.0)
    assert (done.frames_delivered, done.rows_delivered, done.rows_superseded) == (2, 3 - superseded, superseded)
    assert (done.rows_parked, done.rows_rejected, done.last_error) == (0, 0, None)


def test_an_empty_frame_changes_nothing_and_is_counted(case: TargetCase, make: Make, tmp_path: Path) -> None:
    with make(case) as stream:
        stream.q.put(frame(1))
        assert stream.flush(20)
        stream.q.put(frame())
        stream.q.put(pd.DataFrame())
        assert stream.flush(20)
        status = stream.status()
    assert (status.frames_delivered, status.rows_delivered, status.rows_superseded) == (3, 1, 0)
    assert case.ids(tmp_path) == [1]


def test_an_empty_frame_alone_makes_no_target(case: TargetCase, make: Make, tmp_path: Path) -> None:
    with make(case) as stream:
        stream.q.put(frame())
    assert case.rows(tmp_path) == []
    assert stream.status().frames_delivered == 1


def test_a_collector_s_frames_reach_all_its_streams_and_a_stream_s_own_only_itself(make: Make, tmp_path: Path) -> None:
    cases = [sql("duckdb"), sql("sqlite"), files("shard", "parquet")]
    streams = [make(case) for case in cases]
    for stream in streams:
        stream.start()
    put_to_all(tmp_path, frame(1), frame(2))
    for number, stream in enumerate(streams, 100):
        stream.q.put(frame(number))
    put_to_all(tmp_path, frame(3))
    assert all(stream.flush(20) for stream in streams)
    assert [case.ids(tmp_path) for case in cases] == [[1, 2, number, 3] for number in (100, 101, 102)]
    assert journal_store(tmp_path).names() == [COLLECTOR]


def test_a_stream_that_is_new_begins_at_the_journal_s_end(case: TargetCase, make: Make, tmp_path: Path) -> None:
    older = make(files("shard", "parquet"), stream_id="older")
    older.flush(0)
    put_to_all(tmp_path, frame(1))
    stream = make(case)
    stream.flush(0)
    put_to_all(tmp_path, frame(2))
    stream.start()
    assert stream.flush(20)
    assert case.ids(tmp_path) == [2]


def test_two_live_streams_on_one_identity_are_refused(case: TargetCase, make: Make, tmp_path: Path) -> None:
    first, second = make(case), make(case)
    first.start()
    for refused in (second.start, lambda: second.q.put(frame(1)), lambda: second.stream(frame(1))):
        with pytest.raises(ConfigurationError, match="running already"):
            refused()
    first.stop()
    second.start()
    second.stream(frame(2))
    assert case.ids(tmp_path) == [2]


def test_streams_of_one_collector_agree_in_durability(case: TargetCase, make: Make) -> None:
    make(case).start()
    other = make(case, durability="process", stream_id="other")
    with pytest.raises(ConfigurationError, match="durability"):
        other.start()
    assert not other.lock.locked()


def test_durability_process_delivers_too(case: TargetCase, make: Make, tmp_path: Path) -> None:
    with make(case, durability="process") as stream:
        stream.q.put(frame(1))
    assert case.ids(tmp_path) == [1]


def test_a_stream_id_says_who_a_stream_is(case: TargetCase, make: Make, tmp_path: Path) -> None:
    stream = make(case, stream_id="mine")
    assert stream.identity == "mine"
    stream.q.put(frame(1))
    stream.stop()
    other = make(case)
    assert other.identity != "mine"
    assert other.flush(0) is True
    with make(case, stream_id="mine"):
        pass
    assert case.ids(tmp_path) == [1]


@pytest.mark.parametrize("case", APPENDING, ids=lambda case: case.name, indirect=True)
def test_puts_of_many_threads_are_all_there_once_and_each_thread_s_in_order(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    with make(case) as stream:

        def put_ten(first: int) -> None:
            for number in range(first, first + 10):
                stream.q.put(frame(number))

        threads = [threading.Thread(target=put_ten, args=(first,)) for first in (0, 100, 200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ids = case.ids(tmp_path)
    assert sorted(ids) == [number for first in (0, 100, 200) for number in range(first, first + 10)]
    for first in (0, 100, 200):
        assert [number for number in ids if first <= number < first + 10] == list(range(first, first + 10))


@pytest.mark.parametrize("case", [*REPLACING, EMULATED[-1]], ids=lambda case: case.name, indirect=True)
def test_replace_keeps_the_newest_frame_and_counts_those_before_it(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    stream = make(case)
    for number in range(5):
        stream.q.put(frame(number, number + 100))
    stream.start()
    assert stream.flush(20)
    assert case.ids(tmp_path) == [4, 104]
    status = stream.status()
    assert (status.frames_delivered, status.rows_delivered, status.rows_superseded) == (5, 2, 8)


@pytest.mark.parametrize("case", REPLACING, ids=lambda case: case.name, indirect=True)
def test_an_empty_frame_replaces_nothing_even_when_it_waits_with_others(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    stream = make(case)
    stream.q.put(frame(1))
    stream.q.put(frame(2))
    stream.q.put(frame())
    stream.start()
    assert stream.flush(20)
    assert case.ids(tmp_path) == [2]
    assert stream.status().rows_superseded == 1


@pytest.mark.parametrize("case", REPLACING, ids=lambda case: case.name, indirect=True)
def test_whoever_reads_while_a_table_is_replaced_sees_one_whole_frame(
    case: TargetCase, make: Make, tmp_path: Path
) -> None:
    ended = threading.Event()
    seen: list[list[int]] = []

    def look() -> None:
        while not ended.is_set():
            seen.append(case.ids(tmp_path))

    with make(case) as stream:
        stream.stream(frame(*range(50)))
        reader = threading.Thread(target=look)
        reader.start()
        for first in range(50, 1500, 50):
            stream.q.put(frame(*range(first, first + 50)))
            if first % 250 == 0:
                assert stream.flush(20)
        assert stream.flush(20)
        eventually(lambda: seen)
        ended.set()
        reader.join()
    assert [] not in seen
    assert all(ids == list(range(ids[0], ids[0] + 50)) for ids in seen)


@pytest.mark.parametrize("fmt", ["parquet", "json", "csv", "pickle"])
def test_a_frame_becomes_shards_of_at_most_chunk_size_rows(fmt: str, make: Make, tmp_path: Path) -> None:
    case = files("shard", fmt)
    with make(case, chunk_size=3) as stream:
        stream.q.put(frame(*range(8)))
        stream.q.put(frame(8, 9))
    assert case.ids(tmp_path) == list(range(10))
    assert len(shards(tmp_path, fmt)) == 4


WATCHED = [case for case in CASES if case.name in {"sqlite", "duckdb", "shard_parquet", "omnisci", "bigquery"}]


@pytest.mark.parametrize("case", WATCHED, ids=lambda case: case.name, indirect=True)
def test_the_last_delivery_can_be_watched(case: TargetCase, make: Make, tmp_path: Path) -> None:
    with make(case) as stream:
        stream.q.put(frame(1, 2))
        assert stream.flush(60)
        [seen] = eventually(lambda: list(_with_rows(tmp_path).values()))
        assert [row["text"] for row in seen["rows"]] == ["row 2", "row 1"]
        assert len(seen["columns"]) >= 2  # HeavyDB's have names of their own
        assert sum(seen["latency"]["counts"]) == 1
        assert 0 <= seen["latency"]["p50_s"] == seen["latency"]["sum_s"]
        assert seen["visible_at"] > 0
    assert _with_rows(tmp_path), "what it said outlives it"


def _with_rows(home: Path) -> dict[str, dict[str, Any]]:
    return {name: seen for name, seen in journal_store(home).details(COLLECTOR).items() if seen.get("rows")}
