"""Flights and ticks into the HeavyDB of the tests, each beside the client's own loop over the same batches.

That server is no HeavyDB: the ratios tell what api2db adds to the client, the rates tell of this machine alone.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import heavydb
import pandas as pd
import pyarrow as pa

from api2db import Stream2Omnisci
from api2db.targets.types import HEAVYDB
from benchmarks.delivered import connected, delivered_in_s
from benchmarks.figure import Figure, median_of, medians_of
from benchmarks.frames import flights_frame, pieces_of, tick_frame
from tests.servers.omnisci.handler import DATABASE, PASSWORD, USER
from tests.servers.omnisci.reach import Reach

_RUNS = 7
_TICKS = 2_000


def measure(folder: Path) -> Iterator[Figure]:
    """On a server in a process of its own."""
    with _server() as reach:
        frame = flights_frame()
        frames = pieces_of(frame)
        floor_s, took_s = medians_of(_RUNS, lambda run: (_alone(reach, frames), _through(reach, folder, frames, run)))
        rows = len(frame)
        yield Figure("flights into omnisci, frames of 20,000 rows", rows / took_s, "rows/s", rows / floor_s, 0.8)
        rate = median_of(_RUNS, partial(_ticks, reach, folder))
        yield Figure("ticks into omnisci, durability=process", rate, "rows/s")


@contextmanager
def _server() -> Iterator[Reach]:
    command = [sys.executable, "-m", "tests.servers.omnisci"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports: dict[str, Any] = json.loads(process.stdout.readline())
        yield Reach(USER, PASSWORD, "127.0.0.1", ports["port"], DATABASE)


def _alone(reach: Reach, frames: list[pd.DataFrame]) -> float:
    """The client's own loop, over batches that are ready to be sent."""
    ready = [_as_it_takes(frame) for frame in frames]
    declared = ", ".join(f'"{field.name}" {HEAVYDB.column(field.type)}' for field in ready[0].schema)
    reach.execute(f"CREATE TABLE alone ({declared})")
    with closing(_client(reach)) as client:
        load = partial(client._client.load_table_binary_arrow, client._session)  # noqa: SLF001 - it has no other way
        began_s = time.perf_counter()
        for batch in ready:
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as stream:
                stream.write_batch(batch)
            load("alone", sink.getvalue().to_pybytes(), True)
        took_s = time.perf_counter() - began_s
    reach.drop("alone")
    return took_s


def _client(reach: Reach) -> heavydb.Connection:
    return heavydb.connect(
        user=reach.user, password=reach.password, host=reach.host, port=reach.port, dbname=reach.database
    )


def _as_it_takes(frame: pd.DataFrame) -> pa.RecordBatch:
    """One batch, without large text and zones, which the server does not take."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    columns = [_plain(column) for column in table.columns]
    return pa.table(columns, names=[f"{name}_t" for name in table.column_names]).combine_chunks().to_batches()[0]


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_large_string(column.type):
        return column.cast(pa.string())
    if pa.types.is_timestamp(column.type):
        unit = "ns" if column.type.unit == "ns" else "us"
        return column.cast(pa.timestamp(unit, column.type.tz)).cast(pa.timestamp(unit))
    return column


def _through(reach: Reach, folder: Path, frames: list[pd.DataFrame], run: int) -> float:
    with Stream2Omnisci("flights", home=folder / f"flights-{run}", **reach.options) as stream:
        connected(stream, frames[0])
        took_s = delivered_in_s(stream, frames)
    reach.drop("flights_stream")
    return took_s


def _ticks(reach: Reach, folder: Path, run: int) -> float:
    frame = tick_frame()
    home = folder / f"ticks-{run}"
    with Stream2Omnisci("ticks", home=home, durability="process", **reach.options) as stream:
        took_s = delivered_in_s(stream, [frame] * _TICKS)
    reach.drop("ticks_stream")
    return _TICKS * len(frame) / took_s
