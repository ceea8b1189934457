"""The long form: whatever can fail in a cluster fails every few seconds; it is ``make torture-cluster``.

Servers, workers and the database are killed, frozen and cut off, disks are wiped, clocks jump. Each server and each
worker is in a network namespace of its own, so that links can be cut; without root and ``ip`` they share the loopback,
and no link is cut. Clocks jump where there is a C compiler.

API2DB_TORTURE_S says for how many seconds; API2DB_TORTURE_SEED repeats a run's choices.
"""

import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.cluster.clocks import compiled
from tests.cluster.journals import Machine
from tests.cluster.network import Host, Network
from tests.cluster.projects import Project, WorkingMachine, project_in, wait_until
from tests.servers.fixtures import engine
from tests.servers.nats import NatsCluster, NatsServer, running_nats
from tests.servers.server import Server, running_server

NAMES = [f"c{number:02}" for number in range(20)]
MACHINES = [f"m{number}" for number in range(5)]
PINS = {"c17": "m0", "c18": "m0", "c19": "m1"}
DURATION_S = float(os.environ.get("API2DB_TORTURE_S", "120"))
SECONDS = float(os.environ.get("API2DB_TORTURE_INTERVAL_S", "1"))
PAUSE_S = (1.0, 4.0)
FROZEN_S = 45.0
FLOW_S = 300.0  # on a busy machine a worker needs minutes to start


