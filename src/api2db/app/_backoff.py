"""How long to wait before something that died is restarted."""

import time
from collections.abc import Callable
from typing import Final

_FIRST_S: Final = 0.25
_LONGEST_S: Final = 30.0
_WELL_S: Final = 60.0


class BackOff:
    """Doubles the wait each time, up to half a minute; resets it after a minute of life.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wait_s = _FIRST_S
        self._started_s = clock()
        self._due_s = 0.0

    def started(self) -> None:
        """Record a start."""
        self._started_s = self._clock()

    def died(self) -> float:
        """Record a death; return the seconds until ``due``."""
        if self._clock() - self._started_s >= _WELL_S:
            self._wait_s = _FIRST_S
        wait_s, self._wait_s = self._wait_s, min(_LONGEST_S, self._wait_s * 2)
        self._due_s = self._clock() + wait_s
        return wait_s

    @property
    def due(self) -> bool:
        """Whether a restart is due."""
        return self._clock() >= self._due_s
