"""Accelerated time: days of the slice pass in seconds of the demo."""

import time
from collections.abc import Callable
from datetime import datetime

from api2db.errors import ConfigurationError


class AcceleratedClock:
    """Maps the span from ``first`` to ``last`` onto ``seconds`` of wall time, from now on, and then stands still.

    Args:
        first: What the clock shows now.
        last: What it shows ``seconds`` later, and ever after.
        seconds: Greater than 0.
        wall_clock_s: Seconds that only rise.

    Raises:
        ConfigurationError: ``seconds`` is not greater than 0.
    """

    def __init__(
        self, first: datetime, last: datetime, seconds: float, wall_clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        if not seconds > 0:
            raise ConfigurationError(f"The demo can't last {seconds} seconds; give a number greater than 0.")
        self._first = first
        self._last = last
        self._seconds = seconds
        self._wall_clock_s = wall_clock_s
        self._started_s = wall_clock_s()

    def now(self) -> datetime:
        """Give the accelerated time; at the end it is exactly ``last``."""
        passed = (self._wall_clock_s() - self._started_s) / self._seconds
        return self._last if passed >= 1 else self._first + (self._last - self._first) * passed
