"""The slowdown of a collector whose polls keep failing: it is polled more rarely until a poll succeeds."""

import time
from typing import Final

from api2db.backoff import BackOff

FAILURES: Final = 5
"""As many polls in a row may fail at the usual interval: a short outage delays nothing."""
_MOST_INTERVALS: Final = 10
_LONGEST_S: Final = 3600.0


class Slowdown:
    """Says from when on the next poll may begin.

    After five failures in a row the interval is doubled with each further one, up to ten times the interval, and to an
    hour at most. It is never shorter than the interval.

    Args:
        interval_s: The collector's own interval.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        longest_s = max(interval_s, min(_MOST_INTERVALS * interval_s, _LONGEST_S))
        self._back_off = BackOff(2 * interval_s, longest_s)
        self._failures = 0
        self._due_s = 0.0

    def failed(self, now_s: float | None = None) -> None:
        """Record a failed poll."""
        self._failures += 1
        if self._failures >= FAILURES:
            # A poll takes a part of its interval: half of one is no reason to miss a tick.
            pause_s = self._back_off.failed() - self._interval_s / 2
            self._due_s = (time.monotonic() if now_s is None else now_s) + pause_s

    def succeeded(self) -> None:
        """Record a poll that succeeded: the usual interval holds again."""
        self._back_off.reset()
        self._failures, self._due_s = 0, 0.0

    def holds(self, tick_s: float) -> bool:
        """Whether no poll may begin at a tick."""
        return tick_s < self._due_s

    def next_tick_s(self, tick_s: float) -> float | None:
        """The first tick at which a poll may begin, counted from the next tick; None if that is the next one."""
        if not self.holds(tick_s):
            return None
        while self.holds(tick_s):
            tick_s += self._interval_s
        return tick_s
