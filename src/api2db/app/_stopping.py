"""When to stop, by a signal or another thread, and when to restart what has died."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from api2db.backoff import BackOff

_STEP_S: Final = 0.05
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 30.0
_WELL_S: Final = 60.0


class Stop:
    """Counts requests to stop.

    It is a plain number and not an event. If a signal handler sets an event while the same thread waits for it, it may
    find the event's lock taken, and deadlock.
    """

    def __init__(self) -> None:
        self.requests = 0

    @property
    def requested(self) -> bool:
        """Whether a stop was requested, or the main thread has ended: the interpreter then waits for other threads."""
        return self.requests > 0 or not threading.main_thread().is_alive()

    def request(self) -> None:
        """Request a stop; a second request asks for haste."""
        self.requests += 1

    @contextmanager
    def forgotten_afterwards(self) -> Iterator[None]:
        """Reset the count after the block."""
        try:
            yield
        finally:
            self.requests = 0

    def wait(self, timeout_s: float) -> bool:
        """Wait for a request, at most this long; return whether there was one."""
        deadline_s = time.monotonic() + timeout_s
        # It polls because there is nothing that a signal handler may safely set; see the class.
        while not self.requested and (left_s := deadline_s - time.monotonic()) > 0:
            time.sleep(min(_STEP_S, left_s))
        return self.requested


@contextmanager
def stopped_by_signals(stop: Stop) -> Iterator[None]:
    """Let SIGINT and SIGTERM request a stop inside the block; a no-op outside the main thread."""

    def request(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as Python calls it
        stop.request()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {signum: signal.signal(signum, request) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def restart_pauses(clock: Callable[[], float] = time.monotonic) -> BackOff:
    """Pauses before a restart of what has died; what has lived for a minute starts from the shortest one again."""
    return BackOff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, well_s=_WELL_S, clock=clock)
