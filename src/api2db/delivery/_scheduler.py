"""The scheduler that runs all workers of a process on a few threads; a worker occupies one only during a step.

Workers of a group share a target. Each group has a limit of concurrent steps. A target that hangs holds the threads of
its own group only: a step that takes long does not count against the limit of the process.

One thread, the keeper, exists while there are workers. It watches the clock and starts the other threads, which end
after some idle seconds. When the interpreter exits, no thread can be started, so the keeper runs steps itself.

A signal may interrupt a producer anywhere, so producers only append to the inbox. These threads change everything else.
"""

import heapq
import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal

from api2db.delivery._worker import Worker

logger = logging.getLogger(__name__)
AT_ONCE: Final = 8
_MOST_THREADS = 16
# A step that takes longer waits for its target rather than for the processor.
_LONG_STEP_S = 0.5
_IDLE_S = 3.0


@dataclass(frozen=True, slots=True)
class Group:
    """Workers with the same target.

    Attributes:
        key: Equal for workers of one group.
        at_once: The most concurrent steps; the highest number counts if workers differ.
    """

    key: Hashable
    at_once: int = AT_ONCE


class Task:
    """A worker that a scheduler runs until the worker is stopped or raises.

    Args:
        worker: Performs the steps.
        group: The workers that share its target.
        name: The name of the thread during a step.
        on_end: Called after the last step with the exception that it raised, if any.
    """

    def __init__(self, worker: Worker, group: Group, name: str, on_end: Callable[[BaseException | None], None]) -> None:
        self.worker = worker
        self.group = group
        self.name = name
        self.on_end = on_end
        self.state: Literal["new", "idle", "ready", "running", "delayed", "ended"] = "new"
        self.due_s = 0.0
        self.is_called = self.is_called_now = False
        self.thread: threading.Thread | None = None
        self._ended = threading.Event()

    @property
    def has_ended(self) -> bool:
        """Whether ``on_end`` has returned."""
        return self._ended.is_set()

    def join(self, timeout_s: float | None) -> None:
        """Wait for the end, after the worker was told to stop."""
        self._ended.wait(timeout_s)

    def end(self, error: BaseException | None) -> None:
        """Close the worker, and call ``on_end``."""
        try:
            self.worker.close()
        finally:
            try:
                self.on_end(error)
            finally:
                self._ended.set()


@dataclass(slots=True)
class _Members:
    """The tasks of a group."""

    tasks: set[Task] = field(default_factory=set)
    at_once: int = 0
    running: int = 0

    def count(self) -> None:
        self.at_once = max((task.group.at_once for task in self.tasks), default=0)


