"""Children that start at once: a process that has imported everything, and forks a child for each job.

As a program (``python -m api2db.torture.fork_server MODULE``) it imports a module and reads jobs from its input, one a
line. The module's ``run`` carries out each in a child of its own. A child prints its pid, the server how it ended. The
server has nothing open and no threads when it forks.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from api2db.errors import Api2dbError

_GLANCE_S: Final = 0.001
_ERRORS_SHOWN: Final = 2_000


class ChildError(Api2dbError):
    """A child ended by itself, or did not do in time what it was waited for."""


class ForkServer:
    """The parent of children that start at once, one at a time.

    Args:
        jobs: The module that carries out the jobs.
        errors: The file for what the children write to their standard error.
        folder: The folder in which the module is found, if it is not installed.
    """

    def __init__(self, jobs: str, errors: Path, folder: Path | None = None) -> None:
        self._errors = errors.open("w+")
        self._process = subprocess.Popen(  # noqa: S603 - this program
            [sys.executable, "-m", "api2db.torture.fork_server", jobs],
            cwd=folder,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,  # Ctrl-C is for the parent, which ends the children
        )

    def start(self, job: str, project: Mapping[str, Any], **options: Any) -> "Child":
        """Start a child that does a job."""
        if self._process.stdin is None:
            raise AssertionError("its input is a pipe")
        print(json.dumps({"job": job, "project": project, **options}), file=self._process.stdin, flush=True)
        return Child(self, int(self.line()))

    def run(self, job: str, project: Mapping[str, Any], **options: Any) -> None:
        """Do a job to its end.

        Raises:
            ChildError: It failed.
        """
        with self.start(job, project, **options) as child:
            if child.wait() != 0:
                raise ChildError(self.errors())

    def line(self) -> str:
        """Return the next line of the child or the server.

        Raises:
            ChildError: The server has ended.
        """
        if self._process.stdout is None:
            raise AssertionError("its output is a pipe")
        line = self._process.stdout.readline().strip()
        if not line:
            raise ChildError(self.errors())
        return line

    def errors(self) -> str:
        """Return the end of what the children have written to their standard error."""
        self._errors.seek(0)
        return self._errors.read()[-_ERRORS_SHOWN:].strip()

    def close(self) -> None:
        """End the server; its child must have ended."""
        self._process.communicate()
        self._errors.close()


class Child:
    """One child, from its start to its end."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self._server = server
        self._status: int | None = None
        self.pid = pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._status is None:
            self.kill()

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        if self._status is not None:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait_for_line(self, expected: str) -> None:
        """Wait until the child has printed a line.

        Raises:
            ChildError: It printed another one, or has ended.
        """
        line = self._server.line()
        if line != expected:
            self._status = int(line.split()[-1])
            raise ChildError(self._server.errors())

    def wait_for(self, log: Path, at_least: int, timeout_s: float = 60) -> None:
        """Return once a log has so many lines.

        Raises:
            ChildError: The child has ended, or it took too long.
        """
        deadline, lines, begin = time.monotonic() + timeout_s, 0, 0
        while True:
            if log.exists():
                with log.open("rb") as file:
                    file.seek(begin)
                    found = file.read()
                begin, lines = begin + len(found), lines + found.count(b"\n")
            if lines >= at_least:
                return
            if not self.is_alive or time.monotonic() > deadline:
                raise ChildError(self._server.errors() or f"{log.name} has {lines} lines instead of {at_least}")
            time.sleep(_GLANCE_S)  # no call that all systems have waits for another process's file

    def kill(self) -> int:
        """Kill it; return how it ended, as ``wait`` does."""
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return 0, or minus the signal that ended it."""
        if self._status is None:
            self._status = int(self._server.line().removeprefix("ended "))
        return self._status


def say(line: object) -> None:
    """Print a line for the process that started the server."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve jobs until the input ends."""
    jobs = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _live(jobs.run, line)
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


def _live(run: Any, line: str) -> None:
    try:
        say(os.getpid())
        run(line)
    except BaseException:  # noqa: BLE001 - whatever it was, the parent reads it in the file of errors
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
