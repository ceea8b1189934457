"""Threads on demand: each call starts at once, in an idle thread or in a new one.

A call that hangs occupies only its own thread. A thread ends when it has been idle for some seconds.
"""

import contextvars
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

logger = logging.getLogger("api2db.ingest")
_IDLE_S: Final = 3.0
_IDLE_NAME: Final = "api2db-idle"
T = TypeVar("T")


@dataclass(slots=True)
class _Work(Generic[T]):
    name: str
    call: Callable[[], T]
    result: "Future[T]" = field(default_factory=Future)

    def run(self) -> None:
        if not self.result.set_running_or_notify_cancel():
            return
        try:
            # An empty context, as a new thread has: a decimal precision set in one call does not reach the next.
            result = contextvars.Context().run(self.call)
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            self.result.set_exception(error)
        else:
            self.result.set_result(result)


class Threads:
    """The threads of one process; they are daemons."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[queue.SimpleQueue[_Work[Any]], None] = {}  # the inbox of each; the last one became idle last

    def submit(self, name: str, call: Callable[[], T]) -> "Future[T]":
        """Make a call in a thread.

        Args:
            name: The name of the thread during the call.
            call: What to call.

        Raises:
            RuntimeError: No thread can be started, as at the interpreter's exit.
        """
        work = _Work(name, call)
        with self._lock:
            inbox = self._idle.popitem()[0] if self._idle else None  # the last one, so that the others time out
        if inbox is None:
            inbox = queue.SimpleQueue()
            threading.Thread(target=self._serve, args=(inbox,), name=name, daemon=True).start()
        inbox.put(work)
        return work.result

    def run(self, name: str, call: Callable[[], object]) -> None:
        """Make a call in a thread; if none can be started, make it here."""
        try:
            self.submit(name, call)
        except RuntimeError:
            call()

    def _serve(self, inbox: "queue.SimpleQueue[_Work[Any]]") -> None:
        work: _Work[Any] | None = inbox.get()
        thread = threading.current_thread()
        while work is not None:
            thread.name = work.name
            work.run()
            thread.name, work = _IDLE_NAME, None  # an idle thread must not keep its last work in memory
            work = self._wait(inbox)

    def _wait(self, inbox: "queue.SimpleQueue[_Work[Any]]") -> _Work[Any] | None:
        """Wait for more work; return None if there was none for some seconds."""
        with self._lock:
            self._idle[inbox] = None
        try:
            return inbox.get(timeout=_IDLE_S)
        except queue.Empty:
            with self._lock:
                if inbox in self._idle:
                    del self._idle[inbox]
                    return None
            return inbox.get()  # another thread has just taken the inbox, and sends work to it


_threads: dict[int, Threads] = {}


def process_threads() -> Threads:
    """Return the threads of this process; a forked child does not use its parent's."""
    return _threads.setdefault(os.getpid(), Threads())


class InTurn:
    """Makes calls one after the other, in one thread of the process while there are any.

    Hundreds of calls that are due at the same time take less of the processor than in a thread each.

    Args:
        name: The name of the thread meanwhile.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], object]] = deque()
        self._is_working = False

    def run(self, call: Callable[[], object]) -> None:
        """Make a call after those that wait; what it raises is logged."""
        with self._lock:
            self._waiting.append(call)
            if self._is_working:
                return
            self._is_working = True
        process_threads().run(self._name, self._work)

    def _work(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except Exception:  # the other calls must be made
                logger.exception("a call of %s failed", self._name)

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            self._is_working = bool(self._waiting)
            return self._waiting.popleft() if self._is_working else None
