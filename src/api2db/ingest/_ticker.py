"""A steady ticker that does not drift, however long the work between its ticks takes."""

import time
from collections.abc import Callable


class Ticker:
    """Ticks at a fixed interval, the first time at once.

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
