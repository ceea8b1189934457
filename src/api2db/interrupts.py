"""Calls that no signal interrupts: the main thread has another thread make them.

Python runs signal handlers in the main thread, between any two instructions. What a handler raises (KeyboardInterrupt,
SystemExit) can leave a lock held by nobody, or bytes in a file that nobody has counted. ``try`` and ``with`` do not
prevent that: the exception may arrive just before they protect anything. So the main thread only hands over such a call
and waits for it. An interrupt ends the wait, not the call.
"""

import functools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
_GLANCE_S: Final = 0.1
_GRACE_S: Final = 2.0
_IDLE_S: Final = 3.0


class InterruptedCallError(Exception):
    """Ends a call that waits for something else than the disk, after its caller was interrupted; nobody sees it."""


def uninterrupted(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have another thread make the calls of the main thread.

    What is raised in the main thread meanwhile is raised from here when the call has ended, or after some seconds.
    The call ends early if it is in ``wait``.
    """

    @functools.wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if threading.get_ident() != threading.main_thread().ident or sys.is_finalizing():
            return function(*args, **kwargs)
        made: _T = _threads.make(functools.partial(function, *args, **kwargs))
        return made

    return call


def wait(changed: threading.Condition, timeout_s: float | None = None) -> None:
    """Wait for a notification, possibly for less time.

    Raises:
        InterruptedCallError: The main thread was interrupted while it waited for this call.
    """
    call: _Call | None = getattr(_current, "call", None)
    if call is None:
        changed.wait(timeout_s)
        return
    check()
    changed.wait(_GLANCE_S if timeout_s is None else min(_GLANCE_S, timeout_s))
    check()


def wait_for(changed: threading.Condition, predicate: Callable[[], bool], timeout_s: float | None) -> bool:
    """Wait until a predicate is true; return whether it is.

    Raises:
        InterruptedCallError: As ``wait`` does.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while not predicate():
        remaining_s = None if deadline is None else deadline - time.monotonic()
        if remaining_s is not None and remaining_s <= 0:
            return False
        wait(changed, remaining_s)
    return True


def check() -> None:
    """Raise if nobody waits for this call any more.

    Raises:
        InterruptedCallError: As ``wait`` does.
    """
    call: _Call | None = getattr(_current, "call", None)
    if call is not None and call.is_interrupted:
        raise InterruptedCallError("the caller was interrupted")


class _Call:
    """A function to call, and what came of it."""

    __slots__ = ("_done", "_error", "_function", "_result", "has_ended", "is_interrupted")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._result: Any = None
        self._error: BaseException | None = None
        self._done = threading.Lock()  # a plain lock: a wait for it has no Python code that an interrupt could break
        self._done.acquire()
        self.has_ended = self.is_interrupted = False

    def make(self) -> None:
        _current.call = self
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._error = error
        finally:
            _current.call = None

    def end(self) -> None:
        self.has_ended = True
        self._done.release()

    def wait(self, timeout_s: float = -1) -> None:
        if not self.has_ended:
            self._done.acquire(timeout=timeout_s)

    def result(self) -> Any:
        error, self._error = self._error, None  # without a reference cycle through the traceback
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error


class _Threads:
    """The threads that make the calls: at most one that idles, for some seconds, and more while calls wait.

    In the main thread every step is one call of C code, or leaves nothing wrong behind if it is interrupted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._idle = 0

    def make(self, function: Callable[[], Any]) -> Any:
        call = _Call(function)
        try:
            self._calls.put(call)
            self._see_to_threads()
            call.wait()
        except BaseException:
            call.is_interrupted = True
            self._see_to_threads()  # the interrupt may have come before or during the start of a thread
            call.wait(_GRACE_S)
            raise
        return call.result()

    def _see_to_threads(self) -> None:
        if self._idle or self._calls.empty():
            return
        try:
            threading.Thread(target=self._serve, name="api2db-calls", daemon=True).start()
        except RuntimeError:  # the interpreter exits, or the system has no more threads
            with suppress(queue.Empty):
                while True:
                    call = self._calls.get_nowait()
                    call.make()
                    call.end()

    def _serve(self) -> None:
        with self._lock:
            self._idle += 1
        stays = True
        while stays:
            try:
                call = self._calls.get(timeout=_IDLE_S)
            except queue.Empty:
                if self._may_end():
                    return
                continue
            with self._lock:
                self._idle -= 1
            self._see_to_threads()  # A signal handler may have handed over two calls before the first was taken.
            call.make()
            with self._lock:
                stays = not self._idle
                self._idle += stays
            call.end()
            del call

    def _may_end(self) -> bool:
        """Whether a thread that has idled may end; not if somebody counts on it who has just handed over a call."""
        with self._lock:
            self._idle -= 1
            if self._calls.empty():
                return True
            self._idle += 1
            return False


_current = threading.local()
_threads = _Threads()


def _after_fork() -> None:
    """A forked child has none of its parent's threads."""
    global _threads  # noqa: PLW0603 - the one of this process
    _threads = _Threads()


os.register_at_fork(after_in_child=_after_fork)
