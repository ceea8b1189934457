"""Programs that start at once: a process that has imported api2db, and forks a child that runs each program.

As a program (python -m tests.docs.program_server) it reads the paths of programs from its input, one a line. Each runs
as ``__main__`` in a child, in its own folder, which is its home too; the child then ends as an interpreter does. What
it writes is in files beside it. The server says how it ended.
"""

import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

from api2db.torture.fork_server import say
from tests.faults.children import ROOT

_ERRORS = "errors.txt"
_LONGEST_S = 120


class ProgramServer:
    """The parent of the programs, which run one at a time."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.docs.program_server"],
            cwd=ROOT,
            env={**os.environ, "PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, program: Path) -> str | None:
        """Run a program to its end; return what it wrote to its standard error if it failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(program, file=self._process.stdin, flush=True)
        status = self._process.stdout.readline().strip()
        assert status, "the server of programs has ended"
        errors = (program.parent / _ERRORS).read_text()
        return None if status == "0" else f"it ended with {status}: {errors}"

    def close(self) -> None:
        """End the server, and a program that hangs."""
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()


def main() -> None:
    # They take a second or two, which each program would need.
    import duckdb  # noqa: F401
    import pandas as pd  # noqa: F401

    import api2db.app.run
    import api2db.store
    import api2db.stream  # noqa: F401

    for line in sys.stdin:
        program = Path(line.strip())
        pid = os.fork()
        if pid == 0:
            _become(program)
            return
        _, status = os.waitpid(pid, 0)
        say(os.waitstatus_to_exitcode(status))


def _become(program: Path) -> None:
    """Run a program in this process, as an interpreter that was started with it would.

    What the server has imported is imported: only an interpreter of its own shows that a program needs another import.
    """
    signal.alarm(_LONGEST_S)  # which ends a program that hangs
    home = program.parent
    for number, path, mode in ((0, Path(os.devnull), "r"), (1, home / "output.txt", "w"), (2, home / _ERRORS, "w")):
        with path.open(mode) as file:
            os.dup2(file.fileno(), number)
    os.chdir(home)
    os.environ.update({"API2DB_HOME": str(home), "HOME": str(home)})
    sys.argv[:] = [str(program)]
    runpy.run_path(str(program), run_name="__main__")


if __name__ == "__main__":
    main()
