"""The flights, end to end: from the DataFrame through the journal to committed."""

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from api2db import Stream2Local, Stream2Sql
from api2db.stream import Stream
from benchmarks.delivered import delivered_in_s
from benchmarks.figure import Figure, median_of
from benchmarks.frames import flights_frame, pieces_of

_RUNS = 3


def measure(folder: Path) -> Iterator[Figure]:
    """Into DuckDB and into shards, as one frame and as frames of 20,000 rows."""
    frame = flights_frame()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pieces = pieces_of(frame)
    floor = len(frame) / median_of(_RUNS, lambda run: duckdb_alone(folder / f"floor-{run}.duckdb", table))
    for name, frames in (("one frame", [frame]), ("frames of 20,000 rows", pieces)):
        took_s = median_of(_RUNS, partial(into_duckdb, folder, frames))
        yield Figure(f"flights into DuckDB, {name}", len(frame) / took_s, "rows/s", floor=floor, aim=0.75)
    floor = len(frame) / median_of(_RUNS, lambda run: parquet_alone(folder / f"floor-{run}.parquet", table))
    for name, frames in (("one frame", [frame]), ("frames of 20,000 rows", pieces)):
        took_s = median_of(_RUNS, partial(into_shards, folder, frames))
        yield Figure(f"flights into shards, {name}", len(frame) / took_s, "rows/s", floor=floor, aim=0.6)


def into_duckdb(folder: Path, frames: list[pd.DataFrame], run: int) -> float:
    """Return how long frames take into a new DuckDB file, seconds."""
    home = folder / f"duckdb-{len(frames)}-{run}"
    return _through(Stream2Sql("flights", "flights.duckdb", "duckdb", home=home), frames)


def into_shards(folder: Path, frames: list[pd.DataFrame], run: int) -> float:
    """Return how long frames take into shards, seconds."""
    return _through(Stream2Local("flights", home=folder / f"shards-{len(frames)}-{run}"), frames)


def _through(stream: Stream, frames: list[pd.DataFrame]) -> float:
    with stream:
        return delivered_in_s(stream, frames)


def duckdb_alone(path: Path, table: pa.Table) -> float:
    """Return how long DuckDB alone takes to write a table into a new file, seconds."""
    began_s = time.perf_counter()
    with duckdb.connect(str(path)) as connection:
        connection.register("flights_frame", table)
        connection.execute("CREATE TABLE flights AS SELECT * FROM flights_frame")
    return time.perf_counter() - began_s


def parquet_alone(path: Path, table: pa.Table) -> float:
    """Return how long pyarrow alone takes to write a table into a Parquet file, with one fsync, seconds."""
    began_s = time.perf_counter()
    with path.open("wb") as file:
        pyarrow.parquet.write_table(table, file)
        file.flush()
        os.fsync(file.fileno())
    return time.perf_counter() - began_s
