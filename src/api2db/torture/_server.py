"""A database server that a torture may kill: one that it starts by a command, or one whose pid is in a file."""

import os
import shlex
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from api2db.errors import ConfigurationError, TargetUnavailableError

_UP_WITHIN_S: Final = 60.0
_DOWN_WITHIN_S: Final = 30.0
_GLANCE_S: Final = 0.02


class Killable(Protocol):
    """A server that a torture may kill; see ``KillableServer``."""

    def begin(self) -> None:
        """Check that it can be killed, and have it run."""

    def kill(self) -> None:
        """Kill the server and its processes at once."""

    def start(self) -> None:
        """Have it run again; return once it listens."""

    def end(self) -> None:
        """Stop it if the torture has started it."""


class KillableServer:
    """A server on this machine.

    Args:
        address: Its host and port.
        command: Starts it; empty if something else starts it again after a kill.
        pid_file: Its first line is the server's pid; None if ``command`` runs the server itself.
    """

    def __init__(self, address: tuple[str, int], command: str, pid_file: Path | None) -> None:
        self._address = address
        self._command = shlex.split(command)
        self._pid_file = pid_file
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Check that it can be killed; start it if the command runs the server itself.

        Raises:
            ConfigurationError: It can't be killed, or another server listens at its address.
            TargetUnavailableError: It does not start.
        """
        if self._pid_file is not None:
            pid = self._pid()
            try:
                os.kill(pid, 0)
            except OSError as error:
                raise ConfigurationError(f"the server's process {pid} can't be killed: {error.strerror}") from None
        elif self._listens():
            raise ConfigurationError(
                "a server listens at the address of --to already; stop it, or name the file of its pid with "
                "--server-pid-file"
            )
        else:
            self.start()

    def kill(self) -> None:
        """Kill the server and its processes at once."""
        pid = self._pid()
        for each in [pid, *_descendants(pid)]:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self._reap()

    def start(self) -> None:
        """Start it again, or wait for what starts it; return once it listens.

        Raises:
            TargetUnavailableError: It does not listen in time.
        """
        if self._command:
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + _UP_WITHIN_S
        while not self._listens():
            code = None if self._process is None else self._process.poll()
            if code or time.monotonic() > deadline:
                why = f"its command ended with {code}" if code else f"nothing listens after {_UP_WITHIN_S:.0f} s"
                raise TargetUnavailableError(f"the server did not start again: {why}")
            time.sleep(_GLANCE_S)  # no call waits for another process's socket

    def end(self) -> None:
        """Stop the server if its command runs it."""
        if self._process is None or self._pid_file is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(_DOWN_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(_DOWN_WITHIN_S)
            self._process = None

    def _pid(self) -> int:
        if self._pid_file is None:
            if self._process is None:
                raise TargetUnavailableError("the server does not run")
            return self._process.pid
        try:
            return int(self._pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            raise ConfigurationError(f"the file {self._pid_file} of --server-pid-file has no pid") from None

    def _listens(self) -> bool:
        try:
            socket.create_connection(self._address, 1).close()
        except OSError:
            return False
        return True


def _descendants(pid: int) -> list[int]:
    """The processes below one, as Linux tells them."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            said = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(said[1]), []).append(int(path.parent.name))
    found, left = [], [pid]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found
