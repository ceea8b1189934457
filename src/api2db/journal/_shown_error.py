"""The error that is shown of a stream, and recorded in the state file."""

import logging
import time
from dataclasses import dataclass, field, replace

from api2db.errors import JournalWriteError
from api2db.journal._core import Core
from api2db.journal._registered import RegisteredStream
from api2db.texts import redact

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ShownError:
    """The trouble of a stream or, without trouble, a warning that stays. Neither shows a secret, whoever sets it.

    What is shown is recorded too, unless the disk refuses: it is written only if it differs from what was recorded.
    """

    core: Core
    stream: RegisteredStream
    _warning: str | None = None
    _recorded: str | None = field(init=False)

    def __post_init__(self) -> None:
        self._recorded = self.stream.row.error

    def set(self, trouble: str | None) -> None:
        """Show and record trouble, or that there is none."""
        error = redact(trouble) if trouble else self._warning
        with self.core.changed:
            self._show(error)
            if error == self._recorded:
                return
            self._recorded = error
        try:
            self.core.state.set_error(self.stream.stream_no, error)
        except JournalWriteError as failure:
            logger.warning("%s", failure)

    def warn(self, warning: str) -> None:
        """Show a warning whenever there is no trouble."""
        self._warning = redact(warning)
        self.set(None)

    def end(self) -> None:
        """Show that trouble is over; called with the journal's lock held. The next ``set`` records it."""
        self._show(self._warning)

    def _show(self, error: str | None) -> None:
        row = self.stream.row
        if error != row.error:
            self.stream.row = replace(row, error=error, error_at=time.time() if error else None)
            self.core.on_change()
