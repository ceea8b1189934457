"""Processes of servers: usually run by a user without rights, killed whole, and never left behind."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

UNPRIVILEGED_USER = "nobody"
GONE_WITHIN_S = 30
# Reads until the tests close its input, which the system does for them however they end.
GUARD = 'read -r _; kill -KILL "$1"; rm -rf "$2"'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def new_folder() -> Path:
    """A folder for one server, closed to other users; not below pytest's, which only root may enter."""
    folder = Path(tempfile.mkdtemp(prefix="api2db-server-"))
    give_away(folder)
    return folder


def give_away(path: Path) -> None:
    """Let servers own a file or folder."""
    if os.geteuid() == 0:
        shutil.chown(path, UNPRIVILEGED_USER, _group())


def run(command: Sequence[str], folder: Path) -> None:
    """Run to its end as the servers' user.

    Raises:
        RuntimeError: With what it wrote.
    """
    done = subprocess.run(
        _as_unprivileged(command),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout[-2000:]}")


class ServerProcess:
    """One run of a server; when the tests end without stopping it, it is killed and its folder removed.

    Args:
        inside: What runs a command where the server shall be, such as in a network namespace.
        as_user: Whether it runs as the servers' user, who may not reach the tests' own Python.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, log: Path, inside: Sequence[str] = (), *, as_user: bool = True
    ) -> None:
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*inside, *(_as_unprivileged(command) if as_user else command)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", str(self._process.pid), str(folder)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def family(self) -> list[psutil.Process]:
        """The server and the processes it started, itself first."""
        try:
            server = psutil.Process(self.pid)
            return [server, *server.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop all of it as SIGSTOP does, for the length of a block: connected, and silent."""
        family = self.family()
        for process in family:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in filter(runs, family):
                process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill all of it at once; returns when all are gone."""
        family = self.family()
        for process in family:
            kill(process)
        self._reap(family)

    def end(self, stop_signal: signal.Signals) -> None:
        """Ask it to stop; returns when all of it has."""
        family = self.family()
        if self.alive:
            self._process.send_signal(stop_signal)
        self._reap(family)

    def _reap(self, family: Sequence[psutil.Process]) -> None:
        self._process.wait(GONE_WITHIN_S)
        self._guard.kill()
        self._guard.communicate()
        _, left = psutil.wait_procs([process for process in family if runs(process)], GONE_WITHIN_S)
        assert not any(map(runs, left)), f"still running: {left}"


def kill(process: psutil.Process) -> None:
    """Kill it; one that has ended by itself since it was found is left."""
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _as_unprivileged(command: Sequence[str]) -> Sequence[str]:
    """The command, run as the servers' user.

    Popen's own ``user`` makes it call fork, which runs gRPC's handlers where a test has used BigQuery's client; these
    once ended the child before it became the server. Without it, Popen calls vfork, which runs none.
    """
    if os.geteuid() != 0:
        return command
    return ["setpriv", f"--reuid={UNPRIVILEGED_USER}", f"--regid={_group()}", "--clear-groups", *command]


def _group() -> int:
    import pwd

    return pwd.getpwnam(UNPRIVILEGED_USER).pw_gid
