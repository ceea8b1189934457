"""The CPU time that this process's threads have spent on each collector."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class _Thread(threading.local):
    """What a thread counts.

    Attributes:
        since_s: Its CPU time when it last counted; None outside of blocks.
    """

    since_s: float | None = None


_thread = _Thread()
_lock = threading.Lock()
_spent_s: dict[str, float] = {}


@contextmanager
def counted_for(collector: str) -> Iterator[None]:
    """Count the CPU time that this thread spends in a block.

    A block within another one counts what the outer block has spent until then, so long work is counted on the way.
    """
    outer_s = _thread.since_s
    if outer_s is None:
        _thread.since_s = time.thread_time()
    try:
        yield
    finally:
        now_s = time.thread_time()
        with _lock:
            _spent_s[collector] = _spent_s.get(collector, 0.0) + now_s - (_thread.since_s or now_s)
        _thread.since_s = None if outer_s is None else now_s


def spent_s(collector: str) -> float:
    """The CPU time spent on a collector since this process began, seconds."""
    with _lock:
        return _spent_s.get(collector, 0.0)
