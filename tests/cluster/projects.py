"""One project on several machines: each is a home and processes of its own on this one."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from tests.cluster.clocks import Clock
from tests.cluster.network import Network
from tests.servers.processes import kill
from tests.servers.server import Server

ROOT = Path(__file__).parents[2]

MAIN = """
    import os, time
    from pathlib import Path
    from api2db import Collector, Run
    from api2db.stream import Stream2Local, Stream2Sql

    SERVER = {server!r}
    PINS = {pins!r}

    def count(state):
        # Two pages a poll: the state after the first is committed with it.
        for _ in range(0 if Path({enough!r}).exists() else 2):
            state["next"] = state.get("next", 0) + 1
            yield [{{"id": state["next"], "pid": os.getpid()}}]

    def stream(name):
        if name in PINS:
            return Stream2Local(name)
        return Stream2Sql(name, dialect="postgresql", table=name, **SERVER)

    collectors = [Collector(name, {seconds}, count, [stream(name)], pin=PINS.get(name)) for name in {names!r}]

    if __name__ == "__main__":
        Run(collectors).run()
"""


@dataclass
class WorkingMachine:
    """A machine that runs the project.

    Attributes:
        name: The machine's name.
        process: Its run.
        clock: Its clock, where that can be set.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    clock: Clock | None

    def family(self) -> list[psutil.Process]:
        """The run and its workers."""
        try:
            run = psutil.Process(self.process.pid)
            return [run, *run.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def kill(self) -> None:
        """Power off."""
        for process in self.family():
            kill(process)
        self.process.wait(10)

    def pause(self) -> None:
        """Freeze all its processes."""
        for process in self.family():
            process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        for process in self.family():
            process.send_signal(signal.SIGCONT)

    def stop(self) -> int:
        """End it in order; return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1


@dataclass
class Project:
    """A project whose collectors count into tables of a database.

    Attributes:
        names: Its collectors.
        database: The database of all tables.
        address: Of the cluster.
        host: Where the machines find the database.
        pins: The machines of the collectors that write files.
        network: Has a host for each machine; by default all are on this one.
        clocks: The library that lets the clocks of machines be set.
        main: The text of its main file.
    """

    place: Path
    server: Server
    database: str
    address: str
    names: Sequence[str]
    seconds: float = 0.1
    host: str = ""
    pins: Mapping[str, str] = field(default_factory=dict)
    network: Network | None = None
    clocks: Path | None = None
    main: str = MAIN
    machines: list[WorkingMachine] = field(default_factory=list)

    def start(self, name: str, processes: int = 1) -> WorkingMachine:
        """Run the project on a machine, with so many workers."""
        home = self.place / name
        home.mkdir(exist_ok=True)
        server = {
            "db_name": self.database,
            "host": self.host or self.server.host,
            "port": str(self.server.port),
            "username": self.server.user,
            "password": self.server.password,
        }
        main = textwrap.dedent(self.main).format(
            server=server,
            names=list(self.names),
            seconds=self.seconds,
            pins=dict(self.pins),
            enough=str(self.place / "enough"),
        )
        (home / "main.py").write_text(main)
        paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
        given = {"API2DB_CLUSTER": self.address, "API2DB_MACHINE": name, "API2DB_HOME": str(home), "PYTHONPATH": paths}
        clock = None if self.clocks is None else Clock(home / "clock", self.clocks)
        if clock is not None:
            given |= clock.environment
        cores = sorted(os.sched_getaffinity(0))
        affinity = [cores[(len(self.machines) + place) % len(cores)] for place in range(processes)]
        inside = () if self.network is None else self.network.host(name).inside
        log = home / "output"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*inside, sys.executable, str(home / "main.py")],
                cwd=home,
                env=os.environ | given,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=lambda: os.sched_setaffinity(0, affinity),  # noqa: PLW1509 - as many workers as cores
            )
        machine = WorkingMachine(name, process, log, clock)
        self.machines.append(machine)
        return machine

    def ids(self, name: str) -> list[int]:
        """The rows of a table in the order in which they were committed, and by number within a transaction.

        For a collector that writes files: the rows in the order of their names.
        """
        if name in self.pins:
            tables = [pq.read_table(file, columns=["id"]) for file in sorted(self._folder(name).glob("*.parquet"))]
            return [each for table in tables for each in table.column("id").to_pylist()]
        if name not in self._tables():
            return []
        query = f'SELECT id FROM "{name}" ORDER BY xmin::text::bigint, id'
        return [row[0] for row in self.server.execute(query, self.database)]

    def counts(self) -> dict[str, int]:
        """How many rows there are of each collector, or files where it writes them."""
        tables = self._tables()
        query = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM \"{name}\"" for name in sorted(tables))
        found = dict(self.server.execute(query, self.database)) if tables else {}
        files = {name: len(list(self._folder(name).glob("*.parquet"))) for name in self.pins}
        return {name: files[name] if name in files else int(found.get(name, 0)) for name in self.names}

    def _folder(self, name: str) -> Path:
        return self.place / self.pins[name] / "STORE" / name / "parquet"

    def _tables(self) -> set[str]:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        return {row[0] for row in self.server.execute(query, self.database)} & set(self.names)

    def stop_polling(self) -> None:
        """Let the import functions give no more rows."""
        (self.place / "enough").touch()

    def check(self) -> None:
        """Nothing is lost, nothing is doubled, and the order was kept."""
        for name in self.names:
            found = self.ids(name)
            assert found == list(range(1, len(found) + 1)), (name, _first_fault(found))

    def logs(self) -> str:
        return "\n".join(f"{each.name}: {each.log.read_text()[-3000:]}" for each in self.machines)


def _first_fault(found: Sequence[int]) -> str:
    for place, number in enumerate(found, 1):
        if number != place:
            return f"row {place} is {found[max(0, place - 4) : place + 4]}"
    return "nothing"


@contextmanager
def project_in(
    place: Path, server: Server, address: str, names: Sequence[str], seconds: float = 0.1, **options: Any
) -> Iterator[Project]:
    project = Project(place, server, server.new_database(), address, names, seconds, **options)
    try:
        yield project
    except BaseException:
        sys.stderr.write(project.logs())
        raise
    finally:
        for machine in project.machines:
            machine.go_on()
            machine.kill()


def wait_until(is_so: Callable[[], bool], what: str, timeout_s: float = 90) -> float:
    """Wait for a condition; return after how many seconds it held."""
    begin_s = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin_s < timeout_s, f"not within {timeout_s} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - begin_s
