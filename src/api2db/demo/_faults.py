"""The faults of a real API: now and then it breaks, now and then it asks for patience."""

import threading
from collections import Counter
from http import HTTPStatus
from random import Random

_KINDS = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.TOO_MANY_REQUESTS)


class Faults:
    """Decides for each request whether it fails, in an order that the seed alone fixes.

    A request after a fault never fails, so whoever tries again always gets on.

    Args:
        seed: The same seed gives the same faults.
        share: The chance of a fault, from 0 (never) to 1 (every other request).
    """

    def __init__(self, seed: int | str, share: float) -> None:
        self._random = Random(seed)  # noqa: S311 - faults need to be repeatable, not secret
        self._share = share
        self._lock = threading.Lock()
        self._last: HTTPStatus | None = None
        self._drawn: Counter[HTTPStatus] = Counter()

    def draw(self) -> HTTPStatus | None:
        """Give the status with which the next request fails, or None for it to be answered."""
        with self._lock:
            self._last = self._draw() if self._last is None else None
            return self._last

    def drawn(self) -> dict[HTTPStatus, int]:
        """Count the faults so far by their status."""
        with self._lock:
            return dict(self._drawn)

    def _draw(self) -> HTTPStatus | None:
        if self._random.random() >= self._share:
            return None
        kind = self._random.choice(_KINDS)
        self._drawn[kind] += 1
        return kind
