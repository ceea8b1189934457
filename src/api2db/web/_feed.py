"""Server-sent events: one document, made once for all who listen, and sent when it has changed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final

_EVERY_S: Final = 1.0
_SHARE: Final = 5
"""A document that takes long is made less often, so that making documents takes one part in so many of a core."""

_KEEP_ALIVE_S: Final = 15.0


class Feed:
    """Makes a document every second while anybody listens, and sends it to them.

    A document that takes more than a quarter of a second of CPU time is made less often.

    A listener that reads slowly skips documents. It holds one of them, and nothing waits for it.

    Args:
        make: Returns the document; runs in a thread.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._news = asyncio.Event()  # set once, when a newer document is there; the next one has an event of its own
        self._event = b""
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = False

    async def listen(self) -> AsyncIterator[bytes]:
        """Yield events: the document at once, then whenever it has changed, and a comment after some silence."""
        self._listeners += 1
        seen = b""
        try:
            if self._task is None:
                self._loop = asyncio.get_running_loop()
                self._task = asyncio.create_task(self._run())
            yield b"retry: 2000\n\n"
            while not self._ended:
                if self._event == seen:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_KEEP_ALIVE_S):
                            await self._news.wait()
                yield self._event if self._event != seen else b": nothing new\n\n"
                seen = self._event
        finally:
            self._listeners -= 1

    def end(self) -> None:
        """End all listeners; called by any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._ended = True
        self._news.set()

    async def _run(self) -> None:
        try:
            while self._listeners and not self._ended:
                text, seconds = await asyncio.to_thread(self._text)
                event = f"data: {text}\n\n".encode()
                if event != self._event:
                    self._event, news = event, self._news
                    self._news = asyncio.Event()
                    news.set()
                await asyncio.sleep(max(_EVERY_S, (_SHARE - 1) * seconds))
        finally:
            self._task = None

    def _text(self) -> tuple[str, float]:
        """Return the document, and the CPU time in seconds that it took."""
        begin_s = time.thread_time()
        text = json.dumps(self._make(), separators=(",", ":"))
        return text, time.thread_time() - begin_s
