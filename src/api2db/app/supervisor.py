"""The parent of a run: starts its processes anew, watches them, and starts again what dies."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from api2db.app.backoff import BackOff
from api2db.app.report import Report, read_report
from api2db.app.stopping import Stop
from api2db.errors import ConfigurationError

__all__ = ["Output", "Supervisor", "plan"]

Output = Callable[[str], None]
_WATCH_S: Final = 0.1
_DRAIN_S: Final = 9.5
_PLAN_S: Final = 60.0
_log = logging.getLogger("api2db.app")


@dataclass(slots=True)
class _Child:
    """One process: what it is asked for, and how it does."""

    label: str
    names: Sequence[str]
    back_off: BackOff = field(default_factory=BackOff)
    process: "subprocess.Popen[str] | None" = None
    report: int = -1
    done: bool = False


class Supervisor:
    """Runs each group of collectors in a process of its own until somebody wants an end.

    Args:
        main_file: What the processes import to find their collectors.
        groups: The names of the collectors of each process.
        output: Takes the lines that the processes print; by default they print where this one does.
    """

    def __init__(self, main_file: Path, groups: Sequence[Sequence[str]], output: Output | None = None) -> None:
        self._main_file = main_file
        self._output = output
        self._children = [_Child(f"process-{number}", names) for number, names in enumerate(groups, 1)]

    @property
    def processes(self) -> dict[int, tuple[str, ...]]:
        """The process ids, each with its collectors."""
        return {
            child.process.pid: tuple(child.names)
            for child in self._children
            if child.process is not None and child.process.returncode is None
        }

    def run(self, stop: Stop) -> None:
        """Start them, keep them alive, and end them when somebody wants that or nothing is left to do.

        Raises:
            ConfigurationError: A process can't run as the project is written down.
            JournalBusyError: Another run has the journals.
        """
        try:
            for child in self._children:
                self._start(child)
            while not stop.wait(_WATCH_S) and not all(child.done for child in self._children):
                for child in self._children:
                    self._look_after(child)
        finally:
            self._end(stop)

    def _start(self, child: _Child) -> None:
        child.process, child.report = _spawn("run", self._main_file, child.label, child.names, self._output)
        child.back_off.started()

    def _look_after(self, child: _Child) -> None:
        if child.done:
            return
        if child.process is None:
            if child.back_off.due:
                self._start(child)
        elif child.process.poll() is not None:
            self._bury(child, child.process)

    def _bury(self, child: _Child, process: "subprocess.Popen[str]") -> None:
        report = _closed(process, child.report)
        child.process = None
        if report is not None:
            report.raise_if_final()
            child.done = True
            return
        wait_s = child.back_off.died()
        _log.warning(
            "%s (%s) has died, %s; it is started again in %.2g s",
            child.label,
            ", ".join(child.names),
            _manner(process.returncode),
            wait_s,
        )

    def _end(self, stop: Stop) -> None:
        """Ask all to end, wait, and end by force what has not; what they acknowledged is on disk."""
        running = [(child.process, child.report) for child in self._children if child.process is not None]
        for process, _ in running:
            process.send_signal(signal.SIGTERM)
        if not _ended(running, stop):
            _log.warning("a process did not end in time and is killed; what it acknowledged waits in the journal")
        for process, descriptor in running:
            process.kill()
            process.wait()
            _closed(process, descriptor)


def _ended(running: "Sequence[tuple[subprocess.Popen[str], int]]", stop: Stop) -> bool:
    """Wait for all to end; not for long where somebody asks a second time."""
    deadline_s = time.monotonic() + _DRAIN_S
    patience = max(1, stop.wishes)
    while any(process.poll() is None for process, _ in running):
        if time.monotonic() > deadline_s or stop.wishes > patience:
            return False
        time.sleep(_WATCH_S / 5)
    return True


def plan(main_file: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """Ask a process for the embedded database files of collectors whose streams come from a callable.

    Raises:
        ConfigurationError: It can't say.
    """
    process, descriptor = _spawn("plan", main_file, "plan", names, None)
    try:
        process.wait(_PLAN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    report = _closed(process, descriptor)
    if report is not None:
        report.raise_if_final()
    if report is None or report.files is None:
        raise ConfigurationError(
            f"a new process that imports {main_file} and makes the streams of its collectors ends with "
            f"{_manner(process.returncode)}; see what it printed"
        )
    return {name: [Path(file) for file in files] for name, files in report.files.items()}


def _spawn(
    what: str, main_file: Path, label: str, names: Sequence[str], output: Output | None
) -> tuple["subprocess.Popen[str]", int]:
    """Start a process anew, in a group of its own: a Ctrl-C at the terminal is for this process to pass on."""
    reads, writes = os.pipe()
    printed = None if output is None else subprocess.PIPE
    try:
        process = subprocess.Popen(  # noqa: S603 - this very interpreter, and our own module
            [sys.executable, "-m", "api2db.app.child", what, str(writes), str(main_file), label, *names],
            stdin=subprocess.PIPE,
            stdout=printed,
            stderr=None if output is None else subprocess.STDOUT,
            pass_fds=(writes,),
            process_group=0,
            text=True,
            errors="replace",
        )
    finally:
        os.close(writes)
    if output is not None and process.stdout is not None:
        threading.Thread(target=_pass_on, args=(process.stdout, output), name=f"api2db-{label}", daemon=True).start()
    return process, reads


def _pass_on(lines: IO[str], output: Output) -> None:
    with lines:
        for line in lines:
            output(line.rstrip("\n"))


def _closed(process: "subprocess.Popen[str]", descriptor: int) -> Report | None:
    """What an ended process said; the lines to it are closed."""
    if process.stdin is not None:
        process.stdin.close()
    report = read_report(descriptor)
    os.close(descriptor)
    return report


def _manner(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
