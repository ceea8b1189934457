"""Stores, each at its own seconds in a thread of its own, so that none waits for another or for a poll."""

import logging
import threading
from collections.abc import Callable

from api2db.ingest._collector import PeriodicStore
from api2db.ingest._failure_log import FailureLog
from api2db.ingest._ticker import Ticker
from api2db.ingest.error_text import describe_error

logger = logging.getLogger("api2db.ingest")


class StoreClock:
    """Runs one store at its seconds until the process stops; a run that fails is logged, counted and tried again."""

    def __init__(self, name: str, store: PeriodicStore, stopping: threading.Event, on_fail: Callable[[], None]) -> None:
        self._store = store
        self._stopping = stopping
        self._on_fail = on_fail
        self._failure_log = FailureLog(
            f"the store {type(store).__name__} of {name}", f"it is tried again in {store.seconds:g} s"
        )
        self._thread = threading.Thread(target=self._run, name=f"api2db-store-{name}", daemon=True)
        if store.seconds > 0:
            self._thread.start()

    def stop(self, timeout_s: float | None) -> None:
        """Wait for a run that has begun, after telling it to end where it can be told; the next run goes on with it."""
        if self._thread.ident is not None:
            stop = getattr(self._store, "stop", None)
            if callable(stop):
                stop(0)
            self._thread.join(timeout_s)

    def _run(self) -> None:
        ticker = Ticker(self._store.seconds)
        while not self._stopping.wait(ticker.remaining_s()):
            ticker.passed()
            try:
                self._store.store()
            except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge of a worker's loop: told, and tried again
                if self._stopping.is_set():
                    logger.info(
                        "a store has ended before its time, and goes on in the next run: %s", describe_error(error)
                    )
                    return
                self._failure_log.failed(describe_error(error))
                self._on_fail()
            else:
                self._failure_log.went_well()
