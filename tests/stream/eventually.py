"""Waits for a condition, no longer than needed."""

import time
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")
_GLANCE_S = 0.005


def eventually(condition: Callable[[], _Answer], timeout_s: float = 20) -> _Answer:
    """Call until the result is true, and return it."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still {answer!r} after {timeout_s} s"
        time.sleep(_GLANCE_S)
    return answer
