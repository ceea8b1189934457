"""The network: requests are sent and bodies are read on an event loop, within the time of a poll.

The polls of an event loop share its connections. Polls in plain threads use an event loop of this module, which runs in
a thread of its own.
"""

import asyncio
import os
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2

from api2db.event_loop import EventLoop
from api2db.rest._effects import Answer, Piece, Send, TimeUpError
from api2db.rest._hosts import Host

T = TypeVar("T")


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
    except BaseException:
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
    future = asyncio.run_coroutine_threadsafe(coroutine, _io.loop())
    try:
        return future.result()
    except BaseException:  # also an interrupt of the thread that waits
        future.cancel()
        raise


def close(answer: Answer) -> None:
    """Close a response that this module's event loop has sent, without waiting for that."""
    if not sys.is_finalizing():
        asyncio.run_coroutine_threadsafe(answer.response.aclose(), _io.loop())


_clients: "weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Host, httpx2.AsyncClient]]" = (
    weakref.WeakKeyDictionary()
)


def _client_of(host: Host) -> httpx2.AsyncClient:
    clients = _clients.setdefault(asyncio.get_running_loop(), {})
    if host not in clients:
        clients[host] = host.client()
    return clients[host]


class _IoLoop:
    """The event loop for polls in threads; a forked child starts its own."""

    def __init__(self) -> None:
        self._parents: list[asyncio.AbstractEventLoop] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Begin without a loop, and keep the parent's: closing it would change the selector that both share."""
        self._lock = threading.Lock()
        if self._loop is not None:
            self._parents.append(self._loop)
            self._loop = None

    def loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                loop = EventLoop()
                threading.Thread(target=loop.run_forever, name="api2db-event-loop-rest", daemon=True).start()
                self._loop = loop
            return self._loop


_io = _IoLoop()
os.register_at_fork(after_in_child=_io.forget)
