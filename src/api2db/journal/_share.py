"""One open journal a collector and process, shared by its streams and closed behind the last."""

import logging
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from api2db.errors import Api2dbError, ConfigurationError
from api2db.journal._inbox import answer_requests
from api2db.journal._log import SegmentedJournal
from api2db.journal._overview import describe, publish
from api2db.journal.port import Durability

_log = logging.getLogger(__name__)
_HOUSEKEEPING_S = 0.25


@dataclass(slots=True)
class _Shared:
    journal: SegmentedJournal
    users: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


_open: dict[tuple[int, Path, str], _Shared] = {}
_lock = threading.Lock()


class Lease:
    """A use of a shared journal, until ``release``."""

    def __init__(self, journal: SegmentedJournal, key: tuple[int, Path, str]) -> None:
        self.journal = journal
        self._key: tuple[int, Path, str] | None = key

    def release(self) -> None:
        """Give the journal back; the last user closes it."""
        key, self._key = self._key, None
        if key is None or key[0] != os.getpid():
            return
        with _lock:
            shared = _open[key]
            shared.users -= 1
            if shared.users:
                return
            del _open[key]
            shared.ended.set()
            shared.journal.close()


def share(home: Path, name: str, durability: Durability = "full") -> Lease:
    """The journal of a collector, opened by the first who asks in this process.

    Raises:
        ConfigurationError: It is open with another durability.
        JournalBusyError: Another process owns it.
    """
    key = (os.getpid(), home.resolve(), name)
    with _lock:
        shared = _open.get(key)
        if shared is None:
            shared = _open[key] = _Shared(SegmentedJournal(key[1], name, durability))
            threading.Thread(
                target=_keep_house, args=(shared, name), name=f"api2db-journal-{name}", daemon=True
            ).start()
        elif shared.journal.durability != durability:
            message = (
                f"the journal of {name} is open with durability={shared.journal.durability!r}; "
                "give all streams of one collector the same"
            )
            raise ConfigurationError(message)
        shared.users += 1
        return Lease(shared.journal, key)


def _keep_house(shared: _Shared, name: str) -> None:
    """Answer commands, and leave word for ``api2db status``, until the journal is closed."""
    folder = shared.journal.folder
    while True:
        try:
            answer_requests(folder, shared.journal.answers)
            publish(folder, describe(shared.journal, name))
        except (OSError, Api2dbError) as error:
            _log.debug("housekeeping of %s: %s", folder, error)
        if shared.ended.wait(_HOUSEKEEPING_S):
            return
