"""How long after ``put`` a row is visible in PostgreSQL, at 100 frames a second while a bulk load runs beside it."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from api2db import Stream2Sql
from benchmarks.engines import running
from benchmarks.figure import Figure
from benchmarks.frames import flights_frame, pieces_of, tick_frame
from benchmarks.latency import delays_ms
from tests.servers.server import Server

_FRAMES = 6_000
_EVERY_S = 0.01
_AIMS_MS = ((50, 10.0), (99, 40.0))
_LEAST_ROWS = 1_000


def measure(folder: Path) -> Iterator[Figure]:
    """Alone, and beside flights that another process puts into the same server without a pause."""
    with running("postgresql") as server:
        if server is None:
            return
        for beside in ("", " beside a bulk load"):
            load = _bulk_load(server, folder / "bulk") if beside else nullcontext()
            lags_ms = _lags_ms(server, folder / f"ticks{len(beside)}", load)
            for percent, aim in _AIMS_MS:
                lag_ms = float(np.percentile(lags_ms, percent))
                title = f"put to visible in postgresql{beside}, p{percent}"
                yield Figure(title, lag_ms, "ms", aim=aim, less_is_better=True)


def _lags_ms(server: Server, home: Path, load: AbstractContextManager[None]) -> list[float]:
    database, address = server.new_database(), _address(server)
    with _stream("ticks", home, database, address) as stream, closing(server.client(database)) as client:
        stream.q.put(tick_frame(-1))
        stream.flush()
        client.execute("CREATE INDEX ON ticks (n)")  # so that a look costs the server nothing
        with load:
            return delays_ms(stream, _newest_in(client), range(_FRAMES), _EVERY_S)


def _newest_in(client: Any) -> Callable[[], int]:
    return lambda: int(client.execute("SELECT max(n) FROM ticks").fetchone()[0])


@contextmanager
def _bulk_load(server: Server, home: Path) -> Iterator[None]:
    """Load in another process until the block ends, as a run does with another collector."""
    database = server.new_database()
    command = [sys.executable, "-m", "benchmarks.freshness", str(home), database, *_address(server)]
    with subprocess.Popen(command) as process:
        try:
            while not _has_rows(server, database):
                time.sleep(_EVERY_S)  # no database tells of its first rows by itself
            yield
        finally:
            process.kill()


def _has_rows(server: Server, database: str) -> bool:
    there = server.execute("SELECT 1 FROM pg_tables WHERE tablename = 'flights'", database)
    return bool(there) and server.execute("SELECT count(*) FROM flights", database)[0][0] >= _LEAST_ROWS


def _address(server: Server) -> Sequence[str]:
    return server.user, server.password, server.host, str(server.port)


def _stream(name: str, home: Path, database: str, address: Sequence[str]) -> Stream2Sql:
    user, password, host, port = address
    return Stream2Sql(name, database, "postgresql", user, password, host, port=port, home=home)


def _load(home: Path, database: str, address: Sequence[str]) -> None:
    """Put flights for as long as the process lives, as fast as they are delivered."""
    frames = pieces_of(flights_frame())
    with _stream("flights", home, database, address) as stream:
        while True:
            for frame in frames:
                stream.q.put(frame)
            stream.flush()


if __name__ == "__main__":
    _load(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
