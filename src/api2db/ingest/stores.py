"""Runs the stores of a collector, each at its own interval and in its own thread, so that none delays another."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from api2db.ingest._clock import Ticker, process_clock
from api2db.ingest._collector import PeriodicStore
from api2db.ingest._failure_log import FailureLog
from api2db.ingest._threads import process_threads
from api2db.texts import describe_error

logger = logging.getLogger("api2db.ingest")


class StoreRounds:
    """Runs one store at its interval until the process stops; a round that fails is logged, counted and tried again.

    Args:
        name: The collector's name.
        store: What to run.
        stopping: Set when the process ends, before ``stop`` is called.
        on_fail: Called after a round that failed.
    """

    def __init__(self, name: str, store: PeriodicStore, stopping: threading.Event, on_fail: Callable[[], None]) -> None:
        self._thread_name = f"api2db-store-{name}"
        self._store = store
        self._stopping = stopping
        self._on_fail = on_fail
        self._failure_log = FailureLog(
            f"the store {type(store).__name__} of {name}", f"it is tried again in {store.seconds:g} s"
        )
        self._lock = threading.Lock()
        self._round: Future[None] | None = None
        if store.seconds > 0:
            self._ticker = Ticker(store.seconds)
            self._wait_for_tick()

    def stop(self, timeout_s: float | None) -> None:
        """Tell the store to stop, if it can, and wait for its round; the next run finishes an interrupted one."""
        if self._store.seconds <= 0:
            return
        stop = getattr(self._store, "stop", None)
        if callable(stop):
            stop(0)
        with self._lock:
            process_clock().forget(self._begin_round)
            begun = self._round
        if begun is not None:
            wait([begun], timeout_s)

    def _wait_for_tick(self) -> None:
        with self._lock:
            if not self._stopping.is_set():
                process_clock().call_by(self._ticker.next_s, self._begin_round)

    def _begin_round(self) -> None:
        """Start a round in a thread. The clock calls this."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._ticker.passed()
            try:
                self._round = process_threads().submit(self._thread_name, self._run_round)
                return
            except RuntimeError as error:
                failure = error
        self._failed(failure)
        self._wait_for_tick()

    def _run_round(self) -> None:
        try:
            self._store.store()
        except BaseException as error:  # noqa: BLE001 - the edge of a worker's loop: told, and tried again
            if self._stopping.is_set():
                logger.info("a store was interrupted, and continues in the next run: %s", describe_error(error))
                return
            self._failed(error)
        else:
            self._failure_log.went_well()
        self._wait_for_tick()

    def _failed(self, error: BaseException) -> None:
        self._failure_log.failed(describe_error(error))
        self._on_fail()
