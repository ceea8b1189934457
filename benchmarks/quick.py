"""A minute's worth of small workloads: which ratio fell by more than a fifth since it was last recorded?"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from api2db import Stream2Local, Stream2Sql
from api2db.stream import Stream
from benchmarks import results
from benchmarks.delivered import delivered_in_s
from benchmarks.engines import running
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import flights_frame, pieces_of, tick_frame
from benchmarks.servers import binary_copy
from tests.servers.server import Server

_RUNS: Final = 3
_FLIGHTS: Final = 100_000
_TICKS: Final = 1_000
_LISTS: Final = 50
_DICTS: Final = 1_000
_SHARE_LEFT: Final = 0.8
_NAME: Final = "quick"


def measure(folder: Path) -> Iterator[Figure]:
    """Each workload and its floor in turn, three times."""
    flights = flights_frame().iloc[:_FLIGHTS]
    pieces, table = pieces_of(flights), pa.Table.from_pandas(flights, preserve_index=False)
    ticks = [tick_frame(number) for number in range(_TICKS)]
    lists = [[_nested(number * _DICTS + row) for row in range(_DICTS)] for number in range(_LISTS)]
    yield _figure("puts of five rows", len(ticks), partial(_serialized, folder, ticks), partial(_put, folder, ticks))
    yield _figure(
        "lists of 1,000 dicts into DuckDB",
        _LISTS * _DICTS,
        partial(_dicts_by_pyarrow, folder, lists),
        partial(_through, folder, _to_duckdb, lists),
    )
    yield _figure(
        "flights into DuckDB",
        _FLIGHTS,
        partial(_into_duckdb, folder, table),
        partial(_through, folder, _to_duckdb, pieces),
    )
    yield _figure(
        "flights into shards",
        _FLIGHTS,
        partial(_into_file, folder, table),
        partial(_through, folder, _to_shards, pieces),
    )
    with running("postgresql") as server:
        if server is not None:
            floor = binary_copy(server, table)
            ours = partial(_through, folder, partial(_to_postgresql, server), pieces)
            yield _figure("flights into PostgreSQL", _FLIGHTS, lambda _: floor(), ours)


def fallen(figures: Sequence[Figure], last: results.Run | None) -> list[str]:
    """Return a line for each ratio that is less than four fifths of the one that was recorded last."""
    before = {} if last is None else {each.name: each.ratio for each in last.figures}
    return [
        f"{each.name}: {each.ratio:.2f}, was {was:.2f}"
        for each in figures
        if each.ratio is not None and (was := before.get(each.name)) is not None and each.ratio < was * _SHARE_LEFT
    ]


def _figure(name: str, count: int, floor: Callable[[int], float], ours: Callable[[int], float]) -> Figure:
    floor_s, ours_s = medians_of(_RUNS, lambda run: (floor(run), ours(run)))
    return Figure(f"quick: {name}", count / ours_s, "/s", floor=count / floor_s)


def _put(folder: Path, frames: list[pd.DataFrame], run: int) -> float:
    stream = Stream2Sql("ticks", "t.duckdb", "duckdb", home=folder / f"put-{run}", durability="process")
    stream.q.put(frames[0])
    began_s = time.perf_counter()
    for frame in frames:
        stream.q.put(frame)
    took_s = time.perf_counter() - began_s
    stream.stop()
    return took_s


def _serialized(folder: Path, frames: list[pd.DataFrame], run: int) -> float:
    """What pyarrow takes to write each frame into one file."""
    with (folder / f"ticks-{run}").open("wb", buffering=0) as file:
        began_s = time.perf_counter()
        for frame in frames:
            file.write(pa.RecordBatch.from_pandas(frame, preserve_index=False).serialize())
        return time.perf_counter() - began_s


def _dicts_by_pyarrow(folder: Path, lists: list[list[dict[str, Any]]], run: int) -> float:
    """What pyarrow and DuckDB take, in one transaction."""
    began_s = time.perf_counter()
    table = pa.concat_tables([pa.Table.from_pylist(rows) for rows in lists])
    _into_duckdb(folder / "dicts", table, run)
    return time.perf_counter() - began_s


def _into_duckdb(folder: Path, table: pa.Table, run: int) -> float:
    folder.mkdir(exist_ok=True)
    began_s = time.perf_counter()
    with duckdb.connect(str(folder / f"{run}.duckdb")) as connection:
        connection.register("ready", table)
        connection.execute("CREATE TABLE loaded AS SELECT * FROM ready")
    return time.perf_counter() - began_s


def _into_file(folder: Path, table: pa.Table, run: int) -> float:
    began_s = time.perf_counter()
    pyarrow.parquet.write_table(table, folder / f"{run}.parquet")
    return time.perf_counter() - began_s


def _through(folder: Path, stream_in: Callable[[Path], Stream], frames: Sequence[Any], run: int) -> float:
    with stream_in(folder / f"{len(frames)}-{run}-{time.monotonic_ns()}") as stream:
        stream.q.put(frames[0][:1])
        stream.flush()
        return delivered_in_s(stream, frames)


def _to_duckdb(home: Path) -> Stream:
    return Stream2Sql("loaded", "loaded.duckdb", "duckdb", home=home)


def _to_shards(home: Path) -> Stream:
    return Stream2Local("loaded", home=home)


def _to_postgresql(server: Server, home: Path) -> Stream:
    return Stream2Sql(
        "loaded",
        server.new_database(),
        "postgresql",
        server.user,
        server.password,
        server.host,
        port=str(server.port),
        home=home,
    )


def _nested(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"thing {number}",
        "price": number / 8,
        "active": number % 3 == 0,
        "owner": {"id": number % 100, "login": f"user{number % 100}"},
        "tags": ["a", "b"][: number % 3],
        "at": "2026-01-01T00:00:00Z",
    }
