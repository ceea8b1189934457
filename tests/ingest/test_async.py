"""Async import functions: their pages and state are journalled as those of plain ones, on one event loop."""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api2db.errors import PollError
from api2db.ingest import Collector, Runner, _async
from tests.ingest.test_polls import Bench
from tests.ingest.tiny import TinyStream, rows_in, stopping, wait_until


def _has_polled(runner: Runner) -> bool:
    return runner.status.polls == 1 and runner.status.rows == 1


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_rows_of_a_coroutine_and_its_state_are_journalled(bench: Bench) -> None:
    async def cities(state: dict[str, Any]) -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        state["page"] = state.get("page", 0) + 1
        return [{"id": state["page"]}]

    bench.poll(cities)
    bench.poll(partial(lambda again, state: again(state), cities))
    assert (bench.rows, bench.state()) == ([{"id": 1}, {"id": 2}], {"page": 2})


def test_each_page_of_an_async_generator_is_stored_with_the_state_as_it_was_yielded(bench: Bench) -> None:
    async def cities(state: dict[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        for page in range(1, 4):
            await asyncio.sleep(0)
            state["page"] = page
            yield [{"id": page}]
        state["page"] = 99
        raise ValueError("the fourth page is missing")

    with pytest.raises(PollError, match="the fourth page is missing"):
        bench.poll(cities)
    assert (bench.rows, bench.state()) == ([{"id": 1}, {"id": 2}, {"id": 3}], {"page": 3})


def test_a_timeout_may_span_the_pages_of_an_async_generator(bench: Bench) -> None:
    async def cities() -> AsyncIterator[list[dict[str, Any]]]:
        async with asyncio.timeout(60):
            yield [{"id": 1}]
            yield [{"id": 2}]

    bench.poll(cities)
    assert bench.rows == [{"id": 1}, {"id": 2}]


def test_a_coroutine_that_returns_pages_is_read_page_by_page(bench: Bench) -> None:
    async def pages() -> AsyncIterator[list[dict[str, Any]]]:
        yield [{"id": 1}]

    async def cities() -> AsyncIterator[list[dict[str, Any]]]:
        return pages()

    bench.poll(cities)
    assert bench.rows == [{"id": 1}]


def test_all_async_functions_of_a_process_run_on_one_event_loop(tmp_path: Path) -> None:
    seen: list[tuple[asyncio.AbstractEventLoop, threading.Thread]] = []
    all_there = asyncio.Event()

    async def poll() -> list[dict[str, Any]]:
        seen.append((asyncio.get_running_loop(), threading.current_thread()))
        if len(seen) == 3:
            all_there.set()
        await all_there.wait()
        return [{"id": len(seen)}]

    names = ["paris", "lima", "oslo"]
    runners = [Runner(Collector(name, 3600, poll, [TinyStream(name, home=tmp_path)])) for name in names]
    for runner in runners:
        runner.start()
    try:
        for runner, name in zip(runners, names, strict=True):
            wait_until(partial(_has_polled, runner))
            assert runner.flush(10)
            assert rows_in(tmp_path, name) == [{"id": 3}]
    finally:
        for runner in runners:
            runner.stop()
    assert len({id(loop) for loop, _ in seen}) == len({thread for _, thread in seen}) == 1


def _exit() -> None:
    sys.exit("a library gives up")


def _stop() -> None:
    asyncio.get_running_loop().stop()


@pytest.mark.parametrize("end", [_exit, _stop])
def test_the_loop_goes_on_when_a_task_of_a_function_ends_it(end: Callable[[], None], bench: Bench) -> None:
    async def ends() -> None:
        end()

    async def bad() -> list[dict[str, Any]]:
        task = asyncio.ensure_future(ends())
        await asyncio.wait([task])
        return [{"id": 1}]

    async def good() -> list[dict[str, Any]]:
        await asyncio.sleep(0)
        return [{"id": 2}]

    bench.poll(bad)
    bench.poll(good)
    assert bench.rows == [{"id": 1}, {"id": 2}]


def test_a_loop_whose_thread_has_ended_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cities() -> list[dict[str, Any]]:
        return [{"id": 1}]

    with closing(asyncio.new_event_loop()) as loop:
        monkeypatch.setattr(_async._loop, "of", {os.getpid(): (loop, threading.Thread())})
        bench.poll(cities)
    assert bench.rows == [{"id": 1}]


def test_a_loop_whose_thread_could_not_be_started_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cities() -> list[dict[str, Any]]:
        return [{"id": 1}]

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_async._loop, "of", {})
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            _async._loop.running()
    bench.poll(cities)
    assert bench.rows == [{"id": 1}]


def test_a_coroutine_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    ended = threading.Event()

    async def endless() -> list[dict[str, Any]]:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return []

    runner = Runner(Collector("cities", 3600, endless, [TinyStream("cities", home=tmp_path)], poll_timeout=0.2))
    with stopping(runner):
        runner.start(polling=False)
        with pytest.raises(PollError, match="poll_timeout"):
            runner.poll_once()
        assert ended.wait(10)


def test_a_page_that_comes_after_its_poll_was_given_up_is_dropped_and_the_generator_ends(tmp_path: Path) -> None:
    ended = threading.Event()

    async def slow(state: dict[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        try:
            yield [{"id": 1}]
            await asyncio.sleep(3600)
            yield [{"id": 2}]
        finally:
            ended.set()

    runner = Runner(Collector("cities", 3600, slow, [TinyStream("cities", home=tmp_path)], poll_timeout=0.5))
    with stopping(runner):
        runner.start(polling=False)
        with pytest.raises(PollError, match="poll_timeout"):
            runner.poll_once()
        assert ended.wait(10)
        assert runner.flush(10)
    assert rows_in(tmp_path, "cities") == [{"id": 1}]


class Source:
    """An import function that can be called in a thread, and run on the event loop."""

    def __call__(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        raise AssertionError("called in a thread")

    async def poll_async(self, state: dict[str, Any]) -> AsyncIterator[list[dict[str, Any]]]:
        for page in range(3):
            await asyncio.sleep(0)
            state["page"] = page
            yield [{"id": page}]


def test_an_import_function_that_has_an_async_form_runs_on_the_event_loop(bench: Bench) -> None:
    bench.poll(Source())
    assert (bench.rows, bench.state()) == ([{"id": 0}, {"id": 1}, {"id": 2}], {"page": 2})
