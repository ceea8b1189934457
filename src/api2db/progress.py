"""Progress of long work, reported to a function that watches the thread.

The work calls ``through`` and ``tell``. Both do nothing in threads that nobody watches, such as the workers of a run.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

_Item = TypeVar("_Item")
Watcher = Callable[[str, int, int], None]
"""Takes a step's name, and how many of how many things are done; 0 of 0 if that can't be told."""

_watcher: ContextVar[Watcher | None] = ContextVar("api2db_progress", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Tell a function how far the work of the block is."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(step: str, done: int = 0, total: int = 0) -> None:
    """Say how far a step is."""
    watcher = _watcher.get()
    if watcher is not None:
        watcher(step, done, total)


def through(step: str, items: Sequence[_Item]) -> Iterable[_Item]:
    """Return the items, and say for each how far the step is."""
    watcher = _watcher.get()
    return items if watcher is None else _through(watcher, step, items)


def _through(watcher: Watcher, step: str, items: Sequence[_Item]) -> Iterator[_Item]:
    for done, item in enumerate(items):
        watcher(step, done, len(items))
        yield item
    watcher(step, len(items), len(items))
