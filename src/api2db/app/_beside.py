"""Threads that work beside a block, from its beginning to its end."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from api2db.texts import describe_error

logger = logging.getLogger("api2db.app")
_LONGEST_END_S: Final = 3.0
Work = Callable[[threading.Event], None]


@contextmanager
def beside(*works: Work, name: str, end: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Work in threads while the block runs, and wait a moment for their ends.

    Args:
        works: Each is called in a thread with an event that is set at the end of the block.
        name: The threads' name.
        end: Called at the end of the block, after the event is set; it wakes whatever waits.
    """
    ended = threading.Event()
    threads = [threading.Thread(target=work, args=(ended,), name=name, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        end()
        deadline_s = time.monotonic() + _LONGEST_END_S
        for thread in threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))


def repeated(call: Callable[[], None], every_s: float, what: str) -> Work:
    """Return work for ``beside``: a call at an interval. An error is logged, once while it repeats itself.

    Args:
        call: What to call.
        every_s: The interval, seconds.
        what: What fails, for the log.
    """

    def work(ended: threading.Event) -> None:
        before = ""
        while not ended.wait(every_s):
            said = _error_of(call)
            if said and said != before:
                logger.warning("%s failed, and is tried again in %g s: %s", what, every_s, said)
            before = said

    return work


def _error_of(call: Callable[[], None]) -> str:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - the edge of a thread's loop: recorded, and tried again
        return describe_error(error)
    return ""
