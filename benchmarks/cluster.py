"""A NATS cluster: how long a ``put`` takes beside a journal on disk, and what more workers are worth.

The workers have a fifth of a core each, by a CPU quota of a cgroup, which needs root. Their API is slow, and so is
their transform, so that their work is the limit and not the servers.
"""

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from api2db.cluster import close_clusters, cluster_store
from api2db.frames import to_batch
from api2db.journal import Journal, JournalStore, StreamIdentity, journal_store
from benchmarks.engines import running
from benchmarks.figure import Figure
from benchmarks.frames import tick_frame
from tests.cluster.projects import Project, project_in, wait_until
from tests.servers.nats import running_nats
from tests.servers.server import Server

_PUTS = 500
_THREADS = 16
_WORKERS = (1, 2, 4)
_AIMS = {2: 1.8, 4: 3.2}
_COLLECTORS = 16
_QUOTA = 0.2  # of a core, for each worker
_SETTLE_S = 15.0
_WINDOW_S = 20.0
_READY_S = 120.0
_CGROUPS = Path("/sys/fs/cgroup/cpu")

MAIN = """
    import hashlib, os, time
    from pathlib import Path
    from api2db import Collector, Run
    from api2db.stream import Stream2Sql

    SERVER = {server!r}

    def pages(state):
        for _ in range(0 if Path({enough!r}).exists() else 5):
            time.sleep(0.02)  # the slow API: nothing but time passes
            begin = state.get("next", 0)
            state["next"] = begin + 100
            yield [{{"id": number, "pid": os.getpid()}} for number in range(begin + 1, begin + 101)]

    def slow(frame):
        frame["digest"] = [hashlib.sha256(str(id_).encode() * 20_000).hexdigest() for id_ in frame["id"]]
        return frame

    def stream(name):
        return Stream2Sql(name, dialect="postgresql", table=name, **SERVER)

    collectors = [Collector(name, {seconds}, pages, [stream(name)], transform=slow) for name in {names!r}]

    if __name__ == "__main__":
        Run(collectors).run()
"""


def measure(folder: Path) -> Iterator[Figure]:
    """Groups of one frame of five rows and a state, by one thread; then frames by many threads at once."""
    floor = _times_ms(journal_store(folder / "disk"))
    yield from _figures("on disk", floor, None)
    for count in (1, 3):
        with running_nats(count) as nats:
            store: JournalStore = cluster_store(nats.address("bench"), folder)
            yield from _figures(f"replicas={count}", _times_ms(store), floor)
            close_clusters()
    yield from _workers(folder)


def _workers(folder: Path) -> Iterator[Figure]:
    """Rows a second into PostgreSQL by 1, 2 and 4 workers."""
    if not (_CGROUPS / "cpu.cfs_quota_us").exists() or os.geteuid() != 0:
        print("workers are not measured: it takes root, and the CPU quotas of cgroups v1")
        return
    one: float | None = None
    for count in _WORKERS:
        with running("postgresql") as server, running_nats() as nats:
            if server is None:
                return
            place = folder / f"workers-{count}"
            place.mkdir()
            rate, busy_s = _rows_per_s(place, server, nats.address(f"workers-{count}"), count)
            close_clusters()
        what = f"{count} workers with {_QUOTA} of a core each"
        yield Figure(what, rate, "rows/s", floor=one, aim=_AIMS.get(count))
        # On a busy machine workers get less than their quota, which the figure before does not say.
        yield Figure(f"{what}, the part of it that they got", 100 * busy_s / (count * _QUOTA), "%")
        one = rate if one is None else one


def _rows_per_s(place: Path, server: Server, address: str, count: int) -> tuple[float, float]:
    """Rows a second, and the CPU time of the workers, seconds a second."""
    names = [f"c{number:02}" for number in range(_COLLECTORS)]
    with ExitStack() as quotas, project_in(place, server, address, names, 0.05, main=MAIN) as project:
        for number in range(count):
            # From the beginning: workers that use all cores would leave none to the servers and to further workers.
            quotas.enter_context(_quota(project.start(f"m{number}").family()))
        store = cluster_store(address, place)

        def is_spread() -> bool:
            owners = Counter(store.claims().owners.values())
            return len(owners) == count and sum(owners.values()) == len(names) and all(project.counts().values())

        wait_until(is_spread, "the work is spread", _READY_S)
        time.sleep(_SETTLE_S)  # until what was put while the work was spread is delivered
        before, busy_s, begin_s = sum(project.counts().values()), _busy_s(project), time.monotonic()
        time.sleep(_WINDOW_S)  # what arrives meanwhile is what is measured
        rows, busy_s = sum(project.counts().values()) - before, _busy_s(project) - busy_s
        took_s = time.monotonic() - begin_s
    return rows / took_s, busy_s / took_s


def _busy_s(project: Project) -> float:
    """The CPU time of all workers, seconds."""
    return sum(sum(process.cpu_times()[:2]) for machine in project.machines for process in machine.family())


@contextmanager
def _quota(processes: Sequence[psutil.Process]) -> Iterator[None]:
    """Let processes together use no more than their share of a core, for the length of a block."""
    group = _CGROUPS / f"api2db-bench-{processes[0].pid}"
    group.mkdir()
    (group / "cpu.cfs_quota_us").write_text(str(int(_QUOTA * 100_000)))
    try:
        for process in processes:
            (group / "cgroup.procs").write_text(str(process.pid))
        yield
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text().strip(), "the processes have ended", _READY_S)
        group.rmdir()


def _figures(what: str, times_ms: tuple[float, float, float], floor: tuple[float, float, float] | None) -> list[Figure]:
    p50, p99, together = times_ms
    floors = floor or (None, None, None)
    return [
        Figure(f"put {what}, p50", p50, "ms", floor=floors[0], less_is_better=True),
        Figure(f"put {what}, p99", p99, "ms", floor=floors[1], less_is_better=True),
        Figure(f"put {what}, {_THREADS} threads", together, "frames/s", floor=floors[2]),
    ]


def _times_ms(store: JournalStore) -> tuple[float, float, float]:
    """Median and 99th percentile of one thread's puts, and how many frames a second many threads put."""
    handle = store.open("ticks")
    journal: Journal = handle.journal
    journal.attach(StreamIdentity("ticks", "sql.postgresql"))
    batch = to_batch(tick_frame())
    times_ms = []
    for number in range(_PUTS):
        began_s = time.perf_counter()
        journal.append([batch], cursor={"next": number})
        times_ms.append((time.perf_counter() - began_s) * 1000)
    began_s = time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(lambda _: journal.append([batch]), range(_PUTS * 4)))
    together = _PUTS * 4 / (time.perf_counter() - began_s)
    handle.release()
    return statistics.median(times_ms), statistics.quantiles(times_ms, n=100)[98], together
