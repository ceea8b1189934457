"""EventLoop: an asyncio event loop whose look-ups of host names wait in threads of their own.

The look-ups of a plain event loop share a few threads. Some that hang hold up all others, and the end of the process.
``ProcessLoop`` runs such a loop in a thread.
"""

import asyncio
import contextvars
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

logger = logging.getLogger("api2db")


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


class ProcessLoop:
    """An event loop that all threads of a process share; it runs in a daemon thread. A forked child starts its own.

    Args:
        name: The name of the thread.

    Attributes:
        of: The loop of each process and its thread. A child keeps those of its parents: closing a parent's loop would
            change the selector that both share.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self.of: dict[int, tuple[asyncio.AbstractEventLoop, threading.Thread]] = {}
        os.register_at_fork(after_in_child=self._renew_lock)

    def running(self) -> asyncio.AbstractEventLoop:
        """Return the loop; start it first if it does not run.

        Raises:
            RuntimeError: No thread can be started.
        """
        with self._lock:
            loop, thread = self.of.get(os.getpid(), (None, None))
            if loop is None or thread is None or not thread.is_alive():
                loop = EventLoop()
                thread = threading.Thread(target=self._serve, args=(loop,), name=self._name, daemon=True)
                try:
                    thread.start()
                except BaseException:  # the loop has files open
                    loop.close()
                    raise
                self.of[os.getpid()] = loop, thread
            return loop

    def _renew_lock(self) -> None:
        """Make a new lock: another thread may have held the old one when the process was forked."""
        self._lock = threading.Lock()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run the loop until it is closed. A task that a user's function created may stop the loop, or exit."""
        while not loop.is_closed():
            try:
                loop.run_forever()
            except BaseException:  # the other tasks must go on
                logger.exception("a task of the thread %s has exited; the others continue", self._name)


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
