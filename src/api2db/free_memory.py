"""Free memory, which is given back to the system after work on much of it.

glibc keeps what one thread has freed for later allocations of that thread, so that a process with several threads seems
to need the memory of all of them at once.
"""

import ctypes
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Return what no thread uses; does nothing where the C library is not glibc. Takes a few milliseconds."""
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    try:
        trim: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda _: None
    return trim
