"""Flights, lineitem and ticks into a database server, each beside the bulk load of what is ready to be sent."""

import atexit
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv

from api2db import Stream2Sql
from api2db.journal import Durability
from api2db.targets.types import MYSQL, POSTGRESQL
from benchmarks.delivered import connected, delivered_in_s
from benchmarks.engines import running
from benchmarks.figure import Figure, median_of, medians_of
from benchmarks.frames import flights_frame, lineitem_frame, pieces_of, tick_frame
from benchmarks.latency import lags
from tests.servers.engines import Kind
from tests.servers.server import Server

_RUNS = 3
_TICKS = 20_000
_TICKS_WITH_FSYNC = 2_000
_TICKS_BY_ONE = 1_000


def measure(kind: Kind, folder: Path) -> Iterator[Figure]:
    """On one kind of server, which is started for it."""
    with running(kind) as server:
        if server is None:
            return
        yield from _bulk(server, folder, "flights", flights_frame())
        lineitem = lineitem_frame()
        if lineitem is not None:
            yield from _bulk(server, folder, "lineitem", lineitem)
        yield from _ticks(server, folder)
        yield from _latency(server, folder)


def _bulk(server: Server, folder: Path, name: str, frame: pd.DataFrame) -> Iterator[Figure]:
    alone = _FLOORS[server.kind](server, pa.Table.from_pandas(frame, preserve_index=False))
    cases: Sequence[tuple[str, list[pd.DataFrame], float]] = (
        ("frames of 20,000 rows", pieces_of(frame), 0.9),
        ("one frame", [frame], 0.8 if server.kind == "postgresql" else 0.9),
    )
    for case, frames, aim in cases:
        through = partial(through_stream, server, folder, name, frames)
        floor_s, took_s = medians_of(_RUNS, partial(_pair, alone, through))
        title = f"{name} into {server.kind}, {case}"
        yield Figure(title, len(frame) / took_s, "rows/s", floor=len(frame) / floor_s, aim=aim)


def _pair(alone: Callable[[], float], through: Callable[[int], float], run: int) -> tuple[float, float]:
    return alone(), through(run)


def _stream(server: Server, name: str, home: Path, durability: Durability = "full") -> Stream2Sql:
    return Stream2Sql(
        name,
        server.new_database(),
        server.kind,
        server.user,
        server.password,
        server.host,
        port=str(server.port),
        home=home,
        durability=durability,
    )


def through_stream(server: Server, folder: Path, name: str, frames: list[pd.DataFrame], run: int) -> float:
    """Return how long frames take into a new table by a stream that is connected, seconds."""
    with _stream(server, name, folder / f"{server.kind}-{name}-{len(frames)}-{run}") as stream:
        connected(stream, frames[0])
        took_s = delivered_in_s(stream, frames)
    _drop(server, stream.db_name)
    return took_s


def _ticks(server: Server, folder: Path) -> Iterator[Figure]:
    """What else is done with frames of an API is beside it: a transaction for each of them."""
    by_one = median_of(_RUNS, partial(_one_commit_a_frame, server))
    yield Figure(f"ticks into {server.kind}, one commit a frame", by_one, "rows/s")
    counts: Sequence[tuple[Durability, int, float | None]] = (
        ("process", _TICKS, 25_000),
        ("full", _TICKS_WITH_FSYNC, None),
    )
    for durability, count, aim in counts:
        rows_per_s = median_of(_RUNS, partial(_tick_rate, server, folder, durability, count))
        yield Figure(f"ticks into {server.kind}, durability={durability}", rows_per_s, "rows/s", aim=aim)


def _tick_rate(server: Server, folder: Path, durability: Durability, count: int, run: int) -> float:
    frame = tick_frame()
    with _stream(server, "ticks", folder / f"{server.kind}-{durability}-{run}", durability) as stream:
        connected(stream, frame)
        took_s = delivered_in_s(stream, [frame] * count)
    _drop(server, stream.db_name)
    return count * len(frame) / took_s


