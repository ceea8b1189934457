"""The long form: servers, workers and the database are killed, frozen and wiped; it is ``make torture-cluster``.

API2DB_TORTURE_S says for how many seconds; API2DB_TORTURE_SEED repeats a run's choices.
"""

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.journals import Machine
from tests.cluster.projects import Project, project_in, wait_until
from tests.servers.nats import NatsCluster, running_nats
from tests.servers.server import Server

NAMES = [f"c{number:02}" for number in range(20)]
MACHINES = [f"m{number}" for number in range(5)]
DURATION_S = float(os.environ.get("API2DB_TORTURE_S", "120"))
PAUSE_S = (1.0, 5.0)
TAKEN_OVER_S = 10
ELECTED_S = 15


class Torture:
    """What is done to a project, and how long it takes until its rows flow again.

    Attributes:
        slowest: The longest time until rows of all collectors flowed again, by what was done.
        done: How often each thing was done.
    """

    def __init__(self, nats: NatsCluster, server: Server, project: Project, chance: random.Random) -> None:
        self._nats = nats
        self._server = server
        self._project = project
        self._chance = chance
        self.slowest: dict[str, float] = {}
        self.done: dict[str, int] = {}

    def step(self) -> None:
        """Do one thing, and see the rows flow again."""
        deed: Callable[[], None] = self._chance.choice(
            [
                self.kill_server,
                self.kill_server,
                self.freeze_server,
                self.wipe_server,
                self.kill_worker,
                self.kill_worker,
                self.freeze_worker,
                self.kill_database,
            ]
        )
        begin_s = time.monotonic()
        deed()
        self._flow()
        name = deed.__name__
        self.done[name] = self.done.get(name, 0) + 1
        self.slowest[name] = max(self.slowest.get(name, 0.0), time.monotonic() - begin_s)
        time.sleep(self._chance.uniform(*PAUSE_S))

    def kill_server(self) -> None:
        server = self._chance.choice(self._nats.servers)
        server.kill()
        self._flow()
        server.start()

    def freeze_server(self) -> None:
        with self._chance.choice(self._nats.servers).frozen():
            time.sleep(self._chance.uniform(2, 12))

    def wipe_server(self) -> None:
        server = self._chance.choice(self._nats.servers)
        server.kill()
        server.wipe()
        server.start()
        self._heal()

    def kill_worker(self) -> None:
        machine = self._chance.choice(self._project.machines)
        machine.kill()
        self._project.machines.remove(machine)
        self._flow()
        self._project.start(machine.name)

    def freeze_worker(self) -> None:
        machine = self._chance.choice(self._project.machines)
        machine.pause()
        time.sleep(self._chance.uniform(1, 12))
        machine.go_on()

    def kill_database(self) -> None:
        self._server.kill()
        time.sleep(self._chance.uniform(0, 3))
        self._server.start()

    def _flow(self) -> None:
        before = self._project.counts()
        wait_until(
            lambda: all(count > before[name] for name, count in self._project.counts().items()), "rows flow", 120
        )

    def _heal(self) -> None:
        """Wait until all streams have all replicas: a second wiped server before that would be one too many."""
        store = Machine(self._project.address, self._project.place).store
        wait_until(lambda: bool(store.describe()["healthy"]), "all replicas", 120)
        store.leave()


@pytest.mark.torture
@pytest.mark.timeout(DURATION_S * 2 + 600)
def test_whatever_fails_no_row_is_lost_or_doubled(
    postgresql: Server, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    seed = int(os.environ.get("API2DB_TORTURE_SEED", str(random.randrange(1 << 30))))
    record_property("said", f"seed {seed}")
    with ExitStack() as stack:
        nats = stack.enter_context(running_nats())
        project = stack.enter_context(project_in(tmp_path, postgresql, nats.address("torture"), NAMES, seconds=0.5))
        for name in MACHINES:
            project.start(name)
        torture = Torture(nats, postgresql, project, random.Random(seed))
        wait_until(lambda: all(project.counts().values()), "all collectors run", 180)
        deadline_s = time.monotonic() + DURATION_S
        while time.monotonic() < deadline_s:
            torture.step()
        for machine in project.machines:
            assert machine.stop() == 0
        last = Machine(project.address, tmp_path)
        store = last.store
        states = {name: store.open(name).journal.cursor()["next"] for name in NAMES}
        waiting = sum(stream.rows_waiting for name in NAMES for stream in store.overview(name).streams)
        last.close()
        project.check()
        assert waiting or {name: len(project.ids(name)) for name in NAMES} == states
        record_property("said", f"{sum(states.values())} rows; done {torture.done}; slowest {torture.slowest}")
