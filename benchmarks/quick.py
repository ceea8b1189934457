"""A minute's worth of small workloads: which ratio fell by more than a fifth since it was last recorded?"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from benchmarks import flights, poll, results, servers, ticks
from benchmarks.engines import running
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import flights_frame, pieces_of, tick_frame

_RUNS: Final = 3
_FLIGHTS: Final = 100_000
_TICKS: Final = 1_000
_PAGES: Final = 50
_PAGE_ROWS: Final = 1_000
_SHARE_LEFT: Final = 0.8


def measure(folder: Path) -> Iterator[Figure]:
    """Each workload and its floor in turn, three times."""
    frame = flights_frame().iloc[:_FLIGHTS]
    pieces, table = pieces_of(frame), pa.Table.from_pandas(frame, preserve_index=False)
    ticked = [tick_frame(number) for number in range(_TICKS)]
    pages = [poll.page(number) for number in range(_PAGES)]

    def puts(run: int) -> tuple[float, float]:
        floor_s = ticks.written_by_pyarrow(folder / f"{run}.arrow", ticked)
        return floor_s, ticks.one_by_one(ticked, "process", folder / f"puts-{run}")

    def into_duckdb(run: int) -> tuple[float, float]:
        return flights.duckdb_alone(folder / f"{run}.duckdb", table), flights.into_duckdb(folder, pieces, run)

    def into_shards(run: int) -> tuple[float, float]:
        return flights.parquet_alone(folder / f"{run}.parquet", table), flights.into_shards(folder, pieces, run)

    yield _figure("puts of five rows", _TICKS, puts)
    yield _figure("poll of nested dicts", _PAGES * _PAGE_ROWS, partial(poll.beside_floor, folder, pages))
    yield _figure("flights into DuckDB", _FLIGHTS, into_duckdb)
    yield _figure("flights into shards", _FLIGHTS, into_shards)
    with running("postgresql") as server:
        if server is not None:
            copy = servers.binary_copy(server, table)
            through = partial(servers.through_stream, server, folder, "flights", pieces)
            yield _figure("flights into PostgreSQL", _FLIGHTS, lambda run: (copy(), through(run)))


def fallen(figures: Sequence[Figure], last: results.Run | None) -> list[str]:
    """Return a line for each ratio that is less than four fifths of the one that was recorded last."""
    before = {} if last is None else {each.name: each.ratio for each in last.figures}
    return [
        f"{each.name}: {each.ratio:.2f}, was {was:.2f}"
        for each in figures
        if each.ratio is not None and (was := before.get(each.name)) is not None and each.ratio < was * _SHARE_LEFT
    ]


def _figure(name: str, count: int, pair: Callable[[int], tuple[float, float]]) -> Figure:
    floor_s, ours_s = medians_of(_RUNS, pair)
    return Figure(f"quick: {name}", count / ours_s, "/s", floor=count / floor_s)
