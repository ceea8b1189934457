"""Server-sent events: one document, made once for all who listen, and sent when it has changed."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

_EVERY_S: Final = 1.0
_KEEP_ALIVE_S: Final = 15.0


class Feed:
    """Makes a document every second while anybody listens, and sends it to them.

    A listener that reads slowly skips documents. It holds one of them, and nothing waits for it.

    Args:
        make: Returns the document; runs in a thread.
    """

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._changed = asyncio.Condition()
        self._event = b""
        self._number = 0
        self._listeners = 0
        self._task: asyncio.Task[None] | None = None

    async def listen(self) -> AsyncIterator[bytes]:
        """Yield events: the document at once, then whenever it has changed, and a comment where nothing is to say."""
        self._listeners += 1
        seen = 0
        try:
            if self._task is None:
                self._task = asyncio.create_task(self._run())
            yield b"retry: 2000\n\n"
            while True:
                if await self._is_newer_than(seen):
                    seen, event = self._number, self._event
                else:
                    event = b": nothing new\n\n"
                yield event
        finally:
            self._listeners -= 1

    async def _is_newer_than(self, seen: int) -> bool:
        """Wait for a newer document, but not for long: silence would look like a broken connection."""
        try:
            async with asyncio.timeout(_KEEP_ALIVE_S), self._changed:
                await self._changed.wait_for(lambda: self._number > seen)
        except TimeoutError:
            return False
        return True

    async def _run(self) -> None:
        said = ""
        try:
            while self._listeners:
                text = await asyncio.to_thread(self._text)
                if text != said:
                    said = text
                    async with self._changed:
                        self._event = f"data: {text}\n\n".encode()
                        self._number += 1
                        self._changed.notify_all()
                await asyncio.sleep(_EVERY_S)
        finally:
            self._task = None

    def _text(self) -> str:
        return json.dumps(self._make(), separators=(",", ":"))