class Torture:
    """What is done to a project, and how long it takes until its rows flow again.

    Attributes:
        times_s: How long it took each time until rows of all collectors flowed again, by what was done.
    """

    def __init__(
        self, nats: NatsCluster, server: Server, project: Project, chance: random.Random, log: Callable[[str], None]
    ) -> None:
        self._nats = nats
        self._server = server
        self._project = project
        self._chance = chance
        self._log = log
        self._looking = Machine(project.address, project.place)
        self._left: list[Callable[[], None]] = []
        self.times_s: dict[str, list[float]] = {}

    def deeds(self) -> list[Callable[[], None]]:
        """What can be done here."""
        deeds = [
            *(self.kill_leader, self.kill_leader, self.kill_follower, self.freeze_server, self.wipe_server),
            *(self.kill_worker, self.kill_worker, self.freeze_worker),
            self.kill_database,
        ]
        if self._project.network is not None:
            deeds += [self.cut_server, self.cut_two_servers, self.cut_worker, self.cut_worker_from_cluster]
            deeds += [self.cut_worker_from_database]
        if self._project.clocks is not None:
            deeds += [self.set_clock, self.set_clock]
        return deeds

    def step(self) -> None:
        """Do one thing, and see the rows of all collectors flow again; each thing has its turn, in any order."""
        if not self._left:
            self._left = self.deeds()
            self._chance.shuffle(self._left)
        deed = self._left.pop()
        deed()
        self._flow(f"after {deed.__name__}", NAMES)
        self._heal()
        time.sleep(self._chance.uniform(*PAUSE_S))

    def kill_leader(self) -> None:
        leader, _ = self._leader_and_others()
        leader.kill()
        self._flow("kill_leader", NAMES)
        leader.start()

    def kill_follower(self) -> None:
        _, others = self._leader_and_others()
        server = self._chance.choice(others)
        server.kill()
        self._flow("kill_follower", NAMES)
        server.start()

    def freeze_server(self) -> None:
        with self._chance.choice(self._nats.servers).frozen():
            self._flow("freeze_server", NAMES)

    def wipe_server(self) -> None:
        server = self._chance.choice(self._nats.servers)
        server.kill()
        server.wipe()
        server.start()
        self._flow("wipe_server", NAMES)

    def cut_server(self) -> None:
        with self._cut(self._host(self._chance.choice(self._nats.servers))):
            self._flow("cut_server", NAMES)

    def cut_two_servers(self) -> None:
        """Two servers don't hear each other; the third one, and all workers, hear both."""
        one, other = self._chance.sample(list(self._nats.servers), 2)
        with self._healed(self._host(one)) as host:
            host.lose(self._host(other).address)
            self._flow("cut_two_servers", NAMES)

    def kill_worker(self) -> None:
        machine = self._chance.choice(self._project.machines)
        machine.kill()
        self._project.machines.remove(machine)
        self._flow("kill_worker", self._not_pinned_to(machine))
        self._project.start(machine.name)

    def freeze_worker(self) -> None:
        machine = self._chance.choice(self._project.machines)
        machine.pause()
        # One that is frozen in the middle of a COPY holds its ledger's row, for as long as it is frozen.
        waker = threading.Timer(FROZEN_S, machine.go_on)
        waker.start()
        try:
            self._flow("freeze_worker", self._not_pinned_to(machine))
        finally:
            waker.cancel()
            waker.join()
            machine.go_on()

    def cut_worker(self) -> None:
        machine = self._chance.choice(self._project.machines)
        with self._cut(self._machine_host(machine)):
            self._flow("cut_worker", self._not_pinned_to(machine))

    def cut_worker_from_cluster(self) -> None:
        """A worker still reaches the database, where it may deliver what it has read."""
        machine = self._chance.choice(self._project.machines)
        with self._healed(self._machine_host(machine)) as host:
            for server in self._nats.servers:
                host.lose(server.plan.host)
            self._flow("cut_worker_from_cluster", self._not_pinned_to(machine))

    def cut_worker_from_database(self) -> None:
        """A worker still holds its collectors, and their rows wait."""
        machine = self._chance.choice(self._project.machines)
        with self._healed(self._machine_host(machine)) as host:
            host.lose(self._project.host)
            time.sleep(self._chance.uniform(2, 10))

    def set_clock(self) -> None:
        machine = self._chance.choice(self._project.machines)
        assert machine.clock is not None
        machine.clock.set(self._chance.choice([-86_400, -3600, -30, 0, 30, 3600, 86_400]))
        time.sleep(self._chance.uniform(1, 3))

    def kill_database(self) -> None:
        self._server.kill()
        time.sleep(self._chance.uniform(0, 5))
        self._server.start()

    def figures(self) -> str:
        """How often each thing was done, and how long it took until the rows flowed, median and longest."""
        return ", ".join(
            f"{name} {len(times)} times {statistics.median(times):.1f}/{max(times):.1f} s"
            for name, times in sorted(self.times_s.items())
        )

    def close(self) -> None:
        self._looking.close()

    def _flow(self, what: str, names: list[str]) -> None:
        """Wait until rows of collectors have come that were not under way at the moment."""
        begin_s = time.monotonic()
        time.sleep(0.3)
        before = self._project.counts()

        def flows() -> bool:
            counts = self._project.counts()
            return all(counts[name] > before[name] for name in names)

        try:
            wait_until(flows, f"rows flow: {what}", FLOW_S)
        except AssertionError:
            counts = self._project.counts()
            self._log(f"stuck: {[name for name in names if counts[name] <= before[name]]}")
            self._log(str(self._looking.store.claims()))
            raise
        took_s = time.monotonic() - begin_s
        self.times_s.setdefault(what, []).append(took_s)
        self._log(f"{what}: {took_s:.1f} s")

    def _heal(self) -> None:
        """Wait until all streams have all replicas: a second wiped server before that would be one too many."""
        wait_until(lambda: bool(self._looking.store.describe()["healthy"]), "all replicas", FLOW_S)

    def _leader_and_others(self) -> tuple[NatsServer, list[NatsServer]]:
        """The server that leads the log of a collector, and those that don't."""
        name = self._chance.choice(NAMES)
        leaders = {each["collector"]: each["leader"] for each in self._looking.store.describe()["collectors"]}
        leader = next((each for each in self._nats.servers if each.plan.name == leaders[name]), self._nats.servers[0])
        return leader, [each for each in self._nats.servers if each is not leader]

    def _not_pinned_to(self, machine: WorkingMachine) -> list[str]:
        return [name for name in NAMES if PINS.get(name) != machine.name]

    def _host(self, server: NatsServer) -> Host:
        assert self._project.network is not None
        return next(each for each in self._project.network.hosts.values() if each.address == server.plan.host)

    def _machine_host(self, machine: WorkingMachine) -> Host:
        assert self._project.network is not None
        return self._project.network.host(machine.name)

    @contextmanager
    def _healed(self, host: Host) -> Iterator[Host]:
        try:
            yield host
        finally:
            host.heal()

    @contextmanager
    def _cut(self, host: Host) -> Iterator[None]:
        with self._healed(host):
            host.cut()
            yield


