"""Delivery of waiting frames when the interpreter ends."""

import atexit
import logging
import os
import signal
import threading
import time
import weakref
from typing import Protocol

from api2db.errors import Api2dbError

logger = logging.getLogger(__name__)
_DRAIN_S, _STOP_S = 6.5, 1.0
_TERMINATED = 128 + signal.SIGTERM


class _Drainable(Protocol):
    lock: threading.Lock

    def flush(self, timeout: float | None = None) -> bool: ...
    def stop(self, timeout: float | None = None) -> None: ...


# By process id, so that a forked child does not drain its parent's streams.
_streams: "dict[int, weakref.WeakSet[_Drainable]]" = {}


def drain_at_exit(stream: _Drainable) -> None:
    """Make a running stream deliver for some seconds before the process ends; the rest stays on disk.

    A SIGTERM without a handler would end the process at once, so it is turned into an ordinary exit.
    """
    pid = os.getpid()
    if pid not in _streams:
        _streams.clear()
        _streams[pid] = weakref.WeakSet()
        atexit.register(_drain, pid)
    _streams[pid].add(stream)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _exit)


def _exit(_number: int, _frame: object) -> None:
    raise SystemExit(_TERMINATED)


def _drain(pid: int) -> None:
    if pid != os.getpid():
        return
    deadline = time.monotonic() + _DRAIN_S
    running = [stream for stream in _streams[pid] if stream.lock.locked()]
    for stream in running:
        try:
            stream.flush(max(0.0, deadline - time.monotonic()))
        except Api2dbError as error:  # One that can't be drained must not stop the others from draining.
            logger.warning("not drained: %s", error)
    for stream in running:
        stream.stop(0)  # Ask all to stop before waiting for any.
    deadline = time.monotonic() + _STOP_S
    for stream in running:
        stream.stop(max(0.0, deadline - time.monotonic()))
