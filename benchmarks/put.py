"""How many frames of five rows a second ``put`` takes."""

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from api2db import Stream2Sql
from api2db.journal import Durability
from benchmarks.figure import Figure, median_of
from benchmarks.frames import tick_frame

_RUNS = 3
_FRAMES = {"full": 2_000, "process": 10_000}
_RECORD_BYTES = 1_000


def measure(folder: Path) -> Iterator[Figure]:
    """With the target stopped, and with the worker delivering into DuckDB meanwhile."""
    disk = median_of(_RUNS, lambda run: _fdatasyncs(folder / f"floor-{run}"))
    for delivering in (False, True):
        while_ = "while DuckDB is fed" if delivering else "alone"
        full = median_of(_RUNS, partial(_puts, folder, "full", delivering))
        yield Figure(f"put, durability=full, {while_}", full, "frames/s", floor=disk, aim=None if delivering else 0.5)
        process = median_of(_RUNS, partial(_puts, folder, "process", delivering))
        yield Figure(f"put, durability=process, {while_}", process, "frames/s", aim=None if delivering else 5_000)


def _puts(folder: Path, durability: Durability, delivering: bool, run: int) -> float:  # noqa: FBT001 - for partial
    frame, count = tick_frame(), _FRAMES[durability]
    home = folder / f"{durability}-{delivering}-{run}"
    stream = Stream2Sql("ticks", "ticks.duckdb", "duckdb", home=home, durability=durability)
    if delivering:
        stream.start()
    for _ in range(50):
        stream.q.put(frame)
    began_s = time.perf_counter()
    for _ in range(count):
        stream.q.put(frame)
    took_s = time.perf_counter() - began_s
    stream.stop()
    return count / took_s


def _fdatasyncs(path: Path) -> float:
    count, record = 1_000, os.urandom(_RECORD_BYTES)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    began_s = time.perf_counter()
    for _ in range(count):
        os.write(descriptor, record)
        os.fdatasync(descriptor)
    took_s = time.perf_counter() - began_s
    os.close(descriptor)
    return count / took_s