@contextmanager
def database_for(network: Network | None) -> Iterator[Server]:
    """A PostgreSQL that lets in the hosts of a network."""
    options = () if network is None else ("-c", f"listen_addresses=127.0.0.1,{network.address}")
    with running_server(engine("postgresql"), options=options) as server:
        if network is not None:
            assert server.local is not None
            with (server.local.folder / "data" / "pg_hba.conf").open("a") as file:
                file.write("host all all 10.0.0.0/8 scram-sha-256\n")
            server.execute("SELECT pg_reload_conf()")
        yield server


LOAD = """
import sys, psycopg
from api2db.targets.postgresql._database import _BEGIN
connection = psycopg.connect(sys.argv[1])
cursor = connection.cursor()
cursor.execute(_BEGIN)
with cursor.copy("COPY load FROM STDIN") as copy:
    copy.write("1\\n" * 10_000)
    print("loading", flush=True)
    sys.stdin.read()
"""


@pytest.mark.torture
def test_a_machine_that_vanishes_in_the_middle_of_a_load_soon_holds_no_lock() -> None:
    if not Network.works_here():
        pytest.skip("links can't be cut here: it takes root and ip")
    with Network() as network, database_for(network) as server:
        server.execute("CREATE TABLE load (id int)")
        address = make_conninfo(
            host=network.address, port=server.port, user=server.user, password=server.password, dbname="postgres"
        )
        host = network.host("loader")
        command = [*host.inside, sys.executable, "-c", LOAD, address]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as loader:
            try:
                assert loader.stdout is not None
                assert loader.stdout.readline() == "loading\n"
                host.cut()
                loads = "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'COPY load%'"
                assert server.execute(loads)
                wait_until(lambda: not server.execute(loads), "the server ends the load", 60)
            finally:
                loader.kill()


@pytest.mark.torture
@pytest.mark.timeout(DURATION_S * 2 + 900)
# nats-py forgets the connections of attempts that failed, and closes none of them.
@pytest.mark.filterwarnings("ignore:.*StreamWriter.__del__:pytest.PytestUnraisableExceptionWarning")
def test_whatever_fails_no_row_is_lost_or_doubled(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("API2DB_TORTURE_SEED", str(random.randrange(1 << 30))))

    def log(line: str) -> None:
        with (tmp_path / "torture.log").open("a") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {line}\n")

    with ExitStack() as stack:
        network = stack.enter_context(Network()) if Network.works_here() else None
        clocks = compiled(tmp_path)
        log(f"seed {seed}; network namespaces: {network is not None}; clocks: {clocks is not None}")
        hosts = [] if network is None else [network.host(f"nats-{number}") for number in (1, 2, 3)]
        nats = stack.enter_context(running_nats(hosts=[(each.address, each.inside) for each in hosts]))
        server = stack.enter_context(database_for(network))
        address, host = nats.address("torture"), "" if network is None else network.address
        given = {"host": host, "pins": PINS, "network": network, "clocks": clocks}
        project = stack.enter_context(project_in(tmp_path, server, address, NAMES, SECONDS, **given))
        for name in MACHINES:
            project.start(name)
        torture = Torture(nats, server, project, random.Random(seed), log)
        stack.callback(torture.close)
        wait_until(lambda: all(project.counts().values()), "all collectors run", 180)
        log("all collectors run")
        deadline_s = time.monotonic() + DURATION_S
        while time.monotonic() < deadline_s:
            torture.step()
        project.stop_polling()
        rows = _drained(project, tmp_path)
        for machine in project.machines:
            assert machine.stop() == 0
        last = Machine(project.address, tmp_path)
        states = {name: last.store.open(name).journal.cursor()["next"] for name in NAMES}
        last.close()
        project.check()
        assert {name: len(project.ids(name)) for name in NAMES} == states, "rows that were put are not there"
        said = f"seed {seed}; {sum(states.values())} rows; until rows flow, median/longest: {torture.figures()}"
        log(f"{said}; {rows}")
        record_property("said", said)


def _drained(project: Project, place: Path) -> dict[str, int]:
    """Wait until nothing waits in the cluster; return how many rows there are."""
    machine = Machine(project.address, place)

    def is_drained() -> bool:
        streams = [stream for name in NAMES for stream in machine.store.overview(name).streams]
        return not sum(stream.rows_waiting for stream in streams)

    time.sleep(SECONDS + 1)  # a poll that runs may put its last rows
    wait_until(is_drained, "everything is delivered", FLOW_S)
    machine.close()
    return project.counts()
