"""A million rows by key into PostgreSQL, a tenth of them new, beside the server's own upsert from a loaded table."""

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa

from api2db import Stream2Sql
from benchmarks.delivered import delivered_in_s
from benchmarks.engines import running
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import keyed_rows, pieces_of
from tests.servers.server import Server

_RUNS = 3
_ROWS = 1_000_000
_NEW = 100_000
_AIM = 0.5
_NAMES = ("id", "symbol", "price", "size", "at")
_TABLE = "id bigint PRIMARY KEY, symbol text, price double precision, size bigint, at timestamptz"


def measure(folder: Path) -> Iterator[Figure]:
    """Each run has databases of its own."""
    with running("postgresql") as server:
        if server is None:
            return
        old, changed = keyed_rows(0, _ROWS - _NEW), keyed_rows(1, _ROWS)
        floor_s, took_s = medians_of(_RUNS, partial(_pair, server, folder, old, changed))
        title = "upsert of a million rows into postgresql"
        yield Figure(title, _ROWS / took_s, "rows/s", floor=_ROWS / floor_s, aim=_AIM)


def _pair(server: Server, folder: Path, old: pd.DataFrame, changed: pd.DataFrame, run: int) -> tuple[float, float]:
    return _alone(server, old, changed), _through(server, folder / str(run), old, changed)


def _alone(server: Server, old: pd.DataFrame, changed: pd.DataFrame) -> float:
    """The seconds of INSERT ... SELECT ... ON CONFLICT, to committed."""
    import pgpq

    database = server.new_database()
    with closing(server.client(database)) as client, client.cursor() as cursor:
        cursor.execute(f"CREATE TABLE ready ({_TABLE}); CREATE TABLE staged (LIKE ready)")
        for table, frame in (("ready", old), ("staged", changed)):
            rows = pa.Table.from_pandas(frame, preserve_index=False).combine_chunks()
            encoder = pgpq.ArrowToPostgresBinaryEncoder(rows.schema)
            with cursor.copy(f"COPY {table} FROM STDIN WITH (FORMAT BINARY)") as copy:
                copy.write(encoder.write_header())
                for batch in rows.to_batches():
                    copy.write(encoder.write_batch(batch))
                copy.write(encoder.finish())
        sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in _NAMES[1:])
        began_s = time.perf_counter()
        cursor.execute(f"INSERT INTO ready SELECT * FROM staged ON CONFLICT (id) DO UPDATE SET {sets}")
        took_s = time.perf_counter() - began_s
    server.execute(f"DROP DATABASE {database}")
    return took_s


def _through(server: Server, home: Path, old: pd.DataFrame, changed: pd.DataFrame) -> float:
    user, password, host, port = server.user, server.password, server.host, str(server.port)
    database = server.new_database()
    with Stream2Sql("ticks", database, "postgresql", user, password, host, port=port, home=home, keys=["id"]) as stream:
        delivered_in_s(stream, pieces_of(old))
        took_s = delivered_in_s(stream, pieces_of(changed))
    assert server.execute("SELECT count(*) FROM ticks", database) == [(_ROWS,)]
    server.execute(f"DROP DATABASE {database}")
    return took_s
