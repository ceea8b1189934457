"""A child process's last message to its parent: one line of JSON on a pipe."""

import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

from api2db.errors import ConfigurationError, JournalBusyError

_MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Report:
    """How a child ended.

    Attributes:
        kind: ``done``: nothing was left to do; ``asked``: it was asked to end; ``configuration`` and ``busy``: a
            restart would not help.
        message: What is wrong, and the next step.
        files: For ``plan``: the embedded database files of each collector.
    """

    kind: Literal["done", "asked", "plan", "configuration", "busy"]
    message: str = ""
    files: dict[str, list[str]] | None = None

    def raise_if_final(self) -> None:
        """Raise what a restart would not fix.

        Raises:
            ConfigurationError: The project must be changed.
            JournalBusyError: Another run owns the journals.
        """
        if self.kind == "configuration":
            raise ConfigurationError(self.message)
        if self.kind == "busy":
            raise JournalBusyError(self.message)


def send_report(descriptor: int, report: Report) -> None:
    """Send it; ignore a parent that is gone."""
    try:
        os.write(descriptor, json.dumps(asdict(report)).encode())
    except BrokenPipeError:
        return


def read_report(descriptor: int) -> Report | None:
    """Read the message of an ended child; None if it died without one."""
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
