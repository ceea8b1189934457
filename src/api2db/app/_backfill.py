"""Run a backfill, and show how far it is."""

import dataclasses
import logging
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from api2db.app.logs import log_to_console
from api2db.app.project import collectors_in, load
from api2db.app.run import Run
from api2db.app.screen import ConsoleHandler
from api2db.errors import ConfigurationError
from api2db.rest import Resource
from api2db.rest.backfill import Backfill


def run_backfill(main_file: Path, name: str, window: tuple[str, str, str]) -> None:
    """Poll the history of a collector into its streams.

    Args:
        main_file: The project's.
        name: The collector's.
        window: Where to begin and to end, and the length of a window.

    Raises:
        ConfigurationError: There is no such collector, or its resource can't be backfilled.
        JournalBusyError: A run is on.
        PollError: A window could not be polled; the next backfill goes on there.
    """
    collectors = {collector.name: collector for collector in collectors_in(load(main_file))}
    if name not in collectors:
        raise ConfigurationError(f"{main_file} has no collector {name!r}; it has: {', '.join(collectors)}")
    resource = collectors[name].import_target
    if not isinstance(resource, Resource):
        raise ConfigurationError(
            f"collector {name} polls a function of yours; only resources of api2db.rest have windows"
        )
    console = Console(stderr=True)
    log_to_console(logging.WARNING, ConsoleHandler(console))
    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TextColumn("windows"), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(name, total=None)
        backfill = Backfill(
            resource, *window, on_window=lambda done, of: progress.update(task, completed=done, total=of)
        )
        Run([dataclasses.replace(collectors[name], import_target=backfill)]).run(once=True)
