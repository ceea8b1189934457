"""One open journal a collector and process, shared by its streams and closed behind the last."""

import logging
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from api2db.errors import ConfigurationError
from api2db.journal._control import serve_requests
from api2db.journal._journal import SegmentedJournal
from api2db.journal._overview import StreamOverview, describe, publish
from api2db.journal.port import Durability

logger = logging.getLogger(__name__)
_HOUSEKEEPING_S = 0.25
_REPEAT_S = 2.0


@dataclass(slots=True)
class _Shared:
    journal: SegmentedJournal
    users: int = 0
    ended: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def begin(self, name: str) -> None:
        self.thread = threading.Thread(
            target=_keep_house, args=(self, name), name=f"api2db-journal-{name}", daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        self.ended.set()
        if self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join()
        self.journal.close()


class _Registry:
    """The open journals of this process; a forked child has none of them."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: dict[tuple[int, Path, str], _Shared] = {}

    def after_fork(self) -> None:
        """Another thread may have held the lock when the process was forked."""
        self.lock = threading.Lock()


_registry = _Registry()
os.register_at_fork(after_in_child=_registry.after_fork)


class JournalHandle:
    """A use of a shared journal, until ``release``."""

    def __init__(self, journal: SegmentedJournal, key: tuple[int, Path, str]) -> None:
        self.journal = journal
        self._key: tuple[int, Path, str] | None = key

    def release(self) -> None:
        """Give the journal back; the last user closes it; a second call, or a forked child's, does nothing.

        Raises:
            JournalWriteError: What was put could not be made durable; the journal is closed all the same.
        """
        with _registry.lock:
            key, self._key = self._key, None
            if key is None or key[0] != os.getpid():
                return
            shared = _registry.open[key]
            shared.users -= 1
            if not shared.users:
                del _registry.open[key]
                shared.close()


def open_shared(home: Path, name: str, durability: Durability = "full") -> JournalHandle:
    """The journal of a collector, opened by the first who asks in this process.

    Raises:
        ConfigurationError: It is open with another durability.
        JournalBusyError: Another process owns it.
        JournalError: A disk error stands in the way, or a newer version has written here.
    """
    key = (os.getpid(), home.resolve(), name)
    with _registry.lock:
        shared = _registry.open.get(key)
        if shared is None:
            shared = _registry.open[key] = _Shared(SegmentedJournal(key[1], name, durability))
            shared.begin(name)
        elif shared.journal.durability != durability:
            message = (
                f"the journal of {name} is open with durability={shared.journal.durability!r}; "
                "give all streams of one collector the same"
            )
            raise ConfigurationError(message)
        shared.users += 1
        return JournalHandle(shared.journal, key)


def _keep_house(shared: _Shared, name: str) -> None:
    """Answer commands, and leave word for ``api2db status``, until the journal is closed."""
    folder = shared.journal.folder
    said: list[StreamOverview] = []
    said_at = 0.0
    troubled = False
    while True:
        try:
            serve_requests(folder, shared.journal.answers)
            streams = describe(shared.journal, name)
            if streams != said or time.monotonic() - said_at > _REPEAT_S:
                publish(folder, streams)
                said, said_at = streams, time.monotonic()
            troubled = False
        except Exception as error:  # noqa: BLE001 - this thread serves those who look; the journal does without it
            if not troubled:
                _tell_of(error, folder)
            troubled = True
        if shared.ended.wait(_HOUSEKEEPING_S):
            return


def _tell_of(error: Exception, folder: Path) -> None:
    """A disk's own error says itself what to do; any other is shown with where it happened."""
    message = "housekeeping of %s has failed (%s), and is tried again; api2db status may show older figures meanwhile"
    logger.warning(message, folder, error, exc_info=not isinstance(error, OSError))
