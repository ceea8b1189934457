"""What a child process says to its parent when it ends: one line of JSON on a pipe of its own."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from api2db.errors import ConfigurationError, JournalBusyError

__all__ = ["Report", "read_report", "send_report"]

_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Report:
    """How a child ended.

    Attributes:
        kind: ``done`` where it had nothing more to do, ``asked`` where it was asked to end; ``configuration`` and
            ``busy`` can't be mended by another try.
        message: What is wrong, and the next step.
        files: For ``plan``: the embedded database files of each collector.
    """

    kind: Literal["done", "asked", "plan", "configuration", "busy"]
    message: str = ""
    files: dict[str, list[str]] | None = None

    def raise_if_final(self) -> None:
        """Raise what no new try can mend.

        Raises:
            ConfigurationError: The project has to be changed.
            JournalBusyError: Another run has the journals.
        """
        if self.kind == "configuration":
            raise ConfigurationError(self.message)
        if self.kind == "busy":
            raise JournalBusyError(self.message)


def send_report(descriptor: int, report: Report) -> None:
    """Send it; a parent that is gone hears nothing."""
    try:
        os.write(descriptor, json.dumps(asdict(report)).encode())
    except BrokenPipeError:
        return


def read_report(descriptor: int) -> Report | None:
    """Give what an ended child said; None where it died without a word."""
    os.set_blocking(descriptor, False)
    said = b""
    try:
        while piece := os.read(descriptor, _MOST_BYTES):
            said += piece
    except BlockingIOError:
        pass
    return _parsed(said)


def _parsed(said: bytes) -> Report | None:
    try:
        fields: dict[str, Any] = json.loads(said)
        return Report(**fields)
    except (ValueError, TypeError):
        return None
