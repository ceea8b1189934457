"""Async import functions: all of a process run on one event loop, in one thread.

The thread of a poll waits for its coroutine, so pages are journalled exactly as those of a plain function, and the loop
never waits for a disk.
"""

import asyncio
import inspect
import os
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

_END: Final = object()
Started = Callable[["Future[Any]"], None]


def is_async(result: object) -> bool:
    """Whether an import function returned something that only an event loop can run."""
    return inspect.isawaitable(result) or isinstance(result, AsyncIterator)


def run_async(result: Any, started: Started = lambda _: None) -> Any:
    """Return what a plain import function would have returned: frames, or an iterator of pages.

    Args:
        result: A coroutine, another awaitable, or an async iterator.
        started: Called with each future that is waited for; cancelling it ends the import function.
    """
    while inspect.isawaitable(result):
        future = asyncio.run_coroutine_threadsafe(_awaited(result), _loop())
        started(future)
        result = future.result()
    return _pages(result, started) if isinstance(result, AsyncIterator) else result


async def _awaited(result: Awaitable[Any]) -> Any:
    return await result


def _pages(pages: AsyncIterator[Any], started: Started) -> Iterator[Any]:
    """Yield each page, and let the function continue only when the next one is asked for, as a generator does."""
    loop, taken = _loop(), asyncio.Event()
    channel: queue.SimpleQueue[Any] = queue.SimpleQueue()

    async def drive() -> None:
        # One task for the whole function: cancel scopes and timeouts may span its yields.
        try:
            async for page in pages:
                channel.put(page)
                await taken.wait()
                taken.clear()
        finally:
            if inspect.isasyncgen(pages):
                await pages.aclose()

    future = asyncio.run_coroutine_threadsafe(drive(), loop)
    future.add_done_callback(lambda _: channel.put(_END))
    started(future)
    try:
        while (page := channel.get()) is not _END:
            yield page
            loop.call_soon_threadsafe(taken.set)
        future.result()
    finally:
        future.cancel()


class _Loops:
    """The event loop of this process; a forked child starts one of its own."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.of: dict[int, asyncio.AbstractEventLoop] = {}

    def after_fork(self) -> None:
        """Another thread may have held the lock when the process was forked."""
        self.lock = threading.Lock()


_loops = _Loops()
os.register_at_fork(after_in_child=_loops.after_fork)


def _loop() -> asyncio.AbstractEventLoop:
    with _loops.lock:
        loop = _loops.of.get(os.getpid())
        if loop is None:
            loop = _loops.of[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="api2db-event-loop", daemon=True).start()
        return loop
