"""A run: all collectors of a project in several processes, until a stop is requested."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

from api2db.app._background import Background, Key, check_free, under_way
from api2db.app._beside import beside, repeated
from api2db.app._cluster import cluster_address, use_cluster, worker_groups
from api2db.app._host import failure, started, wait_for_journals
from api2db.app._process import Output
from api2db.app._stopping import Stop, stopped_by_signals
from api2db.app._supervisor import Supervisor, assign, plan
from api2db.app._tracing import traced
from api2db.app.alerts import Alerts, Receiver, check_receivers
from api2db.app.figures import Rates, read_figures
from api2db.app.history import MINUTES, History
from api2db.app.logs import is_set_up, log_to_console, log_to_file
from api2db.app.project import is_loading, running_main_file
from api2db.errors import ConfigurationError
from api2db.ingest import Collector, home_of_collector
from api2db.texts import describe_error

logger = logging.getLogger("api2db.app")


class Run:
    """Runs collectors.

    There is one process for each core. It is spawned (never forked), imports the main file under another name than
    ``__main__``, and is restarted when it dies. Collectors that write to the same embedded database file share a
    process. Without a main file, as in an interactive session, the collectors run in threads of this process, and
    nothing restarts them.

    ``run`` returns when the run has ended; ``start`` returns at once, for notebooks and other interactive sessions.

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
        self._runs = False
        self._background: Background | None = None
        self._shows: Thread | None = None
        self._rates = Rates()

    @property
    def processes(self) -> dict[int, tuple[str, ...]]:
        """The ids of the polling processes, each with the names of its collectors."""
        return {} if self._supervisor is None else self._supervisor.processes

    def start(self) -> None:
        """Start the run in the background, and return once its collectors have begun.

        It is the run that ``run`` does: in processes where there is a main file, otherwise in threads of this process.
        It goes on until ``stop``, or until the interpreter ends; both deliver waiting rows, within ten seconds. In a
        notebook a table below the cell shows the run and is kept up to date.

        Raises:
            ConfigurationError: The project can't be run as it is written, or a run that was started in this process
                has one of these collectors.
            JournalBusyError: Another process runs one of these collectors.
        """
        from api2db.app._notebook import show_in_notebook  # it imports rich

        enabled, main_file = self._runnable("start()"), self._main_file or running_main_file()
        if not enabled:
            return
        if self._runs:
            raise ConfigurationError("run() of this Run is still going; call stop() first")
        stop = Stop()
        run = self._run_here if main_file is None else partial(self._run_in_processes, main_file=main_file)
        background = Background(_keys(enabled), partial(run, enabled, stop), stop)
        background.start()
        self._background = background
        self._shows = show_in_notebook(self._view, background.wait)

    def stop(self) -> None:
        """Stop the run.

        One that ``start`` started has ended when this returns; so has a run of the same collectors that another ``Run``
        of this process started. A ``run`` in another thread is asked to stop, as by SIGTERM.

        Raises:
            Api2dbError: What ended the started run before.
        """
        mine = [] if self._background is None else [self._background]
        others = [each for each in under_way(_keys(self._collectors)) if each not in mine]
        if self._runs or not (mine or others):
            self._stop.request()
        try:
            for background in (*others, *mine):
                background.stop()
        finally:
            if self._shows is not None:
                self._shows.join()

    def __repr__(self) -> str:
        return f"<Run {', '.join(collector.name for collector in self._collectors)}: {self._state()}>"

    def _repr_html_(self) -> str:
        return self._view()[0]

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
        enabled, main_file = self._runnable("run()"), self._main_file or running_main_file()
        if not enabled:
            return
        check_free(_keys(enabled))
        stop = self._stop
        with stopped_by_signals(stop), stop.forgotten_afterwards(), self._marked_as_running():
            if once:
                self._run_once(enabled, stop, timeout)
            elif main_file is None:
                self._run_here(enabled, stop)
            else:
                self._run_in_processes(enabled, stop, main_file=main_file)

    @contextmanager
    def _marked_as_running(self) -> Iterator[None]:
        self._runs = True
        try:
            yield
        finally:
            self._runs = False

    def _runnable(self, call: str) -> list[Collector]:
        """Return the enabled collectors.

        Raises:
            ConfigurationError: The main file is being imported.
        """
        if is_loading():
            raise ConfigurationError(
                f'Run(...).{call} was called while the main file was imported; put it under if __name__ == "__main__":'
            )
        enabled = [collector for collector in self._collectors if collector.seconds > 0]
        if not enabled:
            logger.warning("no collector is enabled, so there is nothing to run")
        use_cluster()
        return enabled

    @traced()
    def _run_once(self, enabled: Sequence[Collector], stop: Stop, timeout_s: float | None) -> None:
        host = started(enabled, stop, polling=False)
        try:
            errors = host.poll_once(stop)
            flushed = host.flush(timeout_s, stop)
        finally:
            host.drain(0)
            Alerts(home_of_collector(enabled[0]), self._alerts).check_once([each.name for each in enabled])
        if (error := failure(errors, flushed=flushed)) is not None:
            raise error

    @traced()
    def _run_here(self, enabled: Sequence[Collector], stop: Stop, begun: Callable[[], None] = lambda: None) -> None:
        logger.info("there is no main file to start processes from, so the collectors run in threads of this process")
        host = started(enabled, stop)
        try:
            with self._watched(enabled):
                begun()
                host.watch(stop)
        finally:
            host.drain()

    def _run_in_processes(
        self, enabled: Sequence[Collector], stop: Stop, begun: Callable[[], None] = lambda: None, *, main_file: Path
    ) -> None:
        if not is_set_up():
            log_to_console(logging.INFO)
            log_to_file(home_of_collector(enabled[0]), "run")
        if cluster_address() is None:
            wait_for_journals(enabled, stop)
        groups = self._groups(enabled, main_file)
        logger.info("collectors: %d, processes: %d; Ctrl-C ends the run", len(enabled), len(groups))
        self._supervisor = Supervisor(main_file, groups, self._output)
        try:
            with self._watched(enabled):
                self._supervisor.run(stop, begun)
        finally:
            self._supervisor = None
        logger.info("all processes have ended")

    @contextmanager
    def _watched(self, enabled: Sequence[Collector]) -> Iterator[None]:
        """Check for alerts and keep the history while the block runs; both use the same reading of the figures."""
        home, names = home_of_collector(enabled[0]), {each.name for each in enabled}
        alerts, history = Alerts(home, self._alerts), History(home)

        def look() -> None:
            found = read_figures(home)
            try:
                alerts.check([each for each in found if each.name in names])
            finally:
                history.add(found)

        with alerts.sending(), beside(repeated(look, MINUTES.step_s, "a look at the figures"), name="api2db-figures"):
            yield

    def _groups(self, enabled: Sequence[Collector], main_file: Path) -> list[list[str]]:
        names = [collector.name for collector in enabled]
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if cluster_address() is not None:
            return worker_groups(enabled, cores)
        if len(names) == 1 or cores == 1:
            return [names]
        if any(callable(given) for collector in enabled for given in (collector.streams, collector.stores)):
            files = plan(main_file, names)
        else:
            files = {collector.name: _files(collector) for collector in enabled}
        return assign(names, {one.name: [*files.get(one.name, ()), *_hosts(one)] for one in enabled}, cores)

    def _state(self) -> str:
        """Whether the run that ``start`` started is going on, or what has ended it."""
        background = self._background
        if background is None:
            return "not started"
        if background.is_alive:
            return "running; stop() ends it"
        return "ended" if background.error is None else f"ended: {describe_error(background.error)}"

    def _view(self) -> tuple[str, str]:
        """Return the state and the figures of all collectors, as HTML and as text."""
        from api2db.app._notebook import view

        return view(self._state(), _keys(self._collectors), self._rates)


def _keys(collectors: Sequence[Collector]) -> list[Key]:
    return [(home_of_collector(collector), collector.name) for collector in collectors]


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
