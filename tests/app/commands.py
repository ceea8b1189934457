"""Commands as a script sees them, carried out in the test's own process."""

import json
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from api2db.__main__ import main


class Ended(NamedTuple):
    code: int
    out: str
    error: str

    @property
    def said(self) -> dict[str, Any]:
        """The JSON that it printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found


Command = Callable[..., Ended]


def command_of(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *before: str) -> Command:
    """Carries out ``api2db``, with some arguments before those of each call."""

    def command(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["api2db", *before, *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, *capfd.readouterr())

    return command
