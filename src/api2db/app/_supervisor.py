"""The parent process of a run: starts the worker processes, watches them, and restarts those that die."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api2db.app._process import ChildProcess, Output
from api2db.app._stopping import Stop, restart_pauses
from api2db.backoff import BackOff
from api2db.errors import ConfigurationError

_WATCH_S: Final = 0.1
_GLANCE_S: Final = 0.02
_DRAIN_S: Final = 9.5
_PLAN_S: Final = 60.0
logger = logging.getLogger("api2db.app")


@dataclass(slots=True)
class _Worker:
    """The collectors of one process, and that process while it is alive."""

    label: str
    names: Sequence[str]
    back_off: BackOff = field(default_factory=restart_pauses)
    process: ChildProcess | None = None
    done: bool = False


class Supervisor:
    """Runs each group of collectors in a process of its own until it is asked to stop.

    Args:
        main_file: The file that the processes import to find their collectors.
        groups: The names of the collectors of each process.
        output: Takes the lines that the processes print; by default they share this process's output.
    """

    def __init__(self, main_file: Path, groups: Sequence[Sequence[str]], output: Output | None = None) -> None:
        self._main_file = main_file
        self._output = output
        self._workers = [_Worker(f"process-{number}", names) for number, names in enumerate(groups, 1)]

    @property
    def processes(self) -> dict[int, tuple[str, ...]]:
        """The process ids, each with its collectors."""
        running = [(worker.process, worker.names) for worker in self._workers]
        return {process.pid: tuple(names) for process, names in running if process is not None}

    def run(self, stop: Stop, begun: Callable[[], None] = lambda: None) -> None:
        """Start the processes, keep them alive, and end them on request or when nothing is left to do.

        Args:
            stop: The request.
            begun: Called when all processes have been started.

        Raises:
            ConfigurationError: A process can't run the project as it is written.
            JournalBusyError: Another run owns the journals.
        """
        try:
            for worker in self._workers:
                self._start(worker)
            begun()
            while not stop.wait(_WATCH_S) and not all(worker.done for worker in self._workers):
                for worker in self._workers:
                    self._look_after(worker)
        finally:
            self._end(stop)

    def _start(self, worker: _Worker) -> None:
        worker.process = ChildProcess("run", self._main_file, worker.label, worker.names, self._output)
        worker.back_off.started()

    def _look_after(self, worker: _Worker) -> None:
        if worker.process is None:
            if not worker.done and worker.back_off.due:
                self._start(worker)
        elif not worker.process.runs:
            self._discard_dead(worker, worker.process)

    def _discard_dead(self, worker: _Worker, process: ChildProcess) -> None:
        worker.process = None
        report = process.ended()
        if report is not None:
            report.raise_if_final()
            worker.done = report.kind == "done"
        if worker.done:
            return
        wait_s = worker.back_off.failed()
        names = ", ".join(worker.names)
        message = "%s (%s) has died, %s; it is restarted in %.2g s"
        logger.warning(message, worker.label, names, process.manner, wait_s)

    def _end(self, stop: Stop) -> None:
        """Ask all processes to end, wait, then kill the rest; everything they acknowledged is on disk."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.ask_to_end()
        if not _have_ended(running, stop):
            logger.warning(
                "a process did not end in time and is killed; the frames that it acknowledged wait in the journal"
            )
        for process in running:
            process.ended(timeout_s=0)


def _have_ended(running: Sequence[ChildProcess], stop: Stop) -> bool:
    """Wait for all processes to end, but not for long after a second request."""
    deadline_s = time.monotonic() + _DRAIN_S
    patience = max(1, stop.requests)
    while any(process.runs for process in running):
        if time.monotonic() > deadline_s or stop.requests > patience:
            return False
        time.sleep(_GLANCE_S)  # No call waits for several processes and for a signal at once.
    return True


def plan(main_file: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """Ask a new process which embedded database files are written to by collectors whose streams are a callable.

    Raises:
        ConfigurationError: The process ended with an error.
    """
    process = ChildProcess("plan", main_file, "plan", names, None)
    report = process.ended(_PLAN_S)
    if report is not None:
        report.raise_if_final()
    if report is None or report.files is None:
        raise ConfigurationError(
            f"a new process that imports {main_file} and creates the streams of its collectors ends with "
            f"{process.manner}; see what it printed"
        )
    return {name: [Path(file) for file in files] for name, files in report.files.items()}


def assign(names: Sequence[str], files: Mapping[str, Sequence[Path]], processes: int) -> list[list[str]]:
    """Spread collectors evenly over processes, and never put one embedded database file into two.

    Args:
        names: All collectors.
        files: The embedded database files that each of them writes.
        processes: The number of processes at most.
    """
    groups: list[list[str]] = [[] for _ in range(max(1, processes))]
    for component in sorted(_components(names, files), key=len, reverse=True):
        min(groups, key=len).extend(component)
    return [group for group in groups if group]


def _components(names: Sequence[str], files: Mapping[str, Sequence[Path]]) -> list[list[str]]:
    """Groups of collectors that share a file, directly or through others."""
    leader = {name: name for name in names}

    def leader_of(name: str) -> str:
        while leader[name] != name:
            name = leader[name]
        return name

    first: dict[Path, str] = {}
    for name in names:
        for file in files.get(name, ()):
            leader[leader_of(name)] = leader_of(first.setdefault(file, name))
    components: dict[str, list[str]] = {}
    for name in names:
        components.setdefault(leader_of(name), []).append(name)
    return list(components.values())
