"""A run: all collectors of a project in several processes, until a stop is requested."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api2db.app._host import failure, started, wait_for_journals
from api2db.app._process import Output
from api2db.app._stopping import Stop, stopped_by_signals
from api2db.app._supervisor import Supervisor, assign, plan
from api2db.app._tracing import traced
from api2db.app.alerts import Alerts, Receiver, check_receivers
from api2db.app.history import History
from api2db.app.logs import is_set_up, log_to_console, log_to_file
from api2db.app.project import is_loading, running_main_file
from api2db.disk.folders import project_home
from api2db.errors import ConfigurationError
from api2db.ingest import Collector

logger = logging.getLogger("api2db.app")


class Run:
    """Runs collectors.

    There is one process for each core. It is spawned (never forked), imports the main file under another name than
    ``__main__``, and is restarted when it dies. Collectors that write to the same embedded database file share a
    process. Without a main file, as in an interactive session, the collectors run in threads of this process, and
    nothing restarts them.

    Args:
        collectors: The collectors to run.
        main_file: The file that the processes import; by default the file that Python was started with.
        output: Takes the lines that the processes print; by default they share this process's output.
        alerts: Who is told what: ``Webhook``, ``AlertCommand``, or an object with ``on`` and ``send``.

    Raises:
        ConfigurationError: Two collectors have the same name, or one is not a collector.
    """

    def __init__(
        self,
        collectors: Sequence[Collector],
        *,
        main_file: Path | None = None,
        output: Output | None = None,
        alerts: Sequence[Receiver] = (),
    ) -> None:
        for collector in collectors:
            if not isinstance(collector, Collector):
                raise ConfigurationError(f"Run takes a list of collectors; it was given a {type(collector).__name__}")
        names = [collector.name for collector in collectors]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ConfigurationError(f"two collectors are named {', '.join(twice)}; each needs a name of its own")
        self._collectors = list(collectors)
        self._main_file = main_file
        self._output = output
        self._alerts = check_receivers(alerts)
        self._stop = Stop()
        self._supervisor: Supervisor | None = None

    @property
    def processes(self) -> dict[int, tuple[str, ...]]:
        """The ids of the polling processes, each with the names of its collectors."""
        return {} if self._supervisor is None else self._supervisor.processes

    def stop(self) -> None:
        """Stop a ``run`` in another thread, as SIGTERM does."""
        self._stop.request()

    def run(self, once: bool = False, *, timeout: float | None = None) -> None:
        """Run until SIGINT, SIGTERM or ``stop``; then deliver waiting rows, within ten seconds.

        What can't be delivered by then waits in the journals for the next run: nothing is lost.

        Args:
            once: Poll each collector once in this process, wait until everything is delivered, and return.
            timeout: With ``once``: seconds to wait for the delivery; None for no limit.

        Raises:
            ConfigurationError: The project can't be run as it is written.
            JournalBusyError: Another process runs one of these collectors.
            PollError: With ``once``: a poll failed; rows from before the failure are stored.
            TargetUnavailableError: With ``once``: not everything could be delivered in time; it waits in the journal.
        """
        if is_loading():
            raise ConfigurationError(
                'Run(...).run() was called while the main file was imported; put it under if __name__ == "__main__":'
            )
        enabled = [collector for collector in self._collectors if collector.seconds > 0]
        if not enabled:
            logger.warning("no collector is enabled, so there is nothing to run")
            return
        main_file = self._main_file or running_main_file()
        with stopped_by_signals(self._stop), self._stop.forgotten_afterwards():
            if once:
                with traced():
                    self._run_once(enabled, timeout)
            elif main_file is None:
                with traced():
                    self._run_here(enabled)
            else:
                self._run_in_processes(enabled, main_file)

    def _run_once(self, enabled: Sequence[Collector], timeout_s: float | None) -> None:
        host = started(enabled, self._stop, polling=False)
        try:
            errors = host.poll_once(self._stop)
            flushed = host.flush(timeout_s, self._stop)
        finally:
            host.drain(0)
            home = project_home(enabled[0].home)
            Alerts(home, self._alerts).check_once([each.name for each in enabled])
        if (error := failure(errors, flushed=flushed)) is not None:
            raise error

    def _run_here(self, enabled: Sequence[Collector]) -> None:
        logger.info("there is no main file to start processes from, so the collectors run in threads of this process")
        host = started(enabled, self._stop)
        try:
            with self._watched(enabled):
                host.watch(self._stop)
        finally:
            host.drain()

    def _run_in_processes(self, enabled: Sequence[Collector], main_file: Path) -> None:
        if not is_set_up():
            log_to_console(logging.INFO)
            log_to_file(project_home(enabled[0].home), "run")
        wait_for_journals(enabled, self._stop)
        groups = self._groups(enabled, main_file)
        logger.info("collectors: %d, processes: %d; Ctrl-C ends the run", len(enabled), len(groups))
        self._supervisor = Supervisor(main_file, groups, self._output)
        try:
            with self._watched(enabled):
                self._supervisor.run(self._stop)
        finally:
            self._supervisor = None
        logger.info("all processes have ended")

    @contextmanager
    def _watched(self, enabled: Sequence[Collector]) -> Iterator[None]:
        """Keep the history and check for alerts while the block runs."""
        home = project_home(enabled[0].home)
        with History(home).recorded(), Alerts(home, self._alerts).checked([each.name for each in enabled]):
            yield

    def _groups(self, enabled: Sequence[Collector], main_file: Path) -> list[list[str]]:
        names = [collector.name for collector in enabled]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if len(names) == 1 or cores == 1:
            return [names]
        if any(callable(given) for collector in enabled for given in (collector.streams, collector.stores)):
            files = plan(main_file, names)
        else:
            files = {collector.name: _files(collector) for collector in enabled}
        return assign(names, {one.name: [*files.get(one.name, ()), *_hosts(one)] for one in enabled}, cores)


def _files(collector: Collector) -> list[Path]:
    given = [*_listed(collector.streams), *_listed(collector.stores)]
    files = [getattr(item, "embedded_file", None) for item in given]
    return [file.resolve() for file in files if file is not None]


def _hosts(collector: Collector) -> list[Path]:
    """The host that a resource polls, whose connections are a process's: as a file, which only one may have."""
    host = getattr(collector.import_target, "host", None)
    return [] if host is None else [Path(f"//{host}")]


def _listed(given: Any) -> Sequence[Any]:
    return [] if given is None or callable(given) else given
