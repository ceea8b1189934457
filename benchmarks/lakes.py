"""A million rows in batches into a table of a lake, beside the library's own append of the same batches."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from api2db import Stream, Stream2Delta, Stream2Iceberg
from benchmarks.delivered import connected
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import keyed_rows

_RUNS = 3
_BATCHES = 10
_ROWS = 100_000
_AIM = 0.7

Append = Callable[[pa.Table], object]


class _Lake(NamedTuple):
    """A kind of lake.

    Attributes:
        begin: Creates a table in a folder with the library alone, with the first rows; returns what appends to it.
        stream: Makes the stream, given the project's folder and the rows of a batch.
    """

    title: str
    begin: Callable[[Path, pa.Table], Append]
    stream: Callable[[Path, int], Stream]


def measure(name: str, folder: Path) -> Iterator[Figure]:
    """Each run has tables of its own. The floor appends to a table that it has created with the first row."""
    lake = _LAKES[name]
    batch = pa.Table.from_pandas(keyed_rows(0, _ROWS), preserve_index=False).combine_chunks()
    floor_s, took_s = medians_of(_RUNS, partial(_pair, lake, folder, batch))
    title = f"{_BATCHES} batches of {batch.num_rows:,} rows into {lake.title}"
    rows = _BATCHES * batch.num_rows
    yield Figure(title, rows / took_s, "rows/s", floor=rows / floor_s, aim=_AIM)


def _pair(lake: _Lake, folder: Path, batch: pa.Table, run: int) -> tuple[float, float]:
    return _alone(lake, folder / f"{run}-alone", batch), _through(lake, folder / f"{run}-through", batch)


def _alone(lake: _Lake, folder: Path, batch: pa.Table) -> float:
    append = lake.begin(folder, batch.slice(0, 1))
    began_s = time.perf_counter()
    for _ in range(_BATCHES):
        append(batch)
    return time.perf_counter() - began_s


def _through(lake: _Lake, home: Path, batch: pa.Table) -> float:
    with lake.stream(home, batch.num_rows) as stream:
        connected(stream, batch.slice(0, 1).to_pandas())
        began_s = time.perf_counter()
        for _ in range(_BATCHES):
            stream.q.put(batch)
        stream.flush()
        return time.perf_counter() - began_s


def _delta(folder: Path, first: pa.Table) -> Append:
    from deltalake import DeltaTable, write_deltalake

    write_deltalake(folder, first)
    return partial(write_deltalake, DeltaTable(folder), mode="append")


def _iceberg(folder: Path, first: pa.Table) -> Append:
    from pyiceberg.catalog import load_catalog

    folder.mkdir()
    catalog = load_catalog("default", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("default")
    table = catalog.create_table("default.ticks", first.schema)
    table.append(first)
    return table.append


_LAKES = {
    "delta": _Lake(
        "Delta Lake", _delta, lambda home, rows: Stream2Delta("ticks", "LAKE/ticks", home=home, chunk_size=rows)
    ),
    "iceberg": _Lake(
        "Iceberg", _iceberg, lambda home, rows: Stream2Iceberg("ticks", "LAKE", home=home, chunk_size=rows)
    ),
}
