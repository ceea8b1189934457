"""A million rows in batches into Iceberg, beside the library's append of the same batches."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from api2db import Stream2Iceberg
from benchmarks.delivered import connected
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import keyed_rows

_RUNS = 3
_BATCHES = 10
_ROWS = 100_000
_AIM = 0.7


def measure(folder: Path) -> Iterator[Figure]:
    """Each run has tables of its own. The floor appends to a table that it has created with the first row."""
    batch = pa.Table.from_pandas(keyed_rows(0, _ROWS), preserve_index=False).combine_chunks()
    floor_s, took_s = medians_of(_RUNS, partial(_pair, folder, batch))
    title = f"{_BATCHES} batches of {batch.num_rows:,} rows into Iceberg"
    rows = _BATCHES * batch.num_rows
    yield Figure(title, rows / took_s, "rows/s", floor=rows / floor_s, aim=_AIM)


def _pair(folder: Path, batch: pa.Table, run: int) -> tuple[float, float]:
    return _alone(folder / f"{run}-alone", batch), _through(folder / f"{run}-through", batch)


def _alone(folder: Path, batch: pa.Table) -> float:
    from pyiceberg.catalog import load_catalog

    folder.mkdir()
    catalog = load_catalog("default", type="sql", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"file://{folder}")
    catalog.create_namespace("default")
    table = catalog.create_table("default.ticks", batch.schema)
    table.append(batch.slice(0, 1))
    began_s = time.perf_counter()
    for _ in range(_BATCHES):
        table.append(batch)
    return time.perf_counter() - began_s


def _through(home: Path, batch: pa.Table) -> float:
    with Stream2Iceberg("ticks", "LAKE", home=home, chunk_size=batch.num_rows) as stream:
        connected(stream, batch.slice(0, 1).to_pandas())
        began_s = time.perf_counter()
        for _ in range(_BATCHES):
            stream.q.put(batch)
        stream.flush()
        return time.perf_counter() - began_s