class Scheduler:
    """Runs the tasks of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # idle threads wait here
        self._watch = threading.Condition(self._lock)  # the keeper waits here
        self._inbox: deque[tuple[Task, bool]] = deque()
        self._groups: dict[Hashable, _Members] = {}
        self._ready: dict[Task, None] = {}
        self._delayed: list[tuple[float, int, Task]] = []
        self._numbers = itertools.count()
        self._busy: dict[Task, float] = {}
        self._idle = 0
        self._serving = 0
        self._keeper: threading.Thread | None = None
        self._can_start = True

    def add(self, task: Task) -> None:
        """Run a task from now on.

        If this raises, the task has ended, or is stopping.

        Raises:
            RuntimeError: No thread can be started; the interpreter may be exiting.
        """
        task.worker.call_when_ready(lambda: self.call(task), lambda: self.call(task, now=True))
        try:
            with self._lock:
                self._see_to_keeper()
                self._inbox.append((task, False))
                self._watch.notify()
        except BaseException:
            self._withdraw(task)
            raise

    def _withdraw(self, task: Task) -> None:
        """End a task that no thread has seen; stop another one."""
        with self._lock:
            is_unseen = task.state == "new"
            if is_unseen:
                task.state = "ended"
        if is_unseen:
            task.end(None)
        else:
            task.worker.stop()

    def call(self, task: Task, *, now: bool = False) -> None:
        """Schedule a step, unless the task waits for its next attempt; with ``now`` even then."""
        if task.state == "ended":
            return
        self._inbox.append((task, now))
        with self._lock:
            with suppress(RuntimeError):  # without a keeper the next call tries again
                self._see_to_keeper()
            (self._work if self._idle else self._watch).notify()

    def _see_to_keeper(self) -> None:
        if self._keeper is None:
            keeper = threading.Thread(target=self._keep, name="api2db-delivery", daemon=True)
            keeper.start()
            self._keeper = keeper

    def _keep(self) -> None:
        """The keeper's loop."""
        while True:
            with self._lock:
                task = self._wait_for_start()
                if task is None:
                    self._keeper = None
                    return
            thread = threading.Thread(target=self._serve, args=(task,), name="api2db-delivery", daemon=True)
            try:
                thread.start()
                self._can_start = True
            except RuntimeError:  # the interpreter exits, or the system has no more threads
                self._can_start = False
                with self._lock:
                    self._serving -= 1
                self._run(task)

    def _wait_for_start(self) -> Task | None:
        """Wait for a task that needs a new thread; None if no task is left."""
        while True:
            self._sort()
            if not self._groups:
                return None
            if self._idle and self._can_start:
                if self._next() is not None:
                    self._work.notify()
            elif self._may_start() and (task := self._take()) is not None:
                self._serving += 1
                return task
            self._watch.wait(self._until_next_s())

    def _serve(self, task: Task | None) -> None:
        """The loop of all other threads."""
        while task is not None:
            self._run(task)
            with self._lock:
                task = self._take() or self._wait_for_work()
                if task is None:
                    self._serving -= 1

    def _wait_for_work(self) -> Task | None:
        """Wait for a task; None after some idle seconds. If no thread can start, none ends; all watch the clock."""
        while True:
            until_s = None if self._can_start else self._until_next_s()
            self._idle += 1
            try:
                called = self._work.wait(_IDLE_S if until_s is None else min(_IDLE_S, until_s))
            finally:
                self._idle -= 1
            task = self._take()
            if task is not None or (not called and self._can_start):
                return task

    def _take(self) -> Task | None:
        """The next task to run. The lock is held here and in all methods below except ``_run`` and ``_end``."""
        self._sort()
        task = self._next()
        if task is not None:
            del self._ready[task]
            self._groups[task.group.key].running += 1
            self._busy[task] = time.monotonic()
            task.state, task.is_called, task.is_called_now = "running", False, False
            if self._next() is not None:
                (self._work if self._idle else self._watch).notify()
        elif self._ready:
            self._watch.notify()  # the keeper makes room once a step is long
        return task

    def _next(self) -> Task | None:
        has_room = self._has_room()
        for task in self._ready:
            members = self._groups[task.group.key]
            if task.worker.is_stopping or (has_room and members.running < members.at_once):
                return task
        return None

    def _has_room(self) -> bool:
        return len(self._busy) - self._long_steps() < _MOST_THREADS

    def _may_start(self) -> bool:
        """Whether the limit allows another thread; threads between two steps count too."""
        return self._serving - self._long_steps() < _MOST_THREADS or not self._can_start

    def _long_steps(self) -> int:
        since_s = time.monotonic() - _LONG_STEP_S
        return sum(begun_s <= since_s for begun_s in self._busy.values())

    def _sort(self) -> None:
        """Read the inbox and the clock."""
        while self._inbox:
            task, now = self._inbox.popleft()
            if task.state == "new":  # not a task that was withdrawn
                members = self._groups.setdefault(task.group.key, _Members())
                members.tasks.add(task)
                members.count()
            if task.state == "running":
                task.is_called, task.is_called_now = True, task.is_called_now or now
            elif task.state in {"new", "idle"} or (task.state == "delayed" and now):
                self._make_ready(task)
        while self._delayed and self._delayed[0][0] <= time.monotonic():
            due_s, _, task = heapq.heappop(self._delayed)
            if task.state == "delayed" and task.due_s == due_s:
                self._make_ready(task)

    def _make_ready(self, task: Task) -> None:
        task.state = "ready"
        self._ready[task] = None

    def _until_next_s(self) -> float | None:
        """How many seconds the keeper may sleep."""
        now_s = time.monotonic()
        times = [self._delayed[0][0]] if self._delayed else []
        if self._ready and not self._has_room():
            times += [begun_s + _LONG_STEP_S for begun_s in self._busy.values() if begun_s + _LONG_STEP_S > now_s]
        return max(0.0, min(times) - now_s) if times else None

    def _run(self, task: Task) -> None:
        """Run one step, and schedule the next one."""
        thread = threading.current_thread()
        own_name, thread.name = thread.name, task.name
        task.thread = thread
        wait_s: float | None = None
        error: BaseException | None = None
        try:
            if not task.worker.is_stopping:
                wait_s = task.worker.step()
        except BaseException as raised:  # noqa: BLE001 - on_end gets whatever ended the worker
            error = raised
        if error is not None or not self._schedule_next(task, wait_s):
            self._end(task, error)
        thread.name = own_name

    def _schedule_next(self, task: Task, wait_s: float | None) -> bool:
        """Schedule the task's next step; False if there is none."""
        with self._lock:
            self._sort()
            if task.worker.is_stopping:
                return False
            task.thread = None
            self._leave_thread(task)
            if wait_s == 0 or task.is_called_now or (wait_s is None and task.is_called):
                self._make_ready(task)
            elif wait_s is None:
                task.state = "idle"
            else:
                task.state, task.due_s = "delayed", time.monotonic() + wait_s
                heapq.heappush(self._delayed, (task.due_s, next(self._numbers), task))
                if self._delayed[0][2] is task:
                    self._watch.notify()
            return True

    def _end(self, task: Task, error: BaseException | None) -> None:
        try:
            task.end(error)
        except Exception:  # the task has ended nevertheless, and must leave its group
            logger.exception("on_end of %s failed", task.name)
        with self._lock:
            task.state = "ended"
            self._leave_thread(task)
            members = self._groups[task.group.key]
            members.tasks.discard(task)
            members.count()
            if not members.tasks:
                del self._groups[task.group.key]
            self._watch.notify()

    def _leave_thread(self, task: Task) -> None:
        self._groups[task.group.key].running -= 1
        del self._busy[task]


_schedulers: dict[int, Scheduler] = {}


def process_scheduler() -> Scheduler:
    """The scheduler of this process; a forked child gets its own."""
    return _schedulers.setdefault(os.getpid(), Scheduler())
