"""One poll: an import function in a thread of its own, its pages journalled in groups with their state."""

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from api2db.errors import BacklogFullError, PollError
from api2db.frames import Refused, Rows
from api2db.ingest._async import is_async, run_async
from api2db.ingest._collector import Collector, takes_state
from api2db.ingest._pages import batches
from api2db.journal import Journal

logger = logging.getLogger(__name__)
GROUP_BYTES: Final = 4 << 20
GROUP_S: Final = 0.2
_WAKE_S: Final = 0.1
_ROOM_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a poll; rows that came before an error are journalled."""

    rows: int
    error: BaseException | None = None


class Poll:
    """A poll from its start until it ended, failed, or took too long.

    Pages are journalled as soon as they are a few MB, or 0.2 s after the first of a group, whether or not the import
    function has gone on by then. A poll that was given up on is cancelled if its import function is async.
    A plain function can't be ended: its thread continues until it yields, and what it yields is dropped.

    Args:
        collector: What to poll.
        journal: Where the pages go.
        stopping: Set when the process ends; a poll then no longer waits for room in the journal.
    """

    def __init__(self, collector: Collector, journal: Journal, stopping: threading.Event) -> None:
        self._collector = collector
        self._journal = journal
        self._stopping = stopping
        self._committed = json.dumps(journal.cursor())
        self._state: dict[str, Any] = json.loads(self._committed)
        self._reached = self._committed
        self._pages: list[Rows | Refused] = []
        self._size_bytes = 0
        self._since_s = 0.0
        self._held_up_s = 0.0
        self._rows = 0
        self._error: BaseException | None = None
        self._closed = False
        self._commits_each_page = getattr(collector.import_target, "commits_each_page", False)
        self._commit_s = 0.0
        self._taken_s = 0.0
        self._awaited: Future[Any] | None = None
        self._changed = threading.Condition()
        self._begin_s = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"api2db-poll-{collector.name}", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the import function still runs, also where it was given up on."""
        return self._thread.is_alive()

    def finish(self, on_wake: Callable[[], None], grace_s: float) -> Outcome:
        """Journal what the poll yields until it has ended or is given up on.

        Args:
            on_wake: Called several times a second while the poll runs.
            grace_s: How long it may go on once the process is stopping.
        """
        stopped_s: float | None = None
        while True:
            on_wake()
            if self._stopping.is_set() and stopped_s is None:
                stopped_s = time.monotonic()
            with self._changed:
                if self._step(stopped_s is not None and time.monotonic() - stopped_s >= grace_s):
                    return Outcome(self._rows, self._error)
                self._changed.wait(_WAKE_S)

    def _step(self, out_of_grace: bool) -> bool:
        """Commit what is due; say whether the poll is over."""
        late = self._took_too_long()
        over = self._closed or out_of_grace or late
        try:
            if self._pages and (over or time.monotonic() - self._since_s >= GROUP_S):
                self._commit()
        except BaseException as error:  # noqa: BLE001 - it becomes the poll's outcome
            self._error, over = error, True
        if over and not self._closed:
            self._closed = True
            self._error = self._error or self._given_up(late)
            if self._awaited is not None:
                self._awaited.cancel()
        return over

    def _took_too_long(self) -> bool:
        limit = self._collector.poll_timeout
        return limit is not None and time.monotonic() - self._begin_s - self._held_up_s > limit

    def _given_up(self, late: bool) -> PollError:
        if late:
            return PollError(
                f"took longer than its poll_timeout of {self._collector.poll_timeout} s; "
                "what it yields from now on is dropped"
            )
        return PollError("was still running when the process had to end; the next start goes on from its last state")

    def _run(self) -> None:
        try:
            self._take_all()
        except BaseException as error:  # noqa: BLE001 - also SystemExit: it becomes the poll's outcome
            with self._changed:
                self._error = self._error if self._closed else error
        finally:
            with self._changed:
                self._over()
                self._changed.notify_all()

    def _over(self) -> None:
        if self._closed:
            return
        try:
            self._commit()
        except BaseException as error:  # noqa: BLE001 - it becomes the poll's outcome
            self._error = self._error or error
        self._closed = True

    def _take_all(self) -> None:
        target = self._collector.import_target
        result = target(self._state) if takes_state(target, self._collector.name) else target()
        if is_async(result):
            result = run_async(result, self._awaits)
        for batch in batches(result, self._collector.transform):
            if not self._take(batch):
                return
        self._take(None)

    def _awaits(self, future: "Future[Any]") -> None:
        """Remember what the poll waits for; a poll that was given up on meanwhile ends at once."""
        with self._changed:
            self._awaited = future
            if self._closed:
                future.cancel()

    def _take(self, page: Rows | Refused | None) -> bool:
        """Take a page over; False where nobody waits for it any more."""
        reached = _as_json(self._state)
        with self._changed:
            if self._closed:
                return False
            if page is not None:
                self._since_s = self._since_s if self._pages else time.monotonic()
                self._pages.append(page)
                self._size_bytes += page.nbytes
            self._reached = reached
            if self._size_bytes >= GROUP_BYTES or self._is_dear():
                self._commit()
            self._taken_s = time.monotonic()
            return True

    def _is_dear(self) -> bool:
        """Whether a page costs an API's call that takes longer than the commit which makes it safe."""
        return self._commits_each_page and time.monotonic() - self._taken_s >= self._commit_s / 2

    def _commit(self) -> None:
        """Journal the group; after an error it is gone, and the state as it was before it."""
        pages, self._pages, self._size_bytes = self._pages, [], 0
        cursor = json.loads(self._reached) if self._reached != self._committed else None
        if not pages and cursor is None:
            return
        begin_s = time.monotonic()
        try:
            self._append(pages, cursor)
        except BaseException:
            self._reached = self._committed
            raise
        self._commit_s = time.monotonic() - begin_s
        self._held_up_s += self._commit_s
        self._committed = self._reached
        self._rows += sum(page.num_rows for page in pages)

    def _append(self, pages: list[Rows | Refused], cursor: dict[str, Any] | None) -> None:
        while True:
            try:
                self._journal.append(pages, cursor=cursor, timeout_s=_ROOM_S)
            except BacklogFullError:
                if self._stopping.is_set():
                    raise
            else:
                return


def _as_json(state: dict[str, Any]) -> str:
    try:
        return json.dumps(state)
    except (TypeError, ValueError) as error:
        raise PollError(f"state holds what JSON can't: {error}; keep texts, numbers, lists and dicts in it") from error
