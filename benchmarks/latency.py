"""How long after ``put`` a row is visible in the target, at 100 frames a second."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np

from api2db import Stream2Sql
from benchmarks.figure import Figure
from benchmarks.frames import tick_frame

__all__ = ["measure"]

_FRAMES = 1_000
_EVERY_S = 0.01
_LOOK_EVERY_S = 0.001


def measure(folder: Path) -> Iterator[Figure]:
    """In DuckDB, as a cursor of the same process sees it."""
    frames = [tick_frame(number) for number in range(_FRAMES)]
    with Stream2Sql("ticks", "ticks.duckdb", "duckdb", home=folder) as stream:
        stream.q.put(tick_frame(-1))
        stream.flush()
        with duckdb.connect(str(folder / "ticks.duckdb")) as connection:
            put_s: list[float] = []
            seen_s: list[float] = []
            looker = threading.Thread(target=_look, args=(connection.cursor(), seen_s))
            looker.start()
            began_s = time.perf_counter()
            for number, frame in enumerate(frames):
                time.sleep(max(0.0, began_s + number * _EVERY_S - time.perf_counter()))
                put_s.append(time.perf_counter())
                stream.q.put(frame)
            looker.join()
    lags_ms = (np.array(seen_s) - np.array(put_s)) * 1000
    for percent in (50, 99):
        aim = 100 if percent == 99 else None
        lag_ms = float(np.percentile(lags_ms, percent))
        yield Figure(f"put to visible, p{percent}, 100 frames/s", lag_ms, "ms", aim=aim, less_is_better=True)


def _look(cursor: duckdb.DuckDBPyConnection, seen_s: list[float]) -> None:
    while len(seen_s) < _FRAMES:
        found = cursor.execute("SELECT max(n) FROM ticks").fetchone()
        now_s = time.perf_counter()
        newest = -1 if found is None else int(found[0])
        seen_s += [now_s] * (newest + 1 - len(seen_s))
        time.sleep(_LOOK_EVERY_S)
