"""Many collectors of one process have a few threads, and one that hangs delays no other."""

import asyncio
import decimal
import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from api2db import Stream2Local
from api2db.errors import PollError
from api2db.ingest import Collector, Runner
from api2db.ingest._threads import InTurn, Threads
from api2db.ingest.status import LiveStatus
from tests.ingest.tiny import TinyStream, stopping, wait_until

NEVER = 3600.0
IDLE = {"api2db-clock", "api2db-delivery", "api2db-housekeeper"}


class Rounds:
    """A store that counts its rounds, or hangs in the first one."""

    def __init__(self, seconds: float, hangs_until: threading.Event | None = None) -> None:
        self.seconds = seconds
        self.rounds = 0
        self._hangs_until = hangs_until

    def store(self) -> None:
        self.rounds += 1
        if self._hangs_until is not None:
            assert self._hangs_until.wait(60)


@contextmanager
def running(collectors: Sequence[Collector]) -> Iterator[list[Runner]]:
    with ExitStack() as ends:
        runners = [Runner(collector) for collector in collectors]
        for runner in runners:
            ends.enter_context(stopping(runner))
            runner.start()
        yield runners


@contextmanager
def hanging() -> Iterator[threading.Event]:
    """What hangs waits for this event, which is set at the end, before the collectors are stopped."""
    go_on = threading.Event()
    try:
        yield go_on
    finally:
        go_on.set()


def names() -> list[str]:
    """The names of the threads of collectors and their streams; others may be there from tests before."""
    kinds = (*IDLE, "api2db-poll-", "api2db-store-", "api2db-idle")
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(kinds))


def under_way() -> int:
    return sum(name.startswith(("api2db-poll-", "api2db-store-")) for name in names())


@pytest.fixture(autouse=True)
def _short_idling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api2db.ingest._threads._IDLE_S", 0.05)
    monkeypatch.setattr("api2db.delivery._scheduler._IDLE_S", 0.05)


@pytest.mark.disk_journal  # a cluster has threads of its own
@pytest.mark.parametrize("many", [50, pytest.param(100, marks=pytest.mark.torture)])
def test_many_idle_collectors_with_stores_have_three_threads_and_none_after_the_end(tmp_path: Path, many: int) -> None:
    wait_until(lambda: not names())

    def collector(name: str) -> Collector:
        stream = Stream2Local(name, home=tmp_path)
        return Collector(name, NEVER, lambda: [{"id": 1}], [stream], stores=[Rounds(NEVER)])

    with running([collector(f"c{number}") for number in range(many)]) as runners:
        wait_until(lambda: all(runner.status.rows == 1 for runner in runners))
        assert all(runner.flush(20) for runner in runners)
        wait_until(lambda: set(names()) == IDLE and len(names()) == len(IDLE))
    wait_until(lambda: not names())


def test_polls_that_hang_hold_a_thread_each_and_delay_no_other(tmp_path: Path) -> None:
    def hung(name: str, go_on: threading.Event) -> Collector:
        def hang() -> None:
            assert go_on.wait(60)

        return Collector(name, 0.05, hang, [TinyStream(name, home=tmp_path)])

    with ExitStack() as ends:
        well = Collector("well", 0.05, lambda: [{"id": 1}], [TinyStream("well", home=tmp_path)])
        go_on = threading.Event()
        hung_runners = ends.enter_context(running([hung(f"hung{number}", go_on) for number in range(20)]))
        ends.callback(go_on.set)
        wait_until(lambda: all(runner.status.late >= 3 for runner in hung_runners))
        assert names().count("api2db-clock") == 1
        assert under_way() == 20
        [runner] = ends.enter_context(running([well]))
        wait_until(lambda: runner.status.rows >= 5)
        assert {found.status.polls for found in hung_runners} == {1}
    assert {found.status.failed for found in hung_runners} == {0}


def test_a_round_that_hangs_delays_neither_polls_nor_other_stores(tmp_path: Path) -> None:
    go_on = threading.Event()
    hung, well = Rounds(0.02, go_on), Rounds(0.02)
    streams = [TinyStream("cities", home=tmp_path)]
    with running([Collector("cities", 0.05, lambda: [{"id": 1}], streams, stores=[hung, well])]) as [runner]:
        wait_until(lambda: hung.rounds)
        rows, rounds = runner.status.rows, well.rounds
        wait_until(lambda: runner.status.rows >= rows + 3 and well.rounds >= rounds + 3)
        assert hung.rounds == 1
        go_on.set()
        wait_until(lambda: hung.rounds >= 3)


def test_async_import_functions_that_wait_hold_no_thread(tmp_path: Path) -> None:
    waiting, all_may_go_on = [0], asyncio.Event()

    async def poll() -> list[dict[str, Any]]:
        waiting[0] += 1
        if waiting[0] == 20:
            loop.append(asyncio.get_running_loop())
        await all_may_go_on.wait()
        return [{"id": 1}]

    loop: list[asyncio.AbstractEventLoop] = []
    collectors = [
        Collector(f"c{number}", NEVER, poll, [TinyStream(f"c{number}", home=tmp_path)]) for number in range(20)
    ]
    with running(collectors) as runners:
        wait_until(lambda: loop)
        wait_until(lambda: not under_way())
        assert {runner.status.rows for runner in runners} == {0}
        loop[0].call_soon_threadsafe(all_may_go_on.set)
        wait_until(lambda: all(runner.status.rows == 1 for runner in runners))


