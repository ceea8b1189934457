"""Children that start at once: a process that has imported everything, and forks one for each job.

As a program (python -m tests.kills.fork_server) it reads jobs from its input, one a line, and runs each in a
child of its own. A child says its pid, the server how it ended. Nothing is open where it forks, and no thread runs.
"""

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Self

from tests.faults.children import ROOT, acknowledged
from tests.kills.saying import say


class ForkServer:
    """The parent of quickly born children, one at a time."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors.open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.fork_server"],
            cwd=ROOT,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def start(self, job: str, project: dict[str, Any], **options: Any) -> "Newborn":
        assert self._process.stdin is not None
        print(json.dumps({"job": job, "project": project, **options}), file=self._process.stdin, flush=True)
        return Newborn(self, int(self.line()))

    def run(self, job: str, project: dict[str, Any], **options: Any) -> None:
        """Run a job to its end."""
        with self.start(job, project, **options) as child:
            assert child.wait() == 0, self.errors()

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, self.errors()
        return line

    def errors(self) -> str:
        """What its children have said on their standard error."""
        self._errors.seek(0)
        return self._errors.read()

    def close(self) -> None:
        self._process.communicate()
        self._errors.close()


class Newborn:
    """One child, from its start to its end."""

    def __init__(self, fork_server: ForkServer, pid: int) -> None:
        self._server = fork_server
        self._status: int | None = None
        self.pid = pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._status is None:
            self.kill()

    def wait_for_line(self, expected: str) -> None:
        line = self._server.line()
        if line != expected:
            self._status = int(line.split()[-1])
            raise AssertionError(self._server.errors())

    def wait_for(self, log: Path, at_least: int, timeout_s: float = 60) -> None:
        """Return once so many numbers have been acknowledged."""
        deadline = time.monotonic() + timeout_s
        while len(acknowledged(log)) < at_least:
            assert time.monotonic() < deadline, self._server.errors()
            time.sleep(0.001)

    def kill(self) -> int:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self) -> int:
        """How it ended: 0, or minus the signal that ended it."""
        if self._status is None:
            self._status = int(self._server.line().removeprefix("ended "))
        return self._status


def main() -> None:
    import api2db.targets.bigquery.target  # noqa: F401 - it takes a second, which each child would need
    from tests.kills.jobs import run

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _live(run, line)
        _, status = os.waitpid(pid, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


def _live(run: Any, line: str) -> None:
    try:
        say(os.getpid())
        run(line)
    except BaseException:  # noqa: BLE001 - whatever it was, the test reads it in the log
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
