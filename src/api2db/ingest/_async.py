"""Runs async import functions: all of a process on one event loop, in one thread.

The loop never waits for a disk: rows are taken in other threads, and a poll has such a thread only while it takes
rows.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any

from api2db.event_loop import ProcessLoop
from api2db.ingest._threads import process_threads

_loop = ProcessLoop("api2db-event-loop")


def is_async(result: object) -> bool:
    """Whether an import function returned something that only an event loop can run."""
    return inspect.isawaitable(result) or isinstance(result, AsyncIterator)


def run_async(result: Any, take: Callable[[Any], bool], name: str) -> "Future[BaseException | None]":
    """Run what an import function returned, on the event loop.

    Args:
        result: A coroutine, another awaitable, or an async iterator.
        take: Called in a thread with what a plain import function would have returned, for an async iterator with an
            iterator of each page; False ends the import function.
        name: The name of that thread.

    Returns:
        What the import function or ``take`` raised. Cancelling the future ends the import function.
    """
    return asyncio.run_coroutine_threadsafe(_run(result, take, name), _loop.running())


async def _run(result: Any, take: Callable[[Any], bool], name: str) -> BaseException | None:
    async def taken(pages: Any) -> bool:
        return await asyncio.wrap_future(process_threads().submit(name, lambda: take(pages)))

    try:
        while inspect.isawaitable(result):
            result = await result
        if isinstance(result, AsyncIterator):
            await _take_each(result, taken)
        else:
            await taken(result)
    except BaseException as error:  # noqa: BLE001 - also SystemExit, which would end the loop
        return error
    return None


async def _take_each(pages: AsyncIterator[Any], taken: Callable[[Iterator[Any]], Any]) -> None:
    """Let the function continue only after its page was taken, as a generator does."""
    try:
        # One task for the whole function: cancel scopes and timeouts may span its yields.
        async for page in pages:
            if not await taken(iter([page])):
                return
    finally:
        if inspect.isasyncgen(pages):
            await pages.aclose()