def _one_commit_a_frame(server: Server, run: int) -> float:
    rows = pa.Table.from_pandas(tick_frame(run), preserve_index=False)
    typed = zip(rows.column_names, map(_TYPES[server.kind], rows.schema.types), strict=True)
    values = [tuple(row.values()) for row in rows.to_pylist()]
    database = server.new_database()
    with closing(server.client(database)) as client, client.cursor() as cursor:
        cursor.execute(f"CREATE TABLE ticks ({', '.join(f'{name}_ {type_}' for name, type_ in typed)})")
        insert = f"INSERT INTO ticks VALUES ({', '.join(['%s'] * rows.num_columns)})"
        began_s = time.perf_counter()
        for _ in range(_TICKS_BY_ONE):
            cursor.execute("BEGIN")
            cursor.executemany(insert, values)
            cursor.execute("COMMIT")
        took_s = time.perf_counter() - began_s
    _drop(server, database)
    return float(_TICKS_BY_ONE * rows.num_rows / took_s)


def _latency(server: Server, folder: Path) -> Iterator[Figure]:
    with _stream(server, "ticks", folder / f"{server.kind}-latency") as stream:
        stream.q.put(tick_frame(-1))
        stream.flush()
        with closing(server.client(stream.db_name)) as client:
            yield from lags(server.kind, stream, lambda: _newest(client))


def _newest(client: Any) -> int:
    cursor = client.cursor()
    cursor.execute("SELECT max(n) FROM ticks")
    ((newest,),) = cursor.fetchall()
    return int(newest)


def _drop(server: Server, database: str) -> None:
    server.execute(f"DROP DATABASE {database}")


def binary_copy(server: Server, table: pa.Table) -> Callable[[], float]:
    """What binary COPY of ready bytes takes, from psycopg's hands to committed."""
    import pgpq

    names = ", ".join(f'"{name}"' for name in table.column_names)
    declared = ", ".join(f'"{field.name}" {POSTGRESQL.column(field.type)}' for field in table.schema)
    encoder = pgpq.ArrowToPostgresBinaryEncoder(table.schema)
    ready = b"".join([encoder.write_header(), *map(encoder.write_batch, table.to_batches()), encoder.finish()])

    def load() -> float:
        database = server.new_database()
        with closing(server.client(database)) as client, client.cursor() as cursor:
            cursor.execute(f"CREATE TABLE ready ({declared})")
            began_s = time.perf_counter()
            with cursor.copy(f"COPY ready ({names}) FROM STDIN WITH (FORMAT BINARY)") as copy:
                copy.write(ready)
            took_s = time.perf_counter() - began_s
        _drop(server, database)
        return took_s

    return load


def _load_data(server: Server, table: pa.Table) -> Callable[[], float]:
    """What LOAD DATA LOCAL of a ready CSV file takes, by PyMySQL alone, to committed."""
    declared = ", ".join(f"`{field.name}` {MYSQL.column(field.type)}" for field in table.schema)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed", null_string="NULL")
    ready = Path(tempfile.mkstemp(suffix=".csv")[1])
    pyarrow.csv.write_csv(_as_text(table), ready, options)
    atexit.register(ready.unlink)

    def load() -> float:
        database = server.new_database()
        with closing(server.client(database, local_infile=True)) as client, client.cursor() as cursor:
            cursor.execute(f"CREATE TABLE ready ({declared})")
            began_s = time.perf_counter()
            cursor.execute(
                f"LOAD DATA LOCAL INFILE '{ready}' INTO TABLE ready CHARACTER SET utf8mb4 FIELDS TERMINATED BY ','"
                " OPTIONALLY ENCLOSED BY '\"' ESCAPED BY '' LINES TERMINATED BY '\n'"
            )
            took_s = time.perf_counter() - began_s
            cursor.execute("SELECT count(*) FROM ready")
            assert cursor.fetchone() == (table.num_rows,)
        _drop(server, database)
        return took_s

    return load


def _as_text(table: pa.Table) -> pa.Table:
    """With times and decimals as MySQL reads them."""
    columns = [
        column.cast(pa.timestamp(column.type.unit)) if pa.types.is_timestamp(column.type) else column
        for column in table.columns
    ]
    return pa.table(columns, names=table.column_names)


_FLOORS = {"postgresql": binary_copy, "mariadb": _load_data, "mysql": _load_data}
_TYPES = {"postgresql": POSTGRESQL.column, "mariadb": MYSQL.column, "mysql": MYSQL.column}
