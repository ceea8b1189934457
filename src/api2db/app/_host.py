"""Runs collectors in this process."""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from api2db.app._stopping import Stop, restart_pauses
from api2db.backoff import BackOff
from api2db.errors import Api2dbError, JournalBusyError, PollError, StreamDiedError, TargetUnavailableError
from api2db.ingest import Collector, Runner, home_of_collector
from api2db.journal import journal_store
from api2db.texts import describe_error
from api2db.tracing import log_fields

DRAIN_S: Final = 8.0
_BUSY_S: Final = 3.0
_WATCH_S: Final = 0.5
_GLANCE_S: Final = 0.05
_STOP_S: Final = 1.0
logger = logging.getLogger("api2db.app")


class Host:
    """Runs collectors in this process until it is asked to stop.

    Args:
        collectors: The collectors of this process.
    """

    def __init__(self, collectors: Sequence[Collector]) -> None:
        self._runners = [Runner(collector) for collector in collectors]
        self._back_offs: dict[int, BackOff] = {}
        self._dead: set[int] = set()

    def start(self, *, polling: bool = True) -> None:
        """Start all collectors, or none if one can't be started.

        Raises:
            ConfigurationError: One can't be started as it is written.
            JournalBusyError: Another process runs one of them.
        """
        try:
            for runner in self._runners:
                runner.start(polling=polling)
        except BaseException:
            self.drain(0)
            raise

    def watch(self, stop: Stop) -> None:
        """Restart streams that die, until a stop is requested or nothing is left to do."""
        while not stop.wait(_WATCH_S) and not all(runner.done for runner in self._runners):
            self.look_after()

    def look_after(self) -> None:
        """Restart streams that have died."""
        for runner in self._runners:
            for stream in runner.streams:
                with log_fields(collector=runner.collector.name, stream=getattr(stream, "identity", "")):
                    self._keep_alive(stream)

    def poll_once(self, stop: Stop) -> list[PollError]:
        """Poll each collector once, concurrently; return the errors. A stop request ends it early."""
        polls = [runner.begin_poll() for runner in self._runners]
        while not all(poll.done() for poll in polls):
            if stop.wait(_GLANCE_S):  # no call waits for polls and for a signal at once
                self._end_polls()
                break
        errors = [poll.exception() for poll in polls if poll.done()]
        return [error for error in errors if isinstance(error, PollError)]

    def _end_polls(self) -> None:
        deadline_s = time.monotonic() + DRAIN_S / 2
        for runner in self._runners:
            runner.stop_polling()
        for runner in self._runners:
            runner.stop_polling(max(0.0, deadline_s - time.monotonic()))

    def flush(self, timeout_s: float | None, stop: Stop) -> bool:
        """Wait until everything in the journals is delivered; False after the timeout or a stop request."""
        deadline_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        try:
            for runner in self._runners:
                while not runner.flush(max(0.0, min(_WATCH_S, deadline_s - time.monotonic()))):
                    if stop.requested or time.monotonic() >= deadline_s:
                        return False
        except StreamDiedError as error:
            logger.error("%s", describe_error(error))  # noqa: TRY400 - the stream has logged the traceback
            return False
        return True

    def drain(self, timeout_s: float = DRAIN_S) -> bool:
        """Stop polling, deliver what is possible within this time, and stop; the rest stays in the journal.

        After an error, too, all collectors are stopped and give their journals back.
        """
        deadline_s = time.monotonic() + timeout_s
        with ExitStack() as stack:
            for runner in reversed(self._runners):
                stack.callback(runner.stop, _STOP_S)
            for runner in self._runners:
                runner.stop_polling()
            for runner in self._runners:
                runner.stop_polling(max(0.0, deadline_s - time.monotonic()))
            return self.flush(max(0.0, deadline_s - time.monotonic()), Stop())

    def _keep_alive(self, stream: Any) -> None:
        """Restart a stream whose worker has died, which its free lock shows."""
        lock = getattr(stream, "lock", None)
        if lock is None or lock.locked():
            return
        back_off = self._back_offs.setdefault(id(stream), restart_pauses())
        if id(stream) not in self._dead:
            self._dead.add(id(stream))
            logger.error("the stream %s has died; it is restarted in %.2g s", stream.name, back_off.failed())
        elif back_off.due:
            self._start_again(stream, back_off)

    def _start_again(self, stream: Any, back_off: BackOff) -> None:
        try:
            stream.stop(_STOP_S)
            stream.start()
        except Exception as error:  # noqa: BLE001 - the edge of a worker's loop: recorded, and tried again
            logger.error("the stream %s can't be restarted: %s", stream.name, describe_error(error))  # noqa: TRY400 - tried again
            back_off.failed()
        else:
            self._dead.discard(id(stream))
            back_off.started()


def started(collectors: Sequence[Collector], stop: Stop, *, polling: bool = True) -> Host:
    """Start a host; wait a moment if another process is about to release the journals.

    Raises:
        ConfigurationError: A collector can't be started as it is written.
        JournalBusyError: Another process runs one of them and keeps running.
    """
    deadline_s = time.monotonic() + _BUSY_S
    while True:
        host = Host(collectors)
        try:
            host.start(polling=polling)
        except JournalBusyError:
            if time.monotonic() > deadline_s or stop.wait(0.2):
                raise
        else:
            return host


def wait_for_journals(collectors: Sequence[Collector], stop: Stop) -> None:
    """Wait a moment for a process that is about to release the journals, without starting anything.

    Raises:
        ConfigurationError: A collector and its streams have different homes.
        JournalBusyError: Another process runs one of them and keeps running.
    """
    deadline_s = time.monotonic() + _BUSY_S
    for collector in (found for found in collectors if found.seconds > 0 and not found.debug):
        _wait_for_journal(home_of_collector(collector), collector.name, stop, deadline_s)


def _wait_for_journal(home: Path, name: str, stop: Stop, deadline_s: float) -> None:
    while True:
        try:
            journal_store(home).check_free(name)
            return
        except JournalBusyError:
            if time.monotonic() > deadline_s:
                raise
        if stop.wait(_GLANCE_S):
            return


def failure(errors: Sequence[PollError], *, flushed: bool) -> Api2dbError | None:
    """Combine the errors of a run of one round."""
    late = "not everything could be delivered in time; the rest waits in the journal for the next run"
    said = [str(error) for error in errors] + ([] if flushed else [late])
    if not said:
        return None
    return PollError("; ".join(said)) if errors else TargetUnavailableError(late)