def test_an_async_import_function_that_calls_exit_fails_its_own_poll_only(tmp_path: Path) -> None:
    async def leave() -> None:
        raise SystemExit(1)

    async def poll() -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        return [{"id": 1}]

    for name, target in (("leaves", leave), ("cities", poll)):
        runner = Runner(Collector(name, NEVER, target, [TinyStream(name, home=tmp_path)]))
        with stopping(runner):
            runner.start(polling=False)
            if target is leave:
                with pytest.raises(PollError, match="SystemExit"):
                    runner.poll_once()
            else:
                runner.poll_once()
                assert runner.status.rows == 1


def test_where_no_thread_can_be_started_any_more_polls_and_rounds_fail_and_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Rounds(0.02)
    streams = [TinyStream("cities", home=tmp_path)]
    with running([Collector("cities", 0.02, lambda: [{"id": 1}], streams, stores=[store])]) as [runner]:
        wait_until(lambda: store.rounds and runner.status.rows)
        with monkeypatch.context() as patched:
            patched.setattr(Threads, "submit", _refuse)
            wait_until(lambda: runner.status.failed >= 3 and runner.status.stores_failed >= 3)
            assert "can't create new thread" in (runner.status.last_error or "")
        rows, rounds = runner.status.rows, store.rounds
        wait_until(lambda: runner.status.rows > rows and store.rounds > rounds)
    assert sum(record.levelno >= logging.WARNING for record in caplog.records) == 2


def _refuse(*_: object) -> None:
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_what_a_hanging_poll_yielded_is_journalled_also_where_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging() as go_on:
        yielded = threading.Event()

        def pages() -> Iterator[list[dict[str, Any]]]:
            yield [{"id": 1}]
            yielded.set()
            assert go_on.wait(60)

        stream = Stream2Local("cities", home=tmp_path)
        with running([Collector("cities", NEVER, pages, [stream])]), monkeypatch.context() as patched:
            assert yielded.wait(20)
            patched.setattr(Threads, "submit", _refuse)
            wait_until(lambda: stream.status().frames_delivered)
            go_on.set()


def test_a_forked_child_neither_polls_nor_waits_for_its_parents_polls(tmp_path: Path) -> None:
    polls: list[int] = []
    with hanging() as go_on:

        def hang() -> None:
            polls.append(os.getpid())
            assert go_on.wait(60)

        with running([Collector("cities", NEVER, hang, [TinyStream("cities", home=tmp_path)])]) as [runner]:
            wait_until(lambda: polls)
            child = os.fork()
            if not child:
                signal.alarm(60)
                runner.streams.clear()  # they refuse in a forked child
                runner.stop()
                os._exit(len(names()))
            assert os.waitpid(child, 0)[1] == 0
            go_on.set()


def test_a_child_that_is_forked_while_figures_are_published_leaves_that_to_its_parent(tmp_path: Path) -> None:
    status = LiveStatus("cities")
    status.publish_in(tmp_path)
    with status._publishing:
        child = os.fork()
        if not child:
            signal.alarm(20)
            status.publish()
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_burst_of_calls_leaves_no_more_threads_than_are_in_use() -> None:
    threads, all_there = Threads(), threading.Barrier(21)
    for _ in range(20):
        threads.submit("api2db-poll-burst", all_there.wait)
    all_there.wait(20)
    served = set()

    def one_is_left() -> bool:
        threads.submit("api2db-poll-steady", lambda: served.add(threading.current_thread())).result(20)
        return len(names()) == 1

    wait_until(one_is_left)


def test_a_call_finds_nothing_that_an_earlier_one_set_for_its_thread() -> None:
    threads = Threads()

    def set_precision() -> int:
        decimal.getcontext().prec = 3
        return threading.get_ident()

    def precision() -> tuple[int, int]:
        return decimal.getcontext().prec, threading.get_ident()

    first = threads.submit("api2db-poll-first", set_precision).result(20)
    wait_until(lambda: threads._idle)
    assert threads.submit("api2db-poll-second", precision).result(20) == (decimal.DefaultContext.prec, first)


def test_calls_in_turn_are_made_one_after_the_other_whatever_one_raises(caplog: pytest.LogCaptureFixture) -> None:
    in_turn, made, ended = InTurn("in-turn"), list[tuple[int, str]](), threading.Event()

    def call(number: int) -> None:
        made.append((number, threading.current_thread().name))
        if number == 3:
            raise RuntimeError("this one fails")
        if number == 99:
            ended.set()

    for number in range(100):
        in_turn.run(lambda number=number: call(number))  # type: ignore[misc]
    assert ended.wait(20)
    assert made == [(number, "in-turn") for number in range(100)]
    assert [record.exc_text for record in caplog.records if "this one fails" in str(record.exc_text)]
