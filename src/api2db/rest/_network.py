"""The network: requests are sent and bodies are read on an event loop, within the time of a poll.

The polls of an event loop share its connections. Polls in plain threads use an event loop of this module, which runs in
a thread of its own.
"""

import asyncio
import sys
import time
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2

from api2db.event_loop import ProcessLoop
from api2db.rest._effects import Answer, Piece, Send, TimeUpError
from api2db.rest._hosts import Host

T = TypeVar("T")

_loop = ProcessLoop("api2db-event-loop-rest")


async def sent(effect: Send) -> Answer:
    """Send a request, and read the first piece of the body.

    Raises:
        TimeUpError: Nothing came in time.
    """
    async with bounded(effect.until_s):
        response = await _client_of(effect.host).send(effect.request, stream=True, auth=None)
    answer = Answer(response, response.aiter_raw())
    try:
        answer.first = await read(answer, effect.until_s)
    except BaseException:  # no one else has the response, also if the poll is cancelled
        await response.aclose()
        raise
    return answer


async def read(answer: Answer, until_s: float) -> bytes:
    """Read the next piece of a body; when time is up, what has come of it.

    Raises:
        TimeUpError: Nothing came in time.
    """
    if answer.is_cut_off:
        raise TimeUpError
    piece = Piece(until_s)
    try:
        async with bounded(until_s):
            async for chunk in answer.chunks:
                if piece.add(chunk):
                    return bytes(piece)
    except TimeUpError:
        answer.is_cut_off = True  # its chunks now end as those of a whole body do
        if not bytes(piece):
            raise
        return bytes(piece)
    answer.is_over = True
    return bytes(piece)


@asynccontextmanager
async def bounded(until_s: float) -> AsyncIterator[None]:
    """Cancel the block when time is up.

    Args:
        until_s: When, in seconds of ``time.monotonic``.

    Raises:
        TimeUpError: It was cancelled.
    """
    timeout = asyncio.timeout(until_s - time.monotonic())
    try:
        async with timeout:
            yield
    except TimeoutError:
        if timeout.expired():
            raise TimeUpError from None
        raise


def result_of(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on this module's event loop, and wait for its result."""
    future = asyncio.run_coroutine_threadsafe(coroutine, _loop.running())
    try:
        return future.result()
    except BaseException:  # also an interrupt of the thread that waits
        future.cancel()
        raise


def close(answer: Answer) -> None:
    """Close a response that this module's event loop has sent, without waiting for that."""
    if not sys.is_finalizing():
        asyncio.run_coroutine_threadsafe(answer.response.aclose(), _loop.running())


_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Host, httpx2.AsyncClient]]" = (
    weakref.WeakKeyDictionary()
)


def _client_of(host: Host) -> httpx2.AsyncClient:
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if host not in clients:
        clients[host] = host.client()
    return clients[host]
