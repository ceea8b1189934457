"""A process of a run as its parent sees it, and the process's last message: one line of JSON on a pipe.

``multiprocessing`` is not enough. It imports the parent's main file as ``__mp_main__`` before any of our code runs. It
does not pass on the lines that a child prints. It gives the child no process group that is spared the terminal's
Ctrl-C. And it does not end the child when its parent is killed.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from api2db.errors import ConfigurationError, JournalBusyError

Output = Callable[[str], None]
_LAST_LINES_S: Final = 1.0
_MOST_BYTES: Final = 1 << 16


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
        """Raise an error that a restart would not fix.

        Raises:
            ConfigurationError: The project must be changed.
            JournalBusyError: Another run owns the journals.
        """
        if self.kind == "configuration":
            raise ConfigurationError(self.message)
        if self.kind == "busy":
            raise JournalBusyError(self.message)


def send_report(descriptor: int, report: Report) -> None:
    """Send a report; ignore a parent that is gone."""
    try:
        os.write(descriptor, json.dumps(asdict(report)).encode())
    except BrokenPipeError:
        return


class ChildProcess:
    """A process spawned with ``api2db.app._child``, in a process group of its own.

    A Ctrl-C at the terminal therefore reaches only the parent, which passes it on. The child ends when its standard
    input closes, which happens however the parent ends.

    Args:
        what: Run collectors, or only report which embedded files they write.
        main_file: The file that it imports.
        label: The name of its log file.
        names: Its collectors.
        output: Takes the lines that it prints; by default it shares this process's output.
    """

    def __init__(
        self, what: Literal["run", "plan"], main_file: Path, label: str, names: Sequence[str], output: Output | None
    ) -> None:
        self._report, writes = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter, and our own module
                [sys.executable, "-m", "api2db.app._child", what, str(writes), str(main_file), label, *names],
                stdin=subprocess.PIPE,
                stdout=None if output is None else subprocess.PIPE,
                stderr=None if output is None else subprocess.STDOUT,
                pass_fds=(writes,),
                process_group=0,
                text=True,
                errors="replace",
            )
        finally:
            os.close(writes)
        self._printer = _printer(self._process.stdout, output)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it is still running."""
        return self._process.poll() is None

    @property
    def manner(self) -> str:
        """How it ended, in words."""
        code = self._process.wait()
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def ask_to_end(self) -> None:
        """Ask it to deliver what it can within some seconds, and to end."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self, timeout_s: float | None = None) -> Report | None:
        """Wait for its end, and kill it after the timeout; return its last message, or None."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if self._printer is not None:
            self._printer.join(_LAST_LINES_S)
        report = _read_report(self._report)
        os.close(self._report)
        return report


def _printer(lines: IO[str] | None, output: Output | None) -> threading.Thread | None:
    if lines is None or output is None:
        return None

    def pass_on() -> None:
        with lines:
            for line in lines:
                output(line.rstrip("\n"))

    thread = threading.Thread(target=pass_on, name="api2db-output", daemon=True)
    thread.start()
    return thread


def _read_report(descriptor: int) -> Report | None:
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
