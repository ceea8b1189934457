"""A steady ticker of ticks that doesn't drift, however long the work between them takes."""

import time
from collections.abc import Callable


class Ticker:
    """Ticks every so many seconds, the first one now.

    Args:
        seconds: Between two ticks.
        clock: Seconds that only rise.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._begin = clock()
        self._taken = 0

    def passed(self) -> int:
        """How many ticks came since the last call; the very first tick is not counted."""
        reached = int((self._clock() - self._begin) // self._seconds)
        passed, self._taken = reached - self._taken, reached
        return passed

    @property
    def next_s(self) -> float:
        """When the next tick comes that ``passed`` has not told of, in seconds of the clock."""
        return self._begin + (self._taken + 1) * self._seconds
