"""What is done for an open journal from time to time: positions are saved, what is delivered is removed."""

import time
from typing import Final

from api2db.cluster._aside import Removals
from api2db.cluster._connection import Message
from api2db.cluster._core import Core
from api2db.cluster._documents import packed, unpacked
from api2db.cluster._retention import Retention
from api2db.errors import JournalBusyError

_DETAILS_S: Final = 1.0
_PURGE_S: Final = 1.0
_REMOVALS_S: Final = 5.0


class Housekeeping:
    """Looks after an open journal; nothing that it does is needed for a row to be delivered once.

    Args:
        core: The journal.
        retention: Removes what is delivered.
        removals: The files of rejected rows that are being removed.
    """

    def __init__(self, core: Core, retention: Retention, removals: Removals) -> None:
        self._core = core
        self._retention = retention
        self._removals = removals
        self._details_s = self._purge_s = self._removals_s = 0.0

    def keep(self) -> None:
        """Save positions, remove what every stream has passed, and publish what streams say of themselves."""
        if self._core.is_closed:
            return
        now_s = time.monotonic()
        try:
            self.save_changes()
            if now_s - self._purge_s >= _PURGE_S:
                self._purge_s = now_s
                self._retention.purge()
            if now_s - self._details_s >= _DETAILS_S:
                self._details_s = now_s
                self.publish_details()
            if self._removals.are_left and now_s - self._removals_s >= _REMOVALS_S:
                self._removals_s = now_s
                self._removals.finish()
        except JournalBusyError as error:
            self._core.lose(str(error))

    def save_changes(self) -> None:
        """Save the state of each stream that has changed."""
        for reader in list(self._core.readers.values()):
            reader.save_if_changed()

    def load_details(self) -> None:
        """Read what the streams said of themselves last."""
        core = self._core
        found = core.jetstream.last(core.names.state, core.names.document(core.name, "details"))
        core.told_details = unpacked(found.payload) if found is not None else {}

    def publish_details(self) -> None:
        """Publish what the streams say of themselves, where it has changed."""
        core, before = self._core, self._core.told_details
        said = {each.state.identity.name: dict(each.details()) for each in list(core.readers.values())}
        said = {identity: details or before.get(identity, {}) for identity, details in said.items()}
        if any(said.values()) and said != before:
            core.jetstream.publish(Message(core.names.document(core.name, "details"), packed(said)))
            core.told_details = said
