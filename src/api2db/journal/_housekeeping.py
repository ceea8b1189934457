"""The housekeeper: one thread of a process that publishes the figures of its journals and answers requests.

It writes the figures of a journal when they have changed, and looks for requests when ``ask`` has recorded one. A
journal at rest costs nothing.
"""

import logging
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from api2db.journal._control import last_request_ns, serve_requests
from api2db.journal._core import Core
from api2db.journal._overview import describe, publish, publish_details, withdraw
from api2db.journal._removal import finish_removals
from api2db.journal.port import StreamOverview

logger = logging.getLogger(__name__)
_GLANCE_S: Final = 0.1  # between looks at the time of the last request, one file of each project
_PUBLISH_S: Final = 0.25  # the shortest time between two publications of one journal
_DETAILS_S: Final = 1.0  # the same for the details, which take longer to write
_ROUND_S: Final = 5.0  # between looks for requests in each journal, in case a request could not record its time


@dataclass(slots=True, eq=False)
class House:
    """What the housekeeper knows of one journal.

    Attributes:
        project: The folder of the project's journals.
        serving: Held while it is served; whoever closes the journal waits for that.
        changed: Whether its figures may have changed since they were published.
        has_details: Whether the details of its streams may have changed since they were published.
        details: What was published of them last; None if that is not known.
    """

    core: Core
    project: Path
    serving: threading.RLock = field(default_factory=threading.RLock)
    changed: bool = True
    gone: bool = False
    troubled: bool = False
    published: list[StreamOverview] | None = None
    published_s: float = 0.0
    has_details: bool = False
    details: dict[str, Any] | None = None
    details_s: float = 0.0

    def serve(self, *, requests: bool) -> None:
        """Answer requests, and publish the figures where they changed."""
        with self.serving:
            if self.gone:
                return
            try:
                self._serve(requests=requests)
                self.troubled = False
            except Exception as error:  # noqa: BLE001 - this serves those who look; the journal does without it
                self.changed = True
                self.published = None
                withdraw(self.core.folder)
                if not self.troubled:
                    _tell_of(error, self.core.folder)
                self.troubled = True

    def _serve(self, *, requests: bool) -> None:
        if requests:
            serve_requests(self.core.folder, self.core.answers)
            self._finish_removals()
        if self.changed and time.monotonic() - self.published_s >= _PUBLISH_S:
            self.changed = False  # before the look: what changes meanwhile is published next time
            self.published_s = time.monotonic()
            streams = describe(self.core)
            if streams != self.published:
                publish(self.core, streams)
                self.published = streams
                self.has_details = True
        if self.has_details and time.monotonic() - self.details_s >= _DETAILS_S:
            self.has_details = False
            self.details_s = time.monotonic()
            self.details = publish_details(self.core, self.details)

    def _finish_removals(self) -> None:
        if self.core.removals and not self.core.lock.is_lost:
            with self.core.changed:
                finish_removals(self.core)


class _Housekeeper:
    """Its thread lives while there are journals."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._houses: list[House] = []
        self._thread: threading.Thread | None = None

    def look_after(self, core: Core) -> House:
        """Serve a journal until ``leave``.

        Raises:
            RuntimeError: No thread can be started.
        """
        house = House(core, core.folder.parent)

        def changed() -> None:
            house.changed = True

        core.on_change = changed
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="api2db-housekeeper", daemon=True)
                thread.start()
                self._thread = thread
            self._houses = [*self._houses, house]
        return house

    def leave(self, house: House) -> None:
        """Stop serving a journal; wait until it is not being served, except by this thread."""
        with self._lock:
            self._houses = [other for other in self._houses if other is not house]
        with house.serving:
            house.gone = True
            if house.has_details or house.changed:
                with suppress(OSError):
                    publish_details(house.core, house.details)

    def _run(self) -> None:
        seen: dict[Path, int | None] = {}
        round_s = time.monotonic()
        while True:
            with self._lock:
                houses = self._houses
                if not houses:
                    self._thread = None
                    return
            if every := time.monotonic() - round_s >= _ROUND_S:
                round_s = time.monotonic()
            # Read the times first: a request that comes while the folders are read is found the next time.
            now = {folder: last_request_ns(folder) for folder in {house.project for house in houses}}
            asked = {folder for folder, time_ns in now.items() if every or seen.get(folder) != time_ns}
            for house in houses:
                requests = house.published is None or house.project in asked
                if requests or house.changed or house.has_details:
                    house.serve(requests=requests)
            seen = now
            time.sleep(_GLANCE_S)  # no call that all systems have waits for another process's file


_housekeepers: dict[int, _Housekeeper] = {}


def housekeeper() -> _Housekeeper:
    """Return the housekeeper of this process; a forked child has its own."""
    return _housekeepers.setdefault(os.getpid(), _Housekeeper())


def _tell_of(error: Exception, folder: Path) -> None:
    """A disk's own error says itself what to do; any other is shown with where it happened."""
    message = "housekeeping of %s has failed (%s), and is tried again; api2db status counts from the files meanwhile"
    logger.warning(message, folder, error, exc_info=not isinstance(error, OSError))
