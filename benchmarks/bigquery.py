"""Flights into the tests' BigQuery, in a process of its own, beside a bare client that appends the same batches."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pandas as pd
import pyarrow as pa
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery, bigquery_storage_v1
from google.cloud.bigquery_storage_v1 import types
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from api2db import Stream2Bigquery
from api2db.targets.bigquery._client import TableLocation
from benchmarks.delivered import connected, delivered_in_s
from benchmarks.figure import Figure, median_of, medians_of
from benchmarks.frames import flights_frame, pieces_of, tick_frame
from tests.servers.bigquery import PROJECT

_RUNS = 3
_TICKS = 20_000


@dataclass(frozen=True)
class _Server:
    url: str
    write_address: str

    def stream(self, home: Path, table: str, **options: Any) -> Stream2Bigquery:
        return Stream2Bigquery(
            table,
            "",
            PROJECT,
            "bench",
            table,
            home=home,
            endpoint=self.url,
            write_endpoint=self.write_address,
            **options,
        )

    def place(self, table: str) -> TableLocation:
        return TableLocation(Path(), PROJECT, "bench", table, "US", self.url, self.write_address)


def measure(folder: Path) -> Iterator[Figure]:
    """Rows a second, as frames of 20,000 rows and as one frame; and small frames."""
    frame = flights_frame()
    pieces = pieces_of(frame)
    with _server() as server:
        for case, frames, aim in (("frames of 20,000 rows", pieces, 0.8), ("one frame", [frame], 0.6)):
            floor_s, took_s = medians_of(_RUNS, partial(_pair, server, folder, frames, frame))
            rows = len(frame)
            yield Figure(f"flights into BigQuery, {case}", rows / took_s, "rows/s", floor=rows / floor_s, aim=aim)
        rows_per_s = median_of(_RUNS, partial(_tick_rate, server, folder))
        yield Figure("ticks into BigQuery, durability=process", rows_per_s, "rows/s")


@contextmanager
def _server() -> Iterator[_Server]:
    command = [sys.executable, "-m", "tests.servers.bigquery"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, write_address = process.stdout.readline().split()
        yield _Server(url, write_address)
        process.communicate("")


def _pair(
    server: _Server, folder: Path, frames: list[pd.DataFrame], whole: pd.DataFrame, run: int
) -> tuple[float, float]:
    """The floor comes last: it takes the columns of the table that was made."""
    name = f"flights{len(frames)}_{run}"
    took_s = _through(server, folder / name, name, frames)
    return _alone(server, name, whole), took_s


def _through(server: _Server, home: Path, name: str, frames: list[pd.DataFrame]) -> float:
    with server.stream(home, name) as stream:
        connected(stream, frames[0])
        return delivered_in_s(stream, frames)


def _alone(server: _Server, like: str, whole: pd.DataFrame) -> float:
    """The same rows, ready as Arrow batches, appended by Google's client in one loop."""
    from api2db.delivery._fitting import fit
    from api2db.targets.bigquery._stream import as_sent, ends_of_requests
    from api2db.targets.bigquery.target import BigqueryTarget

    target = BigqueryTarget(server.place(like), "append", "freeze")
    columns = target.columns() or ()
    ready = as_sent(fit(pa.Table.from_pandas(whole, preserve_index=False), columns).rows, columns)
    ends = ends_of_requests(ready)
    batches = [ready.slice(start, end - start) for start, end in zip([0, *ends], ends, strict=False)]
    target.close()
    table = _copy_of(server, like)
    channel = grpc.insecure_channel(server.write_address, options=[("grpc.max_send_message_length", -1)])
    client: Any = bigquery_storage_v1.BigQueryWriteClient  # its constructor has no types
    client = client(transport=BigQueryWriteGrpcTransport(channel=channel))
    path = f"projects/{PROJECT}/datasets/bench/tables/{table}"
    name = client.create_write_stream(parent=path, write_stream=types.WriteStream(type_="COMMITTED")).name
    header = (("x-goog-request-params", f"write_stream={name}"),)
    began_s = time.perf_counter()
    for answer in client.append_rows(_requests(name, batches), metadata=header, retry=None):
        assert not answer.error.code, answer.error
    took_s = time.perf_counter() - began_s
    channel.close()
    return took_s


def _requests(name: str, batches: list[pa.RecordBatch]) -> Iterator[types.AppendRowsRequest]:
    offset = 0
    for batch in batches:
        request = types.AppendRowsRequest(write_stream=name, offset=offset)
        if not offset:
            request.arrow_rows.writer_schema.serialized_schema = batch.schema.serialize().to_pybytes()
        request.arrow_rows.rows.serialized_record_batch = batch.serialize().to_pybytes()
        yield request
        offset += batch.num_rows


def _copy_of(server: _Server, name: str) -> str:
    nobody: Any = AnonymousCredentials  # it has no types
    client = bigquery.Client(PROJECT, nobody(), client_options={"api_endpoint": server.url})
    schema = client.get_table(f"{PROJECT}.bench.{name}").schema
    client.create_table(bigquery.Table(f"{PROJECT}.bench.{name}_alone", schema=schema))
    return f"{name}_alone"


def _tick_rate(server: _Server, folder: Path, run: int) -> float:
    frame = tick_frame()
    with server.stream(folder / f"ticks{run}", f"ticks{run}", durability="process") as stream:
        return _TICKS * len(frame) / delivered_in_s(stream, [frame] * _TICKS)
