"""The command that polls a collector's history: beside a run through the run's process, otherwise by itself."""

import dataclasses
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from api2db.app.logs import log_to_console
from api2db.app.project import collector_in
from api2db.app.run import Run
from api2db.app.screen import ConsoleHandler
from api2db.errors import ConfigurationError, JournalBusyError
from api2db.ingest import Collector, home_of_collector, read_status
from api2db.ingest.backfill import ask_for_backfill, cancel_backfill
from api2db.ingest.status import CollectorStatus
from api2db.journal import journal_store
from api2db.rest import Resource

_LOOK_S: Final = 0.25
_GONE_S: Final = 15.0
"""A run restarts a process that has died; a journal without an owner for so long has no run."""

_SECONDS: Final = 60.0

Window = tuple[str, str, str]


def run_backfill(main_file: Path, name: str, window: Window) -> bool:
    """Poll the history of a collector into its streams, and show the progress.

    Args:
        main_file: The project's main file.
        name: The collector's name.
        window: Where to begin and to end, and the length of a window.

    Returns:
        Whether it has got through, or goes on in the run after Ctrl-C.

    Raises:
        ConfigurationError: There is no such collector, its resource can't be backfilled, or another backfill is under
            way.
        JournalBusyError: Another process than a run has the journal.
        PollError: Without a run: a window could not be polled; the next backfill continues there.
    """
    collector = collector_in(main_file, name)
    resource = collector.import_target
    if not isinstance(resource, Resource):
        raise ConfigurationError(
            f"collector {name} polls a function of yours; only resources of api2db.rest have windows"
        )
    resource.backfill(*window)  # a wrong argument is refused before anything is stored
    console, home = Console(stderr=True), home_of_collector(collector)
    log_to_console(logging.WARNING, ConsoleHandler(console))
    for warning in _warnings(collector):
        console.print(warning, style="yellow", highlight=False)
    if _is_held(home, name):
        return _run_beside(home, name, window, console)
    with _progress(name, console) as (progress, task):
        backfill = resource.backfill(*window, lambda done, of: progress.update(task, completed=done, total=of))
        seconds = collector.seconds or _SECONDS  # one that is disabled has a history all the same
        polled = dataclasses.replace(collector, import_target=backfill, seconds=seconds, poll_timeout=None)
        Run([polled]).run(once=True)
    return True


def end_backfill(main_file: Path, name: str) -> None:
    """Cancel the backfill of a collector, and print that.

    Raises:
        ConfigurationError: There is no such collector, or no backfill is under way.
    """
    begin, end, _ = cancel_backfill(home_of_collector(collector_in(main_file, name)), name)
    print(f"The backfill of {name} from {begin} to {end} is cancelled; rows that it has loaded stay.")


def _warnings(collector: Collector) -> list[str]:
    """What to know of streams that do not replace rows by their keys."""
    streams = () if callable(collector.streams) else collector.streams
    return [
        f"{type(stream).__name__} of {collector.name} has no keys: rows of these windows that it has already are added "
        "a second time"
        for stream in streams
        if not hasattr(stream, "keys") and getattr(stream, "mode", "shard") == "shard"
    ]


def _is_held(home: Path, name: str) -> bool:
    try:
        journal_store(home).check_free(name)
    except JournalBusyError:
        return True
    return False


@contextmanager
def _progress(name: str, console: Console) -> Iterator[tuple[Progress, TaskID]]:
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("windows"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield progress, progress.add_task(name, total=None)


def _run_beside(home: Path, name: str, window: Window, console: Console) -> bool:
    """Ask the run for a backfill, and show its progress until it has ended."""
    done, total = ask_for_backfill(home, name, window)
    try:
        with _progress(name, console) as (progress, task):
            progress.update(task, completed=done, total=total)
            said = _followed(home, name, window, progress, task)
    except KeyboardInterrupt:
        said = f"The backfill continues in the run; to end it: api2db backfill {name} --cancel"
        console.print(said, highlight=False)
        return True
    if said is not None:
        console.print(said, highlight=False)
    return said is None


def _followed(home: Path, name: str, window: Window, progress: Progress, task: TaskID) -> str | None:
    """Show progress and errors until the end; return what has ended it, or None if it has got through."""
    pid, error_at, seen_s = None, None, time.monotonic()
    while True:
        status = read_status(home, name)
        backfill = None if status is None else status.backfill
        pid = status.pid if pid is None and status is not None else pid
        if backfill is not None and (backfill.begin, backfill.end, backfill.step) == window:
            progress.update(task, completed=backfill.done, total=backfill.total or None)
            if backfill.error is not None and backfill.error_at != error_at:
                error_at = backfill.error_at
                progress.console.print(backfill.error, style="yellow", highlight=False)
            if backfill.ended is not None:
                return None if backfill.ended == "done" else "The backfill was cancelled."
        elif _has_restarted(status, pid):
            return "The backfill has ended while the run was started again: it has got through, or was cancelled."
        if journal_store(home).overview(name).running:
            seen_s = time.monotonic()
        elif time.monotonic() - seen_s > _GONE_S:
            return "The run has ended; the backfill continues when it is started again."
        time.sleep(_LOOK_S)  # no call that all systems have waits for another process's file


def _has_restarted(status: CollectorStatus | None, pid: int | None) -> bool:
    return status is not None and status.pid != pid
