"""The functions behind ``api2db status``; see ``figures``. They import little, so that the answer comes at once."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from api2db.app.figures import CollectorFigures, as_json, only_named, read_figures
from api2db.store import store_figures
from api2db.texts import counted


def watch_status(home: Path, only: str | None) -> None:
    """Show the status of the streams until Ctrl-C.

    Args:
        home: The project's folder.
        only: A text that the name of a collector or stream must contain.
    """
    from rich.console import Console

    from api2db.app._stopping import Stop, stopped_by_signals
    from api2db.app.live import LiveView

    stop = Stop()
    with stopped_by_signals(stop), LiveView(home, Console(), only=only):
        stop.wait(float("inf"))


def print_status(home: Path, *, as_json_text: bool, only: str | None = None) -> bool:
    """Print the status of the streams; return False if something needs attention."""
    found, stores = only_named(read_figures(home), only), store_figures(home)
    said = as_json(home, found, stores)
    if as_json_text:
        print(json.dumps(said, indent=2))
    elif found or stores:
        from rich.console import Console

        from api2db.app.screen import print_figures, print_stores

        console = Console()
        print_figures(console, found)
        print_stores(console, stores)
        console.out(_who_runs(found), highlight=False)
    else:
        print(f"There are no streams in {home}: nothing has been collected here, or this is not the project's folder.")
    return bool(said["healthy"])


def _who_runs(found: Sequence[CollectorFigures]) -> str:
    pids = {collector.name: _polling_pid(collector) for collector in found if collector.running}
    if not pids:
        return "; ".join(filter(None, ("No run is active", waiting_rows(found)))) + "."
    polling = {pid for pid in pids.values() if pid is not None}
    others = [name for name, pid in pids.items() if pid is None]
    said = [_who_polls(len(pids) - len(others), len(found), sorted(polling))] if polling else []
    if others:
        said.append(f"A program other than a run uses the streams of {', '.join(others)}.")
    return " ".join(said)


def _who_polls(polled: int, known: int, pids: Sequence[int]) -> str:
    verb, processes = "runs" if polled == 1 else "run", "process" if len(pids) == 1 else "processes"
    return f"{polled} of {known} collectors {verb}, in {processes} {', '.join(map(str, pids))}."


def _polling_pid(collector: CollectorFigures) -> int | None:
    """Return the process that polls; None if the journal's owner does not poll, such as a program with only streams."""
    if collector.status is None:
        return None
    try:
        os.kill(collector.status.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return collector.status.pid


def waiting_rows(found: Sequence[CollectorFigures]) -> str:
    """Say how many rows wait; an empty text if none do."""
    rows = sum(stream.rows_waiting for collector in found for stream in collector.streams)
    return f"{counted(rows, 'row')} waiting in the journals" if rows else ""
