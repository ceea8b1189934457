"""Batches into PostgreSQL and SQLite through SQLAlchemy, beside bare SQLAlchemy Core's executemany of the same."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa

from api2db import Stream2Sql
from benchmarks.delivered import connected
from benchmarks.engines import running
from benchmarks.figure import Figure, medians_of
from benchmarks.frames import keyed_rows
from tests.servers.server import Server

_RUNS = 5
_BATCHES = 10
_ROWS = 20_000
_AIM = 0.9


def measure(folder: Path) -> Iterator[Figure]:
    """Each run has databases of its own. The floor inserts rows that are dicts already, a transaction a batch."""
    batch = pa.Table.from_pandas(keyed_rows(0, _ROWS), preserve_index=False).combine_chunks()
    yield _figure("sqlite", batch, partial(_in_sqlite, folder, batch))
    with running("postgresql") as server:
        if server is not None:
            yield _figure("postgresql", batch, partial(_in_postgresql, server, folder, batch))


def _figure(kind: str, batch: pa.Table, pair: Callable[[int], tuple[float, float]]) -> Figure:
    floor_s, took_s = medians_of(_RUNS, pair)
    rows = _BATCHES * batch.num_rows
    title = f"{_BATCHES} batches through SQLAlchemy into {kind}"
    return Figure(title, rows / took_s, "rows/s", floor=rows / floor_s, aim=_AIM)


def _in_sqlite(folder: Path, batch: pa.Table, run: int) -> tuple[float, float]:
    urls = [sa.URL.create("sqlite", database=str(folder / f"{run}-{kind}.db")) for kind in ("alone", "through")]
    return _pair(urls, folder / f"sqlite-{run}", batch)


def _in_postgresql(server: Server, folder: Path, batch: pa.Table, run: int) -> tuple[float, float]:
    names = [server.new_database() for _ in range(2)]
    base = sa.URL.create("postgresql+psycopg", server.user, server.password, server.host, server.port)
    try:
        return _pair([base.set(database=name) for name in names], folder / f"postgresql-{run}", batch)
    finally:
        for name in names:
            server.execute(f"DROP DATABASE {name}")


def _pair(urls: Sequence[sa.URL], home: Path, batch: pa.Table) -> tuple[float, float]:
    alone, through = urls
    return _alone(alone, home / "alone", batch), _through(through, home / "through", batch)


def _alone(url: sa.URL, home: Path, batch: pa.Table) -> float:
    """The seconds of INSERTs into a table that api2db has made."""
    with _stream(url, home, batch) as stream:
        connected(stream, batch.slice(0, 1).to_pandas())
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    table = sa.Table("ticks", sa.MetaData(), autoload_with=engine)
    rows = _as_held(batch, table).to_pylist()
    with engine.connect() as connection:
        began_s = time.perf_counter()
        for _ in range(_BATCHES):
            with connection.begin():
                connection.execute(table.insert(), rows)
        took_s = time.perf_counter() - began_s
    _check(url)
    return took_s


def _as_held(batch: pa.Table, table: sa.Table) -> pa.Table:
    """The times as text where the table has them so, which is SQLite's."""
    at = batch.schema.get_field_index("at")
    if not isinstance(table.c["at"].type, sa.Text):
        return batch
    return batch.set_column(at, "at", batch.column(at).cast(pa.string()))


def _through(url: sa.URL, home: Path, batch: pa.Table) -> float:
    with _stream(url, home, batch) as stream:
        connected(stream, batch.slice(0, 1).to_pandas())
        began_s = time.perf_counter()
        for _ in range(_BATCHES):
            stream.q.put(batch)
        stream.flush()
        took_s = time.perf_counter() - began_s
    _check(url)
    return took_s


def _stream(url: sa.URL, home: Path, batch: pa.Table) -> Stream2Sql:
    text = url.render_as_string(hide_password=False)
    return Stream2Sql("ticks", str(url.database), "sqlalchemy", url=text, home=home, chunk_size=batch.num_rows)


def _check(url: sa.URL) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM ticks")) == 1 + _BATCHES * _ROWS
