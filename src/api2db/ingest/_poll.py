"""One poll of an API: it journals what the import function yields in groups, each with its state."""

import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from api2db import tracing
from api2db.cpu_time import count, counted_for
from api2db.errors import BacklogFullError, PollError
from api2db.frames import Frame, Refused
from api2db.ingest._clock import process_clock
from api2db.ingest._collector import Collector
from api2db.ingest._import_call import ImportCall, thread_name
from api2db.ingest._threads import process_threads

GROUP_BYTES: Final = 4 << 20
GROUP_S: Final = 0.2
_AGAIN_S: Final = 0.1
_GRACE_S: Final = 3.0
_ROOM_S: Final = 3.0
_COUNT_S: Final = 0.1  # between counts of the CPU time, which take as long as a tenth of a small page


Frames = Sequence[Frame | Refused]
State = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a poll; rows that came before an error are journalled."""

    rows: int
    error: BaseException | None = None


class PollJournal(Protocol):
    """What a poll requires of a journal; see ``Journal``."""

    def cursor(self) -> dict[str, Any]:
        """Return the state as of the last committed group."""

    def append(self, frames: Frames, *, cursor: State | None = None, timeout_s: float | None = None) -> int:
        """Store frames together with the state; return the last sequence number."""


class Poll:
    """A poll, from its start until it ends, fails, or takes too long.

    Pages are journalled when they are a few MB, or 0.2 s after the first of a group, even if the import function has
    not continued by then. A poll that is given up is cancelled if its import function is async. A plain function can't
    be ended: its thread continues until it yields, and what it yields is dropped.

    The poll occupies a thread while a plain import function runs. The clock watches it meanwhile.

    Args:
        collector: What to poll.
        journal: Where the pages go.
        stopping: Set when the process ends; a poll then no longer waits for room in the journal.
        on_end: Called with the outcome.
    """

    def __init__(
        self, collector: Collector, journal: PollJournal, stopping: threading.Event, on_end: Callable[[Outcome], None]
    ) -> None:
        self._collector = collector
        self._journal = journal
        self._stopping = stopping
        self._on_end = on_end
        self._import_call = ImportCall(collector, self._take, self._import_ended)
        self._committed = self._reached = "{}"
        self._state: dict[str, Any] = {}
        self._pages: list[Frame | Refused] = []
        self._size_bytes = 0
        self._since_s = 0.0
        self._held_up_s = 0.0
        self._begin_s = 0.0
        self._grace_end_s = math.inf
        self._rows = self._frames = 0
        self._span = tracing.begin("poll", collector=collector.name)
        self._is_importing = True
        self._closed = False
        self._commits_each_page = getattr(collector.import_target, "commits_each_page", False)
        self._commit_s = 0.0
        self._taken_s = self._counted_s = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def is_under_way(self) -> bool:
        """Whether it has not ended, or its import function still runs although it was given up."""
        return self._is_importing or not self._over.is_set()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until it has ended; return False after the timeout."""
        return self._over.wait(timeout_s)

    def start(self) -> None:
        """Start the poll; if no thread can be started, that error is the outcome."""
        self._begin_s = time.monotonic()
        try:
            self._look()
            if self._stopping.is_set():
                self.stop()
            process_threads().submit(thread_name(self._collector), self._run)
        except RuntimeError as error:
            self._import_ended(error)

    def stop(self) -> None:
        """Give up the poll in a few seconds; the process is stopping."""
        self._grace_end_s = min(self._grace_end_s, time.monotonic() + _GRACE_S)
        self._look()

    def _run(self) -> None:
        with counted_for(self._collector.name):
            self._import()

    def _import(self) -> None:
        try:
            self._committed = self._reached = json.dumps(self._journal.cursor())
            self._state = json.loads(self._committed)
        except Exception as error:  # noqa: BLE001 - it becomes the poll's outcome
            self._import_ended(error)
        else:
            with self._span.current():
                self._import_call.run(self._state)

    def _look(self) -> None:
        """Start a thread for what is due. The clock calls this, so it must not wait."""
        now_s = time.monotonic()
        # If locked, it may be waiting for room in the journal, which does not count as the poll's own time.
        due_s = now_s + _AGAIN_S if self._lock.locked() else self._due_s()
        if due_s <= now_s:
            process_threads().run(thread_name(self._collector), self._do_what_is_due)
        elif due_s < math.inf and not self._closed:
            process_clock().call_by(due_s, self._look)
            if self._closed:  # closed meanwhile
                process_clock().forget(self._look)

    def _due_s(self) -> float:
        group_s = self._since_s + GROUP_S if self._pages else math.inf
        return min(group_s, self._limit_s(), self._grace_end_s)

    def _limit_s(self) -> float:
        limit = self._collector.poll_timeout
        return math.inf if limit is None else self._begin_s + limit + self._held_up_s

    def _do_what_is_due(self) -> None:
        """Commit a group, or give up the poll."""
        with counted_for(self._collector.name), self._lock:
            if self._closed:
                return
            error: BaseException | None = self._why_give_up()
            if self._pages and (error is not None or time.monotonic() >= self._since_s + GROUP_S):
                error = self._failed_commit() or error
            self._closed = error is not None
        if error is None:
            self._look()
        else:
            self._import_call.cancel()
            self._tell(error)

    def _why_give_up(self) -> PollError | None:
        now_s = time.monotonic()
        if now_s >= self._limit_s():
            return PollError(
                f"took longer than its poll_timeout of {self._collector.poll_timeout} s; "
                "what it yields from now on is dropped"
            )
        if now_s >= self._grace_end_s:
            return PollError(
                "was still running when the process had to end; the next start continues from its last state"
            )
        return None

    def _take(self, parts: Sequence[Frame | Refused]) -> bool:
        """Take a page; return False if the poll has been given up.

        All parts of a page are journalled together: the state is already that after the page.
        """
        reached = _as_json(self._state)
        if self._taken_s - self._counted_s > _COUNT_S:
            self._counted_s = self._taken_s
            count(self._collector.name)
        with self._lock:
            if self._closed:
                return False
            if parts:
                if not self._pages:
                    self._since_s = time.monotonic()
                    process_clock().call_by(self._since_s + GROUP_S, self._look)
                self._pages += parts
                self._size_bytes += sum(part.nbytes for part in parts)
            self._reached = reached
            if self._size_bytes >= GROUP_BYTES or self._is_costly():
                self._commit()
            self._taken_s = time.monotonic()
            return True

    def _import_ended(self, error: BaseException | None) -> None:
        try:
            count(self._collector.name)
            if error is None:
                self._take(())
        except BaseException as failure:  # noqa: BLE001 - it becomes the poll's outcome
            error = failure
        with self._lock:
            self._is_importing = False
            if self._closed:
                return
            failed_commit = self._failed_commit()
            self._closed = True
        self._tell(error or failed_commit)

    def _tell(self, error: BaseException | None) -> None:
        process_clock().forget(self._look)
        self._span.set(rows=self._rows, frames=self._frames)
        self._span.end(error)
        try:
            self._on_end(Outcome(self._rows, error))
        finally:
            self._over.set()

    def _failed_commit(self) -> BaseException | None:
        try:
            self._commit()
        except BaseException as error:  # noqa: BLE001 - it becomes the poll's outcome
            return error
        return None

    def _is_costly(self) -> bool:
        """Whether a page took a call to an API that lasts longer than the commit of the page."""
        return self._commits_each_page and time.monotonic() - self._taken_s >= self._commit_s / 2

    def _commit(self) -> None:
        """Journal the group; after an error the group is dropped, and the state is reset to the one before it."""
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
        self._frames += len(pages)

    def _append(self, pages: list[Frame | Refused], cursor: dict[str, Any] | None) -> None:
        while True:
            try:
                with self._span.current():
                    self._journal.append(pages, cursor=cursor, timeout_s=_ROOM_S)
            except BacklogFullError:
                if self._stopping.is_set():
                    raise
            else:
                return


def _as_json(state: dict[str, Any]) -> str:
    if not state:
        return "{}"
    try:
        return json.dumps(state)
    except (TypeError, ValueError) as error:
        raise PollError(
            f"state holds what JSON can't: {error}; keep only texts, numbers, lists and dicts in it"
        ) from error
