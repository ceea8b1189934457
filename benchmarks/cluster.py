"""How long a ``put`` takes in a NATS cluster, beside a journal on disk."""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from api2db.cluster import close_clusters, cluster_store
from api2db.frames import to_batch
from api2db.journal import Journal, JournalStore, StreamIdentity, journal_store
from benchmarks.figure import Figure
from benchmarks.frames import tick_frame
from tests.servers.nats import running_nats

__all__ = ["measure"]

_PUTS = 500
_THREADS = 16


def measure(folder: Path) -> Iterator[Figure]:
    """Groups of one frame of five rows and a state, by one thread; then frames by many threads at once."""
    floor = _times_ms(journal_store(folder / "disk"))
    yield from _figures("on disk", floor, None)
    for count in (1, 3):
        with running_nats(count) as nats:
            store: JournalStore = cluster_store(nats.address("bench"), folder)
            yield from _figures(f"replicas={count}", _times_ms(store), floor)
            close_clusters()


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
