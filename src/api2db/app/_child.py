"""A process of a run: ``python -m api2db.app._child WHAT REPORT MAIN_FILE PROCESS NAME…``, started by a supervisor.

It ends on SIGTERM or SIGINT, when its parent is gone (its standard input closes), or when nothing is left to do. Each
time it delivers what it can within some seconds and leaves the rest in the journal.
"""

import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from api2db.app._cluster import ClusterHost, cluster_address, use_cluster
from api2db.app._host import started
from api2db.app._process import Report, send_report
from api2db.app._stopping import Stop, stopped_by_signals
from api2db.app._tracing import traced
from api2db.app.logs import is_set_up, log_to_console, log_to_file
from api2db.app.project import collectors_named, load
from api2db.errors import ConfigurationError, JournalBusyError
from api2db.ingest import Collector, home_of_collector
from api2db.ingest.runner import resolved

_LONGEST_END_S: Final = 10.0
logger = logging.getLogger("api2db.app")


def main(arguments: Sequence[str]) -> int:
    """Do what the supervisor asks for; return the exit code, which the report explains."""
    what, report, main_file, process, *names = arguments
    descriptor, path, stop = int(report), Path(main_file), Stop()
    with stopped_by_signals(stop):
        _watch_parent(stop)
        try:
            use_cluster()
            collectors = _loaded(path, names)
            said = _planned(collectors) if what == "plan" else _run(collectors, process, stop)
        except ConfigurationError as error:
            said = Report("configuration", str(error))
        except JournalBusyError as error:
            said = Report("busy", str(error))
    send_report(descriptor, said)
    return 0 if said.kind in {"done", "asked", "plan"} else 2


def _loaded(main_file: Path, names: Sequence[str]) -> list[Collector]:
    sys.argv = [str(main_file)]
    if sys.path and sys.path[0] in {"", str(Path.cwd())}:
        del sys.path[0]  # python -m puts the current folder there; python main.py does not.
    load(main_file)
    return collectors_named(names, main_file)


def _planned(collectors: Sequence[Collector]) -> Report:
    files = {
        collector.name: [
            str(file.resolve())
            for item in _streams_and_stores(collector)
            if (file := getattr(item, "embedded_file", None)) is not None
        ]
        for collector in collectors
    }
    return Report("plan", files=files)


def _streams_and_stores(collector: Collector) -> list[Any]:
    stores = [] if collector.stores is None else resolved(collector.name, "stores", collector.stores)
    return [*resolved(collector.name, "streams", collector.streams), *stores]


def _run(collectors: Sequence[Collector], process: str, stop: Stop) -> Report:
    if not is_set_up():
        log_to_console(logging.WARNING)
    log_to_file(home_of_collector(collectors[0]), process)
    with traced():
        return _polled(collectors, stop)


def _polled(collectors: Sequence[Collector], stop: Stop) -> Report:
    host = ClusterHost(collectors) if cluster_address() else started(collectors, stop)
    verb = "may poll" if cluster_address() else "polls"
    logger.info("process %d %s %s", os.getpid(), verb, ", ".join(collector.name for collector in collectors))
    host.watch(stop)
    asked = stop.requested
    _end_in_time()
    if not host.drain():
        logger.info("not everything could be delivered before the end; it waits in the journal")
    return Report("asked" if asked else "done")


def _watch_parent(stop: Stop) -> None:
    """Use standard input as the connection to the parent, and give the user's code an empty one."""
    line = os.dup(0)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)

    def wait() -> None:
        while os.read(line, 1):
            pass
        stop.request()
        _end_in_time()

    threading.Thread(target=wait, name="api2db-parent", daemon=True).start()


def _end_in_time() -> None:
    """Exit after ten seconds even if something hangs; everything acknowledged is on disk."""
    timer = threading.Timer(_LONGEST_END_S, os._exit, (1,))
    timer.daemon = True
    timer.start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
