"""Children that are killed, and the log in which each says what was acknowledged to it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]


class Acknowledgements:
    """A log of numbers, each on the disk before the next is put."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, number: int) -> None:
        os.write(self._fd, f"{number}\n".encode())
        os.fsync(self._fd)


def acknowledged(path: Path) -> list[int]:
    """The numbers in a log; one that was cut short by a kill does not count."""
    if not path.exists():
        return []
    return [int(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Child:
    """A module of the tests that runs as a process of its own."""

    def __init__(self, module: str, arguments: Sequence[str], *, wrapper: Sequence[str] = ()) -> None:
        command = [*wrapper, sys.executable, "-m", module, *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, self._process.communicate()[1]
        return line

    def wait_for(self, log: Path, at_least: int, timeout_s: float = 60) -> None:
        """Return once so many numbers have been acknowledged."""
        deadline = time.monotonic() + timeout_s
        while len(acknowledged(log)) < at_least:
            assert self._process.poll() is None, self._process.communicate()[1]
            assert time.monotonic() < deadline, "nothing was acknowledged in time"
            time.sleep(0.002)

    def kill_after(self, shortest_s: float, longest_s: float, dice: random.Random) -> None:
        time.sleep(dice.uniform(shortest_s, longest_s))
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Stopped, and so between two system calls, for the length of the block."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float = 60) -> tuple[int, str, str]:
        output, errors = self._process.communicate(timeout=timeout_s)
        return self._process.returncode, output, errors


def in_fork(work: Callable[[], object]) -> str:
    """What a forked child says: the error that its work raised; nothing where it hangs."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        said = "nothing was raised"
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            said = f"{type(error).__name__}: {error}"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said
