"""Waits for a condition, no longer than needed, and looks at something until a block ends."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def sampled(look: Callable[[], int], every_s: float) -> Iterator[list[int]]:
    """Collect what a thread of its own finds at several moments, until the block ends."""
    found, ended = [0], threading.Event()

    def work() -> None:
        while not ended.wait(every_s):
            found.append(look())

    looking = threading.Thread(target=work)
    looking.start()
    try:
        yield found
    finally:
        ended.set()
        looking.join()
