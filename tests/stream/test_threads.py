"""Many streams of one process are delivered by a few threads; a target that hangs delays no other stream."""

import socket
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Stream2Local, Stream2Sql
from api2db.delivery._scheduler import Scheduler, process_scheduler
from api2db.frames import rows_and_refused
from api2db.journal import journal_store
from api2db.stream.stream import Stream
from tests.kills.here import running
from tests.stream.eventually import eventually, sampled

MOST = 16 + 1 + 4  # threads that take steps, the keeper, one for each DuckDB file


def frame(number: int) -> pd.DataFrame:
    return pd.DataFrame({"id": [number]})


def mixed_streams(home: Path, number: int) -> list[Stream]:
    def made(n: int) -> Stream:
        if n % 3 == 0:
            return Stream2Local(f"s{n}", "shards", home=home)
        dialect = ("duckdb", "sqlite")[n % 3 - 1]
        return Stream2Sql(f"s{n}", f"{n % 4}.{dialect}", dialect, home=home)

    return [made(n) for n in range(number)]


@contextmanager
def counted() -> Iterator[list[int]]:
    """Collect the number of threads at several moments, without those of the test and the journals."""
    before = set(threading.enumerate())

    def look() -> int:
        new = set(threading.enumerate()) - before - {threading.current_thread()}
        return sum(thread.name not in {"api2db-housekeeper", "api2db-calls"} for thread in new)

    with sampled(look, 0.005) as found:
        yield found


@contextmanager
def hanging_server() -> Iterator[socket.socket]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield listening


@pytest.mark.parametrize("many", [50, pytest.param(100, marks=pytest.mark.torture)])
def test_many_streams_are_delivered_by_a_few_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(
        "api2db.delivery._scheduler._LONG_STEP_S", 60.0
    )  # no step counts as long, even on a machine under heavy load
    streams = mixed_streams(tmp_path, many)
    with counted() as found, running(*streams):
        for n in range(3):
            for stream in streams:
                stream.q.put(frame(n))
        for stream in streams:
            assert stream.flush(60)
        assert [stream.status().frames_delivered for stream in streams] == [3] * many
    assert max(found) <= MOST


def test_an_idle_process_has_one_waiting_thread_and_delivers_within_milliseconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.delivery._scheduler._IDLE_S", 0.05)
    streams = [Stream2Local(f"s{n}", "shards", home=tmp_path) for n in range(10)]
    with running(*streams):
        for stream in streams:
            stream.q.put(frame(1))
            assert stream.flush(20)
        names = eventually(lambda: (found := delivery_threads()) and len(found) == 1 and found)
        assert names == ["api2db-delivery"]
        streams[0].q.put(frame(2))
        assert streams[0].flush(20)
    assert eventually(lambda: not delivery_threads())


def delivery_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("api2db-delivery")]


def streams_to_hanging_server(home: Path, number: int, port: int) -> list[Stream]:
    who: dict[str, Any] = {"username": "u", "password": "p", "host": "127.0.0.1", "port": str(port)}
    return [Stream2Sql(f"h{n}", "db", "postgresql", home=home, **who) for n in range(number)]


def test_a_target_that_hangs_holds_up_nobody_else_and_its_streams_stop(tmp_path: Path) -> None:
    well = mixed_streams(tmp_path, 12)
    with hanging_server() as server, running(*well):
        hung = streams_to_hanging_server(tmp_path, 12, server.getsockname()[1])
        with running(*hung):
            for stream in hung:
                stream.q.put(frame(1))
            eventually(lambda: len(under_way(hung)) == 8)
            for stream in well:
                stream.q.put(frame(1))
            assert all(stream.flush(20) for stream in well)
            assert {stream.status().frames_waiting for stream in hung} == {1}
            waiting = [stream for stream in hung if stream not in under_way(hung)]
            for stream in waiting:
                stream.stop(5)
            assert not [stream for stream in waiting if stream.lock.locked()]
            server.close()
    assert not [stream for stream in (*well, *hung) if stream.lock.locked()]


def under_way(streams: Sequence[Stream]) -> list[Stream]:
    names = {thread.name for thread in threading.enumerate()}
    return [stream for stream in streams if f"api2db-{stream.name}-{stream.stream_type}" in names]


def test_where_no_thread_can_be_started_any_more_streams_are_delivered_and_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.delivery._scheduler._IDLE_S", 0.05)
    streams = [Stream2Local(f"s{n}", "shards", home=tmp_path) for n in range(5)]
    for stream in streams:
        stream.start()
        assert stream.flush(20)
    eventually(lambda: len(delivery_threads()) == 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", _refuse)
        for stream in streams:
            stream.q.put(frame(1))
        for stream in streams:
            assert stream.flush(20)
            stream.stop(20)
            assert not stream.lock.locked()
    with streams[0]:
        streams[0].q.put(frame(2))
    assert streams[0].status().frames_delivered == 2


@pytest.mark.parametrize("refused", ["api2db-delivery", "api2db-housekeeper"])
def test_a_start_without_a_thread_raises_and_the_next_one_delivers(
    refused: str, journal_kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if refused == "api2db-housekeeper" and journal_kind != "disk":
        pytest.skip("only a journal on disk has a housekeeper")
    monkeypatch.setattr("api2db.delivery._scheduler._schedulers", {})
    monkeypatch.setattr("api2db.journal._housekeeping._housekeepers", {})
    stream, real = Stream2Local("flights", home=tmp_path), threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == refused:
            _refuse(thread)
        real(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            stream.start()
        assert not stream.lock.locked()
        assert not stream.status().running
    with stream:
        stream.q.put(frame(1))
        assert stream.flush(20)
        answer = partial(journal_store(tmp_path).request, "flights", "adopt", {"stream": stream.identity})
        assert answer() is None, "the housekeeper answers"
    assert stream.status().frames_delivered == 1


def test_a_put_sees_to_it_that_its_stream_is_delivered_after_the_keeper_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.delivery._scheduler._schedulers", {})
    monkeypatch.setattr("api2db.delivery._scheduler._IDLE_S", 0.05)
    with Stream2Local("flights", home=tmp_path) as stream:
        eventually(lambda: len(delivery_threads()) == 1)
        keeper = process_scheduler()._keeper
        assert keeper is not None
        with monkeypatch.context() as patched:
            patched.setattr(Scheduler, "_wait_for_start", lambda _: None)
            stream.q.put(frame(1))
            keeper.join(20)
        assert not keeper.is_alive()
        stream.q.put(frame(2))
        assert stream.flush(20)


@pytest.mark.every_journal
def test_frames_for_a_stream_that_has_died_are_not_announced_to_the_scheduler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api2db.delivery._scheduler._schedulers", {})
    monkeypatch.setattr("api2db.delivery._scheduler._IDLE_S", 0.05)
    stream = Stream2Sql("flights", "x.sqlite", "sqlite", home=tmp_path)
    with stream:
        stream.q.put(frame(1))
    with closing(sqlite3.connect(tmp_path / "x.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE _api2db_ledger SET epoch = 'a stranger'")
    stream.start()
    stream.q.put(frame(2))
    eventually(lambda: not stream.lock.locked() and not delivery_threads())
    handle = journal_store(tmp_path).open("flights")
    handle.journal.append(rows_and_refused(frame(3)))
    handle.release()
    assert stream.status().frames_waiting == 2
    assert not process_scheduler()._inbox
    stream.stop()


def _refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")
