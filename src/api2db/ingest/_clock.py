"""The clock of a process: one thread that makes calls when they are due.

Such a call must not wait for anything and must not run a user's code: it starts a thread for that. So no collector
delays another. The thread lives while there are calls to make.
"""

import heapq
import itertools
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Final

logger = logging.getLogger("api2db.ingest")
_SLACK: Final = 64
Call = Callable[[], None]


class Clock:
    """Makes calls when they are due; all times are those of ``time.monotonic``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Call, float] = {}
        # Has an entry for each call above, and stale ones, which are skipped.
        self._heap: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def call_by(self, due_s: float, call: Call) -> None:
        """Make a call once, at this time, or earlier if an earlier time was given before.

        Raises:
            RuntimeError: No thread can be started, as at the interpreter's exit.
        """
        with self._changed:
            if due_s >= self._due.get(call, math.inf):
                return
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="api2db-clock", daemon=True)
                thread.start()
                self._thread = thread
            self._due[call] = due_s
            heapq.heappush(self._heap, (due_s, next(self._numbers), call))
            if self._heap[0][2] == call:
                self._changed.notify()

    def forget(self, call: Call) -> None:
        """Cancel a call, unless it is already due."""
        with self._changed:
            if self._due.pop(call, None) is not None and not self._due:
                self._changed.notify()
            if len(self._heap) > 2 * len(self._due) + _SLACK:
                self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
                heapq.heapify(self._heap)

    def _run(self) -> None:
        while (call := self._next()) is not None:
            try:
                call()
            except Exception:  # the calls of the other collectors must go on
                logger.exception("a call of the clock failed")

    def _next(self) -> Call | None:
        """Wait until a call is due; None if there is none left."""
        with self._changed:
            while self._due:
                due_s, _, call = self._heap[0]
                wait_s = due_s - time.monotonic()
                if self._due.get(call) != due_s:
                    heapq.heappop(self._heap)
                elif wait_s > 0:
                    self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))
                else:
                    heapq.heappop(self._heap)
                    del self._due[call]
                    return call
            self._heap.clear()
            self._thread = None
            return None


_clocks: dict[int, Clock] = {}


def process_clock() -> Clock:
    """Return the clock of this process; a forked child has its own."""
    return _clocks.setdefault(os.getpid(), Clock())


class Ticker:
    """Ticks at a fixed interval, the first time at once; it does not drift, however long the work between ticks takes.

    Args:
        seconds: The interval between two ticks.
        clock: Returns monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._begin = clock()
        self._taken = 0

    def passed(self) -> int:
        """Return how many ticks came since the last call, without the very first tick."""
        reached = int((self._clock() - self._begin) // self._seconds)
        passed, self._taken = reached - self._taken, reached
        return passed

    @property
    def next_s(self) -> float:
        """When the tick after those that ``passed`` has returned comes, in seconds of the clock."""
        return self._begin + (self._taken + 1) * self._seconds
