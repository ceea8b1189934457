"""How long after ``put`` a row is visible in the target, at 100 frames a second."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import duckdb
import numpy as np

from api2db import Stream2Sql
from api2db.stream import Stream
from benchmarks.figure import Figure
from benchmarks.frames import tick_frame

_FRAMES = 1_000
_EVERY_S = 0.01
_LOOK_EVERY_S = 0.002
_AIM_MS = 100


def measure(folder: Path) -> Iterator[Figure]:
    """In DuckDB, as a cursor of the same process sees it."""
    with ticking(folder) as (stream, newest):
        yield from lags("DuckDB", stream, newest)


@contextmanager
def ticking(folder: Path) -> Iterator[tuple[Stream, Callable[[], int]]]:
    """A stream into DuckDB whose table holds tick -1, and what says the number of the newest tick in it."""
    with Stream2Sql("ticks", "ticks.duckdb", "duckdb", home=folder) as stream:
        stream.q.put(tick_frame(-1))
        stream.flush()
        with duckdb.connect(str(folder / "ticks.duckdb")) as connection:
            yield stream, partial(_newest_tick, connection)


def lags(target: str, stream: Stream, newest: Callable[[], int]) -> Iterator[Figure]:
    """Put ticks into a stream whose table holds tick -1 alone.

    Args:
        target: Its name, for a person's eyes.
        stream: It runs.
        newest: Says the number of the newest tick that is visible; called in another thread.
    """
    lags_ms = delays_ms(stream, newest, range(_FRAMES), _EVERY_S)
    for percent, aim in ((50, None), (99, _AIM_MS)):
        lag_ms = float(np.percentile(lags_ms, percent))
        yield Figure(f"put to visible in {target}, p{percent}", lag_ms, "ms", aim=aim, less_is_better=True)


def delays_ms(stream: Stream, newest: Callable[[], int], ticks: range, every_s: float) -> list[float]:
    """Put ticks at a steady pace; return how long each took to be visible, in milliseconds.

    Args:
        stream: It runs; its table holds the ticks before these.
        newest: Says the number of the newest tick that is visible; called in another thread.
        ticks: Their numbers.
        every_s: The time between two of them, seconds.
    """
    frames = [tick_frame(number) for number in ticks]
    put_s: list[float] = []
    seen_s: list[float] = []

    def look() -> None:
        while len(seen_s) < len(frames):
            there = newest() - ticks.start
            now_s = time.perf_counter()
            seen_s.extend([now_s] * (there + 1 - len(seen_s)))
            # A look every 2 ms: no database tells of a new row by itself, and one asked without a pause slows down.
            time.sleep(_LOOK_EVERY_S)

    looker = threading.Thread(target=look)
    looker.start()
    began_s = time.perf_counter()
    for number, frame in enumerate(frames):
        # Asleep until its turn: a steady pace is what is measured, not as many as it can take.
        time.sleep(max(0.0, began_s + number * every_s - time.perf_counter()))
        put_s.append(time.perf_counter())
        stream.q.put(frame)
    looker.join()
    return [1000 * (seen - put) for seen, put in zip(seen_s, put_s, strict=True)]


def _newest_tick(connection: duckdb.DuckDBPyConnection) -> int:
    """Return the number of the newest tick in a table."""
    found = connection.execute("SELECT max(n) FROM ticks").fetchone()
    return -1 if found is None else int(found[0])
