"""Small projects on disk, run by real processes."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from api2db.ingest import read_status
from tests.ingest.tiny import rows_in, wait_until
from tests.servers.processes import kill

ROOT = Path(__file__).parents[2]

MAIN = """
    import itertools, os, sys, time
    from pathlib import Path
    from api2db.app.run import Run
    from api2db.ingest import Collector
    from tests.ingest.tiny import TinyStream

    HOME = Path(__file__).parent

    def count(state):
        state["next"] = state.get("next", 0) + 1
        return [{"id": state["next"], "pid": os.getpid()}]

    def polls(name, target=count, **options):
        stream = TinyStream(name, home=HOME, durability="full")
        stream.embedded_file = options.pop("embedded_file", None)
        return Collector(name, options.pop("seconds", 0.05), target, options.pop("streams", [stream]), **options)
"""
GUARD = """
    if __name__ == "__main__":
        Run(collectors).run(**({"once": True} if "--once" in sys.argv else {}))
"""


# A run ends within ten seconds of a signal. A machine that runs other tests too may take longer to get it there; one
# that hangs takes forever.
ENDS_WITHIN_S = 60.0


class Project:
    """A home with a main file in it."""

    def __init__(self, home: Path, collectors: str, guard: str = GUARD) -> None:
        self.home = home
        self.main = home / "main.py"
        self.main.write_text("".join(textwrap.dedent(part) for part in (MAIN, collectors, guard)))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.main), *arguments]

    def environment(self) -> dict[str, str]:
        path = [*os.environ.get("PYTHONPATH", "").split(os.pathsep), str(ROOT)]
        return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "NO_COLOR": "1"}

    def ended(self, *arguments: str, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            cwd=self.home,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @contextmanager
    def running(self, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
        """A run in a process of its own; whatever is left of it at the end is killed."""
        process = subprocess.Popen(
            self.command(*arguments),
            cwd=self.home,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        everyone: set[psutil.Process] = set()
        try:
            yield process
        finally:
            if process.poll() is None:
                everyone.update(psutil.Process(process.pid).children(recursive=True))
                process.send_signal(signal.SIGKILL)
            for child in everyone:
                kill(child)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def ids(self, name: str) -> list[int]:
        return [row["id"] for row in rows_in(self.home, name)]

    def pids(self, *names: str) -> list[int]:
        """The processes that poll, once all of them do and have delivered."""

        def polling() -> list[int]:
            wait_until(lambda: all(self.ids(name) for name in names), 60)
            found = [read_status(self.home, name) for name in names]
            return [status.pid for status in found if status is not None]

        wait_until(lambda: len(polling()) == len(names))
        return polling()


def counted(ids: list[int]) -> list[int]:
    """What the ids must be: from 1 on, none missing, none twice, in order."""
    return list(range(1, len(ids) + 1))
