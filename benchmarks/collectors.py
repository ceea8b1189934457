"""What 100 and 500 collectors of one process take, busy and idle, into one DuckDB file and one PostgreSQL."""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.engines import running
from benchmarks.figure import Figure
from tests.servers.server import Server

_COUNTS = (100, 500)
_BUSY_S = 5.0
_IDLE_S = 3600.0
_WINDOW_S = 20.0
_LOOK_EVERY_S = 4.0  # each look at thousands of descriptors takes processor time, which is counted
_READY_S = 120.0
_AIMS = {("busy", "CPU"): 15.0, ("idle", "CPU"): 2.0, ("busy", "memory"): 250.0}
_MOST_COLLECTORS = 100  # whose memory has an aim
_PROCESS = Path("/proc/self")


def measure(folder: Path) -> Iterator[Figure]:
    """Each number of collectors in a process of its own, once polling every 5 s and once waiting for the next hour."""
    counts = [int(count) for count in os.environ.get("API2DB_BENCH_COLLECTORS", "").split()] or _COUNTS
    for count in counts:
        yield from _measured(folder / f"duckdb-{count}", "DuckDB", count, ["duckdb"])
    with running("postgresql") as server:
        if server is None:
            return
        for count in counts:
            yield from _on_server(folder / f"postgresql-{count}", server, count)


def _on_server(folder: Path, server: Server, count: int) -> Iterator[Figure]:
    database = server.new_database()
    address = [server.host, str(server.port), server.user, server.password]
    yield from _measured(folder, "PostgreSQL", count, ["postgresql", database, *address])
    server.execute(f"DROP DATABASE {database} WITH (FORCE)")


def _measured(folder: Path, target: str, count: int, where: list[str]) -> Iterator[Figure]:
    for case, seconds in (("busy", _BUSY_S), ("idle", _IDLE_S)):
        home = folder / case
        home.mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.collectors", str(home), str(count), str(seconds), *where]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found: dict[str, float] = json.loads(said.splitlines()[-1])
        title = f"{count} {case} collectors into {target}"
        for name, unit in _UNITS.items():
            aim = None if name == "memory" and count > _MOST_COLLECTORS else _AIMS.get((case, name))
            yield Figure(f"{title}: {name}", found[name], unit, aim=aim, less_is_better=True)


_UNITS = {
    "CPU": "% of one",
    "memory": "MB",
    "threads": "",
    "descriptors": "",
    "connections": "",
    "tables": "",
    "start": "s",
    "all delivered": "s",
    "stop": "s",
}


def _run(home: Path, count: int, seconds: float, where: list[str]) -> dict[str, float]:
    """Run the collectors in this process, which is on Linux, and look at it."""
    from api2db.app._host import Host

    host = Host([_collector(home, number, seconds, where) for number in range(count)])
    began_s = time.monotonic()
    host.start()
    started_s = time.monotonic()
    tables = _tables_of(home, where)
    while tables() < count and time.monotonic() - started_s < _READY_S:
        time.sleep(0.2)  # no database tells of a new table by itself
    ready_s = time.monotonic()
    time.sleep(2.0)  # until threads and connections that only the first load needed are gone
    cpu_s, window_s = _cpu_s(), time.monotonic()
    threads: list[int] = []
    descriptors: list[int] = []
    connections: list[int] = []
    while time.monotonic() - window_s < _WINDOW_S:
        threads.append(len(list((_PROCESS / "task").iterdir())))
        descriptors.append(len(list((_PROCESS / "fd").iterdir())))
        time.sleep(_LOOK_EVERY_S)
    cpu = 100 * (_cpu_s() - cpu_s) / (time.monotonic() - window_s)
    connections.append(_connections(where))
    found = {
        "CPU": cpu,
        "memory": _memory_mb(),
        "threads": max(threads),
        "descriptors": max(descriptors),
        "connections": max(connections),
        "start": started_s - began_s,
        "all delivered": ready_s - began_s,
    }
    began_s = time.monotonic()
    host.drain(60)
    return {**found, "stop": time.monotonic() - began_s, "tables": float(tables())}


def _collector(home: Path, number: int, seconds: float, where: list[str]) -> Any:
    from api2db import Collector, Stream2Sql

    name = f"c{number:03}"
    if where[0] == "duckdb":
        stream = Stream2Sql(name, "all.duckdb", "duckdb", home=home)
    else:
        database, host, port, user, password = where[1:]
        stream = Stream2Sql(name, database, "postgresql", user, password, host, port=port, home=home)
    return Collector(name, seconds, lambda: [{"id": number, "at": time.time()}], [stream])


def _tables_of(home: Path, where: list[str]) -> Callable[[], int]:
    if where[0] == "duckdb":
        return lambda: _count(lambda: _duckdb(home))
    return lambda: _count(lambda: _postgresql(where))


_TABLES = "SELECT count(*) FROM information_schema.tables WHERE table_name LIKE 'c___'"


def _count(connect: Callable[[], Any]) -> int:
    with closing(connect()) as connection:
        (found,) = connection.execute(_TABLES).fetchone()
        return int(found)


def _duckdb(home: Path) -> Any:
    import duckdb

    return duckdb.connect(str(home / "all.duckdb"))


def _postgresql(where: list[str]) -> Any:
    import psycopg

    database, host, port, user, password = where[1:]
    return psycopg.connect(dbname=database, host=host, port=int(port), user=user, password=password)


def _connections(where: list[str]) -> int:
    if where[0] == "duckdb":
        return 0
    with closing(_postgresql(where)) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        return int(connection.execute(query).fetchone()[0]) - 1


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _memory_mb() -> float:
    [line] = [line for line in (_PROCESS / "status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    print(json.dumps(_run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:])))
