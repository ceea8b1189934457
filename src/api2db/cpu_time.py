"""The CPU time that this process's threads have spent on each collector, and how long they have waited for a core."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_THREADS: Final = Path("/proc/self/task")


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

    A block within another one counts what the outer block has spent until then.
    """
    outer_s = _thread.since_s
    if outer_s is None:
        _thread.since_s = time.thread_time()
    try:
        yield
    finally:
        count(collector)
        if outer_s is None:
            _thread.since_s = None


def count(collector: str) -> None:
    """Count what this thread has spent in its block until now, so that long work is counted on the way."""
    since_s = _thread.since_s
    if since_s is None:
        return
    _thread.since_s = now_s = time.thread_time()
    with _lock:
        _spent_s[collector] = _spent_s.get(collector, 0.0) + now_s - since_s


def add_to_block(helpers_s: float) -> None:
    """Count what other threads have spent for the block that this thread is in."""
    if _thread.since_s is not None:
        _thread.since_s -= helpers_s


def spent_s(collector: str) -> float:
    """The CPU time spent on a collector since this process began, seconds."""
    with _lock:
        return _spent_s.get(collector, 0.0)


def thread_times_s() -> dict[str, tuple[float, float]]:
    """How long each thread of this process has computed, and has waited for a core, seconds; Linux alone says that."""
    found: dict[str, tuple[float, float]] = {}
    with suppress(OSError):
        for folder in _THREADS.iterdir():
            with suppress(OSError, ValueError):  # A thread may have ended meanwhile.
                computed_ns, waited_ns, _ = (folder / "schedstat").read_text().split()
                found[folder.name] = int(computed_ns) / 1e9, int(waited_ns) / 1e9
    return found


class Stretch:
    """How many times longer than on free cores this process takes for its work.

    Args:
        times_s: How long each thread has computed and waited for a core, seconds.
    """

    def __init__(self, times_s: Callable[[], Mapping[str, tuple[float, float]]] = thread_times_s) -> None:
        self._times_s = times_s
        self._before = times_s()

    def since_last(self) -> float:
        """The factor since the last call, at least 1; also 1 where the system does not say it."""
        now, before = self._times_s(), self._before
        self._before = now
        computed_s = waited_s = 0.0
        for thread, (computed, waited) in now.items():
            computed_before, waited_before = before.get(thread, (0.0, 0.0))
            if computed >= computed_before and waited >= waited_before:  # otherwise another thread of that number
                computed_s += computed - computed_before
                waited_s += waited - waited_before
        return 1.0 + waited_s / computed_s if computed_s else 1.0
