"""A run in a thread of this process, until it is stopped or the interpreter ends."""

import logging
import threading
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from api2db.app._stopping import Stop
from api2db.errors import ConfigurationError
from api2db.texts import describe_error

Key = tuple[Path, str]
"""A collector by its project's folder and its name."""

logger = logging.getLogger("api2db.app")
_GLANCE_S: Final = 0.1
_under_way: "dict[Key, Background]" = {}
_lock = threading.Lock()


class Background:
    """Runs collectors in a thread.

    The thread is no daemon: at the end of the interpreter it takes the end of the main thread for a request to stop,
    and the interpreter waits for it.

    Args:
        keys: The collectors.
        run: Runs them until the stop is requested; calls the function that it is given once they have begun.
        stop: The request to stop.
    """

    def __init__(self, keys: Collection[Key], run: Callable[[Callable[[], None]], None], stop: Stop) -> None:
        self._keys = tuple(keys)
        self._run = run
        self._stop = stop
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="api2db-run")

    @property
    def error(self) -> BaseException | None:
        """What has ended it before a stop was requested; None if nothing has."""
        return self._error

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self._ended.is_set()

    def start(self) -> None:
        """Start it, and wait until its collectors have begun.

        Raises:
            ConfigurationError: A run that was started in this process has one of them; or as the run raises.
            JournalBusyError: As the run raises.
        """
        with _lock:
            check_free(self._keys)
            _under_way.update(dict.fromkeys(self._keys, self))
        try:
            self._thread.start()
            self._begun.wait()
        except BaseException:  # a Ctrl-C leaves nothing behind
            self._stop.request()
            self.join()
            raise
        if self._error is not None and not self.is_alive:
            self._thread.join()
            raise self._error

    def stop(self) -> None:
        """Request the stop, and wait for the end; a call from the run's own thread does not wait.

        Raises:
            BaseException: What has ended the run before.
        """
        self._stop.request()
        self.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def join(self) -> None:
        """Wait for the end."""
        if self._thread is not threading.current_thread() and self._thread.ident is not None:
            self._thread.join()
        self._forget()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end, at most this long; return whether it has ended."""
        return self._ended.wait(timeout_s)

    def _work(self) -> None:
        try:
            self._run(self._begun.set)
        except BaseException as error:  # noqa: BLE001 - start or stop raises it
            self._error = error
            if self._begun.is_set():  # logged too: nobody may ever call stop
                logger.error("the run has ended: %s", describe_error(error))  # noqa: TRY400 - stop raises it
        finally:
            self._forget()
            self._ended.set()
            self._begun.set()

    def _forget(self) -> None:
        with _lock:
            for key in self._keys:
                if _under_way.get(key) is self:
                    del _under_way[key]


def check_free(keys: Collection[Key]) -> None:
    """Check that no run that was started in this process has one of these collectors.

    Raises:
        ConfigurationError: One has.
    """
    if taken := sorted(name for key in keys if key in _under_way for _, name in [key]):
        raise ConfigurationError(
            f"a run of {', '.join(taken)} was started in this process and is still going; call stop() first"
        )


def under_way(keys: Collection[Key]) -> list[Background]:
    """Return the runs that were started in this process and have one of these collectors."""
    with _lock:
        return list(dict.fromkeys(_under_way[key] for key in keys if key in _under_way))
