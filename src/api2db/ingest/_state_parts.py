"""The state of a collector in two parts, which change side by side: that of its live polls, and its backfill."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from api2db.errors import BacklogFullError, PollError
from api2db.ingest._poll import Frames, State
from api2db.journal import Journal

KEY: Final = "backfill"
_ANSWER_S: Final = 2.0
Part = dict[str, Any]


class StateParts:
    """The parts of one journal's state. The backfill is under its own key, which the live polls do not see.

    Whoever journals rows changes its own part only, so a backfill and a live poll may run at the same time.

    Args:
        journal: The collector's.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._lock = threading.Lock()

    @property
    def backfill(self) -> Part | None:
        """What is known of the backfill; None if there is no unfinished one."""
        found: Part | None = self.journal.cursor().get(KEY)
        return found

    def set_backfill(self, part: Part | None) -> None:
        """Store the part of the backfill, or remove it; do not wait for room in the journal.

        Raises:
            BacklogFullError: There is no room.
        """
        if not self._lock.acquire(timeout=_ANSWER_S):
            raise BacklogFullError("the journal is full; try again when its rows have been delivered")
        try:
            self.journal.append([], cursor=merged(self.journal.cursor(), part), block=False)
        finally:
            self._lock.release()

    @contextmanager
    def changing(self) -> Iterator[dict[str, Any]]:
        """Keep the state as it is during the block, and return it."""
        with self._lock:
            yield self.journal.cursor()


class LiveEnd:
    """The journal as live polls use it.

    Args:
        parts: The state.
    """

    def __init__(self, parts: StateParts) -> None:
        self._parts = parts

    def cursor(self) -> dict[str, Any]:
        """Return the state without the backfill."""
        return merged(self._parts.journal.cursor(), None)

    def append(self, frames: Frames, *, cursor: State | None = None, timeout_s: float | None = None) -> int:
        """Store frames, and their state beside the backfill's part; see ``Journal``."""
        if cursor is None:
            return self._parts.journal.append(frames, timeout_s=timeout_s)
        with self._parts.changing() as state:
            return self._parts.journal.append(frames, cursor=merged(cursor, state.get(KEY)), timeout_s=timeout_s)


class BackfillEnd:
    """The journal as one backfill uses it, until that is cancelled.

    Args:
        parts: The state.
        on_change: Called with the backfill's part whenever that is stored; None at the end.
    """

    def __init__(self, parts: StateParts, on_change: Callable[[Part | None], None]) -> None:
        self._parts = parts
        self._on_change = on_change
        self._is_cancelled = False

    def cancel(self) -> None:
        """Take no more rows."""
        self._is_cancelled = True

    def cursor(self) -> dict[str, Any]:
        """Return the state with the backfill's part alone."""
        part = self._parts.backfill
        return {} if part is None else {KEY: part}

    def append(self, frames: Frames, *, cursor: State | None = None, timeout_s: float | None = None) -> int:
        """Store frames, and the backfill's part beside the state of the live polls; see ``Journal``."""
        with self._parts.changing() as state:
            if self._is_cancelled or KEY not in state:
                raise PollError("the backfill was cancelled")
            part = state.get(KEY) if cursor is None else cursor.get(KEY)
            last = self._parts.journal.append(frames, cursor=merged(state, part), timeout_s=timeout_s)
        self._on_change(part)
        return last


def merged(state: State, part: Part | None) -> dict[str, Any]:
    """Return a state with this part for the backfill."""
    found = {key: value for key, value in state.items() if key != KEY}
    return found if part is None else {**found, KEY: part}
