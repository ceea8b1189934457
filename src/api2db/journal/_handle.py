"""One open journal a collector and process, shared by its streams and closed behind the last."""

import os
import threading
from dataclasses import dataclass
from pathlib import Path

from api2db.errors import ConfigurationError
from api2db.journal._housekeeping import House, housekeeper
from api2db.journal._journal import SegmentedJournal
from api2db.journal.port import Durability


@dataclass(slots=True)
class _Shared:
    journal: SegmentedJournal
    house: House
    users: int = 0

    def close(self) -> None:
        housekeeper().leave(self.house)
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
            journal = SegmentedJournal(key[1], name, durability)
            shared = _registry.open[key] = _Shared(journal, housekeeper().look_after(journal.core))
        elif shared.journal.core.durability != durability:
            message = (
                f"the journal of {name} is open with durability={shared.journal.core.durability!r}; "
                "give all streams of one collector the same"
            )
            raise ConfigurationError(message)
        shared.users += 1
        return JournalHandle(shared.journal, key)
