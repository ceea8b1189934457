"""The state of a stream, and the document in which the cluster keeps it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api2db.cluster._documents import Document
from api2db.cluster._state import Place, StreamState
from api2db.errors import JournalBusyError


class SavedState:
    """A stream's state as this process knows it; what was saved last is never newer.

    Args:
        state: The state.
        document: Where it is kept.
        changed: The journal's lock, with which the state is changed.
        lose: Called with the reason when another process has replaced the document.

    Attributes:
        place: Where the next owner would read on.
    """

    def __init__(
        self, state: StreamState, document: Document, changed: threading.Condition, lose: Callable[[str], None]
    ) -> None:
        self.now = state
        self.place: Place = state.place
        self._document = document
        self._changed = changed
        self._lose = lose
        self._saving = threading.Lock()
        self._is_saved = True

    def change(self, **changes: Any) -> None:
        """Change the state, and save it soon; called with the journal's lock held."""
        self.take_over(replace(self.now, **changes))

    def take_over(self, state: StreamState) -> None:
        """Replace the state, and save it soon; called with the journal's lock held."""
        self.now, self._is_saved = state, False

    def save(self, change: Callable[[StreamState], StreamState]) -> None:
        """Change the state, and save that before it counts. No other save comes between the two.

        Args:
            change: Given a state, returns the changed one; it is called again if others change the state meanwhile.

        Raises:
            JournalBusyError: Another process has replaced the document.
            ClusterUnavailableError: The cluster does not answer; a later save settles whether this one counts.
        """
        with self._saving:
            with self._changed:
                before = self.now
                state = change(before)
            try:
                self._document.save(state.as_json())
            except JournalBusyError as error:
                self._lose(str(error))
                raise
            self.place = state.place
            with self._changed:
                is_same = self.now is before
                self.now, self._is_saved = (state, True) if is_same else (change(self.now), False)

    def save_if_changed(self) -> None:
        """Save the state if that was not done since it changed.

        Raises:
            JournalBusyError: As ``save`` does.
        """
        with self._saving:
            with self._changed:
                if self._is_saved:
                    return
                state, self._is_saved = self.now, True
            try:
                self._document.save(state.as_json())
            except BaseException:
                self._is_saved = False
                raise
            self.place = state.place
