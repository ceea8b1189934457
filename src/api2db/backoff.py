"""Pauses between attempts: each is twice as long as the last one, up to a limit."""

import random
import time
from collections.abc import Callable
from typing import Final

_DOUBLINGS: Final = 32
"""More doublings, after weeks of failures, would exceed the range of a float."""


class BackOff:
    """Counts failures in a row, and says how long to wait after each.

    Args:
        first_s: The pause after the first failure.
        longest_s: The longest pause, without the jitter.
        jitter_s: Up to this much is added at random, so that many who wait for the same thing don't come at once.
        jitter_share: Up to this share of a pause is taken off at random, for the same reason.
        well_s: What lives this long, since ``started`` or the last failure, has succeeded; by default only ``reset``
            says so.
        clock: Monotonic seconds.

    Attributes:
        failures: Failures in a row.
    """

    def __init__(
        self,
        first_s: float,
        longest_s: float,
        *,
        jitter_s: float = 0.0,
        jitter_share: float = 0.0,
        well_s: float = float("inf"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._jitter_s = jitter_s
        self._jitter_share = jitter_share
        self._well_s = well_s
        self._clock = clock
        self._started_s = clock()
        self._due_s = 0.0
        self.failures = 0

    def started(self) -> None:
        """Record a start."""
        self._started_s = self._clock()

    def failed(self) -> float:
        """Record a failure; return the seconds until the next attempt is due."""
        now_s = self._clock()
        if now_s - self._started_s >= self._well_s:
            self.reset()
        pause_s = min(self._longest_s, self._first_s * 2.0 ** min(self.failures, _DOUBLINGS))
        pause_s *= 1 - random.uniform(0, self._jitter_share)  # noqa: S311 - no secret
        pause_s += random.uniform(0, self._jitter_s)  # noqa: S311 - no secret
        self.failures += 1
        self._started_s, self._due_s = now_s, now_s + pause_s
        return pause_s

    def reset(self) -> None:
        """Record a success: the next pause is the first one again."""
        self.failures = 0

    @property
    def due(self) -> bool:
        """Whether the next attempt is due."""
        return self._clock() >= self._due_s
