"""Another thread stops a stream, and may start it again, while a call waits for it."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Local, Stream2Sql
from api2db.errors import ConfigurationError
from api2db.stream._running import Running
from tests.stream.cases import frame
from tests.stream.eventually import eventually

Call = Callable[[Stream2Sql], Any]
CALLS: dict[str, Call] = {"flush": lambda stream: stream.flush(), "stream": lambda stream: stream.stream(frame(2))}


@pytest.fixture
def unreachable(tmp_path: Path) -> Iterator[Stream2Sql]:
    """A running stream that delivers nothing until ``mend``."""
    (tmp_path / "folder").touch()
    stream = Stream2Sql("flights", "folder/x.sqlite", "sqlite", home=tmp_path)
    stream.start()
    stream.q.put(frame(1))
    yield stream
    stream.stop()


def mend(stream: Stream2Sql) -> None:
    (stream.home / "folder").unlink()


@contextmanager
def waiting(call: Call, stream: Stream2Sql, monkeypatch: pytest.MonkeyPatch) -> Iterator["Future[Any]"]:
    """The result of a call in another thread, once it waits."""
    real, waits, result = Running._wait_for, threading.Event(), Future[Any]()

    def wait_for(running: Running, *arguments: Any) -> bool:
        waits.set()
        return real(running, *arguments)

    def work() -> None:
        try:
            result.set_result(call(stream))
        except BaseException as error:  # noqa: BLE001
            result.set_exception(error)

    monkeypatch.setattr(Running, "_wait_for", wait_for)
    threading.Thread(target=work, daemon=True).start()
    assert waits.wait(20)
    yield result


@pytest.mark.every_journal
@pytest.mark.parametrize("use", ["its own journal", "a shared journal"])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_waits_raises_when_the_stream_is_stopped_and_leaves_the_journal_closed(
    call: str, use: str, unreachable: Stream2Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Stream2Local("flights", home=unreachable.home)
    if use == "a shared journal":
        other.start()
    with waiting(CALLS[call], unreachable, monkeypatch) as result:
        unreachable.stop()
        with pytest.raises(ConfigurationError, match="is not running"):
            result.result(20)
    assert unreachable._attachment.handle is None
    other.stop()


@pytest.mark.every_journal
@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_waits_ends_when_the_restarted_stream_has_delivered(
    call: str, unreachable: Stream2Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    with waiting(CALLS[call], unreachable, monkeypatch) as result:
        unreachable.stop()
        mend(unreachable)
        unreachable.start()
        assert result.result(20) in {True, None}
    assert unreachable.status().frames_waiting == 0


@pytest.mark.every_journal
def test_a_status_while_another_thread_closes_the_journal_is_read_from_outside(
    unreachable: Stream2Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = unreachable._attachment.handle
    assert handle is not None
    real = handle.journal.overview

    def overview() -> Any:
        unreachable.stop()
        return real()

    monkeypatch.setattr(handle.journal, "overview", overview)
    assert unreachable.status().frames_waiting == 1


class Held(Stream2Sql):
    """A stream whose worker is busy until it is let go."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_busy, self.let_go = threading.Event(), threading.Event()

    def stream(self, data: Any, retry_depth: int = 0) -> None:
        self.is_busy.set()
        assert self.let_go.wait(20)
        super().stream(data, retry_depth)


@pytest.mark.every_journal
def test_a_start_while_the_worker_is_stopping_starts_the_next_one(tmp_path: Path) -> None:
    stream = Held("flights", "x.sqlite", "sqlite", home=tmp_path)
    stream.start()
    stream.q.put(frame(1))
    assert stream.is_busy.wait(20)
    stream.stop(0.01)
    starting = threading.Thread(target=stream.start)
    starting.start()
    stream.let_go.set()
    starting.join(20)
    assert not starting.is_alive()
    assert stream.status().running
    stream.q.put(frame(2))
    assert stream.flush(20)
    stream.stop()
    assert eventually(lambda: not stream.lock.locked())


@pytest.mark.every_journal
def test_a_worker_that_is_stopping_does_not_wait_for_its_own_end(tmp_path: Path) -> None:
    class StartsItself(Held):
        def stream(self, data: Any, retry_depth: int = 0) -> None:
            super().stream(data, retry_depth)
            self.start()

    stream = StartsItself("flights", "x.sqlite", "sqlite", home=tmp_path)
    stream.start()
    stream.q.put(frame(1))
    assert stream.is_busy.wait(20)
    stream.stop(0.01)
    stream.let_go.set()
    assert eventually(lambda: not stream.lock.locked())
    stream.stop()


@pytest.mark.every_journal
def test_a_worker_that_ends_after_the_timeout_of_stop_leaves_the_journal_closed(tmp_path: Path) -> None:
    stream = Held("flights", "x.sqlite", "sqlite", home=tmp_path)
    stream.start()
    stream.q.put(frame(1))
    assert stream.is_busy.wait(20)
    stream.stop(0)
    assert stream._attachment.handle is not None
    stream.let_go.set()
    assert eventually(lambda: stream._attachment.handle is None)
