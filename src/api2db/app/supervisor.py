"""The parent of a run: starts its processes anew, watches them, and starts again what dies."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api2db.app.backoff import BackOff
from api2db.app.process import ChildProcess, Output
from api2db.app.stopping import Stop
from api2db.errors import ConfigurationError

__all__ = ["Supervisor", "plan"]

_WATCH_S: Final = 0.1
_GLANCE_S: Final = 0.02
_DRAIN_S: Final = 9.5
_PLAN_S: Final = 60.0
_log = logging.getLogger("api2db.app")


@dataclass(slots=True)
class _Place:
    """What one process is for, and the process while there is one."""

    label: str
    names: Sequence[str]
    back_off: BackOff = field(default_factory=BackOff)
    process: ChildProcess | None = None
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
        self._places = [_Place(f"process-{number}", names) for number, names in enumerate(groups, 1)]

    @property
    def processes(self) -> dict[int, tuple[str, ...]]:
        """The process ids, each with its collectors."""
        running = [(place.process, place.names) for place in self._places]
        return {process.pid: tuple(names) for process, names in running if process is not None}

    def run(self, stop: Stop) -> None:
        """Start them, keep them alive, and end them when somebody wants that or nothing is left to do.

        Raises:
            ConfigurationError: A process can't run as the project is written down.
            JournalBusyError: Another run has the journals.
        """
        try:
            for place in self._places:
                self._start(place)
            while not stop.wait(_WATCH_S) and not all(place.done for place in self._places):
                for place in self._places:
                    self._look_after(place)
        finally:
            self._end(stop)

    def _start(self, place: _Place) -> None:
        place.process = ChildProcess("run", self._main_file, place.label, place.names, self._output)
        place.back_off.started()

    def _look_after(self, place: _Place) -> None:
        if place.process is None:
            if not place.done and place.back_off.due:
                self._start(place)
        elif not place.process.runs:
            self._bury(place, place.process)

    def _bury(self, place: _Place, process: ChildProcess) -> None:
        place.process = None
        report = process.ended()
        if report is not None:
            report.raise_if_final()
            place.done = report.kind == "done"
        if place.done:
            return
        wait_s = place.back_off.died()
        names = ", ".join(place.names)
        message = "%s (%s) has died, %s; it is started again in %.2g s"
        _log.warning(message, place.label, names, process.manner, wait_s)

    def _end(self, stop: Stop) -> None:
        """Ask all to end, wait, and end by force what has not; what they acknowledged is on disk."""
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.ask_to_end()
        if not _have_ended(running, stop):
            _log.warning("a process did not end in time and is killed; what it acknowledged waits in the journal")
        for process in running:
            process.ended(timeout_s=0)


def _have_ended(running: Sequence[ChildProcess], stop: Stop) -> bool:
    """Wait for all to end; not for long where somebody asks a second time."""
    deadline_s = time.monotonic() + _DRAIN_S
    patience = max(1, stop.wishes)
    while any(process.runs for process in running):
        if time.monotonic() > deadline_s or stop.wishes > patience:
            return False
        time.sleep(_GLANCE_S)  # nothing waits for several processes and a signal's wish at once
    return True


def plan(main_file: Path, names: Sequence[str]) -> dict[str, list[Path]]:
    """Ask a process for the embedded database files of collectors whose streams come from a callable.

    Raises:
        ConfigurationError: It can't say.
    """
    process = ChildProcess("plan", main_file, "plan", names, None)
    report = process.ended(_PLAN_S)
    if report is not None:
        report.raise_if_final()
    if report is None or report.files is None:
        raise ConfigurationError(
            f"a new process that imports {main_file} and makes the streams of its collectors ends with "
            f"{process.manner}; see what it printed"
        )
    return {name: [Path(file) for file in files] for name, files in report.files.items()}
