"""How fast frames of five rows are put: each by itself, by many threads, as lists, and as a collector yields them."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from api2db import Collector, Stream2Sql
from api2db.ingest import Runner
from api2db.journal import Durability
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import tick_frame

_RUNS = 3
_FRAMES = 20_000
_DIFFERENT = 1_000
_ROWS = 5
_FLOOR_FRAMES = 1_000
_THREADS = 8
_LIST_ROWS = 1_000


def measure(folder: Path) -> Iterator[Figure]:
    """Rows a second until they are in the journal; the floor is pyarrow writing the frames to a file, one by one."""
    frames = [tick_frame(number) for number in range(_DIFFERENT)] * (_FRAMES // _DIFFERENT)
    dicts = [row for frame in frames for row in frame.to_dict("records")]
    lists = [dicts[at : at + _LIST_ROWS] for at in range(0, len(dicts), _LIST_ROWS)]
    cases: list[tuple[str, float, Callable[[Path], float]]] = [
        ("one put each, durability=process", 30_000, partial(one_by_one, frames, "process")),
        (f"one put each by {_THREADS} threads, durability=full", 12_000, partial(_by_threads, frames)),
        (f"as lists of {_LIST_ROWS:,} dicts", 100_000, partial(one_by_one, lists, "process")),
        ("as frames that a collector yields", 100_000, partial(_yielded, frames)),
    ]
    for number, (name, aim, put) in enumerate(cases):
        floor_s, took_s = medians_of(_RUNS, partial(_beside_floor, folder / str(number), frames, put))
        rows_s = len(frames) * _ROWS / took_s
        yield Figure(f"ticks, {name}", rows_s, "rows/s", floor=_FLOOR_FRAMES * _ROWS / floor_s)
        yield Figure("  the same without the floor", rows_s, "rows/s", aim=aim)


def _beside_floor(
    folder: Path, frames: Sequence[pd.DataFrame], put: Callable[[Path], float], run: int
) -> tuple[float, float]:
    home = folder / str(run)
    home.mkdir(parents=True)
    return written_by_pyarrow(home / "floor.arrow", frames[:_FLOOR_FRAMES]), put(home)


def written_by_pyarrow(path: Path, frames: Sequence[pd.DataFrame]) -> float:
    """Return how long pyarrow alone takes to write frames into one file, seconds."""
    schema = pa.RecordBatch.from_pandas(frames[0], preserve_index=False).schema
    began_s = time.perf_counter()
    with path.open("wb", buffering=0) as file, pa.ipc.new_stream(file, schema) as writer:
        for frame in frames:
            writer.write_batch(pa.RecordBatch.from_pandas(frame, preserve_index=False))
    return time.perf_counter() - began_s


def one_by_one(frames: Sequence[Any], durability: Durability, home: Path) -> float:
    """Return how long the main thread takes to put frames, seconds; nothing is delivered meanwhile."""
    stream = _stream(home, durability)
    stream.q.put(frames[0])
    began_s = time.perf_counter()
    for frame in frames:
        stream.q.put(frame)
    took_s = time.perf_counter() - began_s
    stream.stop()
    return took_s


def _by_threads(frames: Sequence[pd.DataFrame], home: Path) -> float:
    stream = _stream(home, "full")
    stream.q.put(frames[0])

    def put(number: int) -> None:
        for frame in frames[number::_THREADS]:
            stream.q.put(frame)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(_THREADS)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began_s
    stream.stop()
    return took_s


def _yielded(frames: Sequence[pd.DataFrame], home: Path) -> float:
    runner = Runner(Collector("ticks", 3600, lambda: iter(frames), [_stream(home, "process")]))
    runner.start(polling=False)
    began_s = time.perf_counter()
    runner.poll_once()
    took_s = time.perf_counter() - began_s
    runner.stop(60)
    return took_s


def _stream(home: Path, durability: Durability) -> Stream2Sql:
    return Stream2Sql("ticks", "ticks.duckdb", "duckdb", home=home, durability=durability)
