"""The worker of a stream: started, watched and stopped in this process."""

import logging
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import Any

from api2db.delivery import Group, Task, Worker, process_scheduler
from api2db.errors import Api2dbError, ConfigurationError, JournalError, StreamDiedError
from api2db.journal import AttachedStream
from api2db.stream._attachment import Attachment
from api2db.texts import redact

logger = logging.getLogger(__name__)
_GLANCE_S = 0.1


class Running:
    """The worker of a stream, from its start to its end.

    Args:
        attachment: The stream's end of the journal.
        lock: Held while a worker is running.
        prepare: Makes a target, and returns the function that makes the worker; raises if the stream can't run.
        begun: Called when a worker has been started.
        describe: Names the stream in messages.
    """

    def __init__(
        self,
        attachment: Attachment,
        lock: threading.Lock,
        prepare: Callable[[], Callable[[AttachedStream], Worker]],
        begun: Callable[[], None],
        describe: Callable[[], str],
    ) -> None:
        self._attachment = attachment
        self._lock = lock
        self._prepare = prepare
        self._begun = begun
        self._describe = describe
        self._worker: Worker | None = None
        self._task: Task | None = None
        self._thread: threading.Thread | None = None  # The thread of ``run_here``.
        self._over = threading.Event()  # Whether the worker has ended; each worker has its own.
        self._death: BaseException | None = None

    @property
    def is_alive(self) -> bool:
        """Whether a worker is running."""
        return self._worker is not None and self._lock.locked()

    @property
    def connected(self) -> bool | None:
        """Whether the last attempt reached the target; None before the first."""
        worker = self._worker
        return None if worker is None else worker.connected

    def start(self, group: Group, thread_name: str) -> None:
        """Start the worker; do nothing if it is running, and wait for the end of one that is stopping.

        Args:
            group: The streams that share the target.
            thread_name: The name of a thread while it works for the stream.
        """
        self._attachment.check_process()
        while (stopping := self._start(group, thread_name)) is not None:
            stopping.wait()

    def _start(self, group: Group, thread_name: str) -> threading.Event | None:
        """Start the worker unless one is running; if that one is stopping, return what is set at its end."""
        with self._attachment.lock:
            if self.is_alive:
                return self._over if self._is_stopping_elsewhere() else None
            worker = self._begin()
            self._thread = None
            self._task = Task(worker, group, thread_name, self._ended)
            process_scheduler().add(self._task)
        self._begun()
        return None

    def _is_stopping_elsewhere(self) -> bool:
        """Whether a worker is stopping. One that calls this itself could not wait for its own end."""
        working = self._task.thread if self._task is not None else self._thread
        return self._worker is not None and self._worker.is_stopping and working is not threading.current_thread()

    def run_here(self) -> None:
        """Run the worker in this thread until it is stopped.

        Raises:
            StreamDiedError: It stopped with an error.
        """
        self._attachment.check_process()
        with self._attachment.lock:
            worker = self._begin()
            self._task, self._thread = None, threading.current_thread()
        self._begun()
        try:
            worker.run()
        except BaseException as error:  # noqa: BLE001 - the next put tells what ended the worker
            self._ended(error)
        else:
            self._ended(None)
        self.check_alive()

    def stop(self, timeout_s: float | None) -> None:
        """Stop the worker after its current batch, and release the journal."""
        self._attachment.check_process()
        with self._attachment.lock:
            worker, task, thread = self._worker, self._task, self._thread
        if worker is not None:
            worker.stop()
        if task is not None and task.thread is not threading.current_thread():
            task.join(timeout_s)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)
        self._release(worker)

    def _release(self, worker: Worker | None) -> None:
        """Release the journal, unless the worker goes on or another one was started."""
        with self._attachment.lock:
            if not self.is_alive and self._worker is worker:
                self._worker = self._task = self._thread = None
                self._attachment.release()

    def flush(self, timeout_s: float | None) -> bool:
        """Wait until everything put so far is delivered; return whether it is.

        Raises:
            StreamDiedError: The worker has stopped with an error.
            ConfigurationError: Frames wait, no worker is running, and there is no timeout.
        """
        mark = self._attachment.attach().mark()
        worker = self._worker
        with nullcontext() if worker is None else worker.hurrying():
            return self._wait_for(mark, None if timeout_s is None else time.monotonic() + timeout_s)

    def deliver(self, put: Callable[[], Any], retries: int | None) -> None:
        """Put, and wait until what was put is delivered or parked.

        Args:
            put: Puts a frame.
            retries: How often a batch is retried meanwhile before it is parked; None for the usual number.

        Raises:
            StreamDiedError: The worker has stopped with an error.
            ConfigurationError: The stream was stopped meanwhile.
        """
        worker = self._worker
        with ExitStack() as within:
            if worker is not None:
                within.enter_context(worker.hurrying())
            if worker is not None and retries is not None:
                within.enter_context(worker.retrying(max(0, retries)))
            put()
            self._wait_for(self._attachment.attach().mark(), None, _has_parked)

    def _wait_for(
        self, mark: int, deadline: float | None, is_enough: Callable[[AttachedStream], bool] = lambda _: False
    ) -> bool:
        """Wait until everything before a mark is delivered, also by a worker that is started meanwhile.

        Args:
            mark: Where to wait for.
            deadline: When to give up, by ``time.monotonic``; None for never, as long as a worker is running.
            is_enough: Ends the wait.

        Returns:
            Whether it is delivered.
        """
        while True:
            was_running = self._lock.locked()
            pause_s = _GLANCE_S if deadline is None else max(0.0, min(_GLANCE_S, deadline - time.monotonic()))
            reader = self._attachment.reader
            if reader is None:  # The stream was stopped. Look for another start, without opening the journal.
                time.sleep(pause_s)
            elif reader.wait_for(mark, pause_s):
                return True
            self.check_alive()
            if reader is not None and is_enough(reader):
                return False
            task = self._task
            if task is not None:
                # An interrupt may have come between a put and its notification of the worker.
                process_scheduler().call(task)
            if deadline is None and not was_running and not self._lock.locked():
                raise ConfigurationError(f"{self._describe()} is not running, so nothing is delivered; start it first")
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def retry_now(self) -> None:
        """Have the worker try again now, instead of after its pause."""
        self._attachment.check_process()
        worker = self._worker
        if worker is not None:
            worker.retry_now()

    def check_alive(self) -> None:
        """Raise StreamDiedError if the worker has stopped with an error."""
        if self._death is not None:
            raise StreamDiedError(
                f"{self._describe()} has stopped ({redact(str(self._death))}); fix that, then start it again"
            ) from self._death

    def _begin(self) -> Worker:
        build = self._prepare()
        reader = self._attachment.attach()
        if not self._lock.acquire(blocking=False):
            raise ConfigurationError(f"{self._describe()} is already running")
        try:
            self._death = None
            self._over = threading.Event()
            self._worker = build(reader)
            return self._worker
        except BaseException:
            self._lock.release()
            raise

    def _ended(self, error: BaseException | None) -> None:
        try:
            if error is not None:
                self._death = error
                self._tell_of_death(error)
        finally:
            over, worker = self._over, self._worker
            self._lock.release()
            over.set()
        if worker is not None and worker.is_stopping:  # ``stop`` may not have waited long enough to do this
            self._release(worker)

    def _tell_of_death(self, error: BaseException) -> None:
        """Log and record the error; an unexpected one is logged with its traceback."""
        where = "" if isinstance(error, Api2dbError) else f"\n{''.join(traceback.format_exception(error)).rstrip()}"
        said = str(error) or type(error).__name__
        logger.error("%s has stopped; its frames stay in the journal: %s", self._describe(), redact(f"{said}{where}"))
        reader = self._attachment.reader
        if reader is not None:
            reader.set_error(f"stopped: {redact(said)}")


def _has_parked(reader: AttachedStream) -> bool:
    """Whether a batch is parked. A reader whose journal was released meanwhile does not know."""
    try:
        return reader.checkpoint("parked") is not None
    except JournalError:
        return False
