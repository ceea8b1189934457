"""The process that serves a run's page, restarted when it dies."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

from api2db.app._beside import beside
from api2db.app._stopping import restart_pauses
from api2db.errors import from_extra

_UNUSABLE: Final = 2


@contextmanager
def page_beside(home: Path, address: str, say: Callable[[str], None]) -> Iterator[None]:
    """Serve the page of a project in a process of its own while the block runs.

    Args:
        home: The project's folder.
        address: As ``api2db web`` takes it.
        say: Takes the lines that the process prints.

    Raises:
        MissingExtraError: The extra ``web`` is not installed.
    """
    with from_extra("uvicorn", "web"):
        import_module("uvicorn")
    process: list[subprocess.Popen[str]] = []

    def keep(ended: threading.Event) -> None:
        pauses = restart_pauses()
        while not ended.is_set():
            pauses.started()
            with _started(home, address) as child:
                process[:] = [child]
                if ended.is_set():
                    child.terminate()
                for line in child.stdout or ():
                    say(line.rstrip("\n"))
            if child.returncode == _UNUSABLE or ended.wait(pauses.failed()):
                return

    def end() -> None:
        for child in process:
            child.terminate()

    with beside(keep, name="api2db-page", end=end):
        yield


def _started(home: Path, address: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S603 - this very interpreter, and our own module
        [sys.executable, "-m", "api2db.web._child", str(home), address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
        text=True,
        errors="replace",
    )
