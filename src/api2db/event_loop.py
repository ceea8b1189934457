"""EventLoop: an asyncio event loop whose look-ups of host names wait in threads of their own.

The look-ups of a plain event loop share a few threads. Some that hang hold up all others, and the end of the process.
"""

import asyncio
import contextvars
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop on which any number of look-ups may hang."""

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Look up a host as ``socket.getaddrinfo`` does."""
        look_up = partial(socket.getaddrinfo, host, port, family, type, proto, flags)
        return await asyncio.wrap_future(in_thread(look_up, "api2db-look-up"))


def in_thread(function: Callable[[], T], name: str) -> "Future[T]":
    """Call a function in a thread that no process waits for at its end. It sees the caller's context variables.

    Args:
        function: What to call.
        name: The name of the thread.
    """
    future: Future[T] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(context.run(function))
        except BaseException as error:  # noqa: BLE001 - whoever waits for the future is told
            future.set_exception(error)

    threading.Thread(target=work, name=name, daemon=True).start()
    return future
