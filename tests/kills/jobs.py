"""What the children do: each a function of options that a child of the fork_server runs, and that a test may kill."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self

from api2db import (
    FileConverter,
    Stream2Bigquery,
    Stream2Delta,
    Stream2Iceberg,
    Stream2Local,
    Stream2Omnisci,
    Stream2Sql,
)
from api2db.errors import TargetUnavailableError
from api2db.journal import ALL
from api2db.journal._store import open_shared
from api2db.store import Store, Store2Bigquery, Store2Delta, Store2Iceberg, Store2Local, Store2Omnisci, Store2Sql
from api2db.stream.stream import Stream
from api2db.targets.sql._ledger import Ledger
from api2db.torture.fork_server import say
from tests.faults.children import Acknowledgements, acknowledged
from tests.kills import planted
from tests.kills.marks import mark_loads
from tests.kills.rows import EVERYONE, frame, lane_of, with_floats
from tests.rest.shapes import collect_shape

COLLECTOR = "flights"
_LONG_S = 60.0

for _library in ("deltalake", "pyiceberg.catalog.sql", "pyiceberg.io.pyarrow"):  # once, instead of in each child
    import_module(_library)

KINDS: dict[str, Callable[..., Stream]] = {
    "duckdb": lambda db, **options: Stream2Sql(COLLECTOR, f"{db}/flights.duckdb", "duckdb", **options),
    "sqlite": lambda db, **options: Stream2Sql(COLLECTOR, f"{db}/flights.sqlite", "sqlite", **options),
    "duckdb_replace": lambda db, **options: Stream2Sql(
        COLLECTOR, f"{db}/replaced.duckdb", "duckdb", if_exists="replace", **options
    ),
    "sqlite_replace": lambda db, **options: Stream2Sql(
        COLLECTOR, f"{db}/replaced.sqlite", "sqlite", if_exists="replace", **options
    ),
    "shards": lambda db, **options: Stream2Local(COLLECTOR, **options),
    "update": lambda db, **options: Stream2Local(COLLECTOR, "CACHE/updated.parquet", mode="update", **options),
    "replace": lambda db, **options: Stream2Local(COLLECTOR, "CACHE/replaced.parquet", mode="replace", **options),
    # Where these write, their options say.
    "objects": lambda db, **options: Stream2Local(COLLECTOR, **options),
    "objects_update": lambda db, **options: Stream2Local(COLLECTOR, mode="update", **options),
    "objects_replace": lambda db, **options: Stream2Local(COLLECTOR, mode="replace", **options),
    "postgresql": lambda db, **options: Stream2Sql(COLLECTOR, dialect="postgresql", **options),
    "mysql": lambda db, **options: Stream2Sql(COLLECTOR, dialect="mysql", **options),
    "mariadb": lambda db, **options: Stream2Sql(COLLECTOR, dialect="mariadb", **options),
    "sqlite_by_url": lambda db, **options: Stream2Sql(
        COLLECTOR, f"{db}/flights.sqlite", "sqlalchemy", url="sqlite://", **options
    ),
    "postgresql_by_url": lambda db, **options: Stream2Sql(COLLECTOR, dialect="sqlalchemy", **options),
    "bigquery": lambda db, **options: Stream2Bigquery(COLLECTOR, **options),
    "bigquery_by_key": lambda db, **options: Stream2Bigquery(COLLECTOR, keys=["n", "row"], **options),
    "bigquery_replace": lambda db, **options: Stream2Bigquery(COLLECTOR, if_exists="replace", **options),
    "omnisci": lambda db, **options: Stream2Omnisci(COLLECTOR, **options),
    "delta": lambda db, **options: Stream2Delta(COLLECTOR, f"{db}/delta", commit_every_s=0, **options),
    "delta_replace": lambda db, **options: Stream2Delta(
        COLLECTOR, f"{db}/delta_replaced", if_exists="replace", commit_every_s=0, **options
    ),
    "delta_by_key": lambda db, **options: Stream2Delta(
        COLLECTOR, f"{db}/delta_keyed", keys=["n", "row"], commit_every_s=0, **options
    ),
    "iceberg": lambda db, **options: Stream2Iceberg(COLLECTOR, f"{db}/iceberg", commit_every_s=0, **options),
    "iceberg_replace": lambda db, **options: Stream2Iceberg(
        COLLECTOR, f"{db}/iceberg_replaced", if_exists="replace", commit_every_s=0, **options
    ),
    "iceberg_by_key": lambda db, **options: Stream2Iceberg(
        COLLECTOR, f"{db}/iceberg_keyed", keys=["n", "row"], commit_every_s=0, **options
    ),
}


class Composer:
    """One call of FileConverter, as if it were a round."""

    def __init__(self, home: str) -> None:
        self._home = Path(home)

    def store(self) -> None:
        places = [str(self._home / place) for place in ("STORE/flights/parquet", "moved", "composed")]
        frame = FileConverter.static_compose_df_from_dir(places[0], "parquet", places[1], places[2])
        assert frame is not None or not list(Path(places[0]).glob("[!.]*"))


STORES: dict[str, Callable[..., Store | Composer]] = {
    "composer": lambda db, home, **options: Composer(home),
    "duckdb": lambda db, **options: Store2Sql(COLLECTOR, 1, f"{db}/flights.duckdb", "duckdb", **options),
    "sqlite": lambda db, **options: Store2Sql(COLLECTOR, 1, f"{db}/flights.sqlite", "sqlite", **options),
    "delta": lambda db, **options: Store2Delta(COLLECTOR, 1, f"{db}/delta", **options),
    "iceberg": lambda db, **options: Store2Iceberg(COLLECTOR, 1, f"{db}/iceberg", **options),
    "local": lambda db, **options: Store2Local(COLLECTOR, 1, **options),
    "bigquery": lambda db, **options: Store2Bigquery(COLLECTOR, 1, **options),
    "bigquery_by_key": lambda db, **options: Store2Bigquery(COLLECTOR, 1, keys=["n", "row"], **options),
    "bigquery_replace": lambda db, **options: Store2Bigquery(COLLECTOR, 1, if_exists="replace", **options),
    "omnisci": lambda db, **options: Store2Omnisci(COLLECTOR, 1, **options),
}


@dataclass(frozen=True)
class Project:
    """Where a child works.

    Attributes:
        home: The project's folder.
        db: The folder of its databases.
        logs: Where it says what was acknowledged.
        kinds: The streams that it has.
        without: What is taken away from it; nothing by default.
        options: The streams' own.
        alternates: Whether the type of a column differs between frames, so that they have no common schema.
        begins_early: Whether small loads, too, begin ahead of their turn.
    """

    home: str
    db: str
    logs: str
    kinds: Sequence[str]
    without: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    alternates: bool = False
    begins_early: bool = False

    def streams(self) -> dict[str, Stream]:
        planted.take_away(self.without)
        if self.begins_early:
            planted.begin_early()
        return {kind: KINDS[kind](self.db, home=self.home, **self.options) for kind in self.kinds}


def produce(project: Project, frames: int = 0) -> None:
    """Put numbered frames, without end or so many, while the streams deliver them; with an end, drain."""
    mark_loads(Path(project.logs) / "marks")
    streams = project.streams()
    for stream in streams.values():
        stream.start()
    with Producer(project, streams) as producer:
        producer.put(frames)
    for stream in streams.values():
        _drain(stream)
        stream.stop()


def _drain(stream: Stream) -> None:
    """However long what hundreds of kills have left takes on a busy machine, as long as it goes on."""
    delivered = -1
    while not stream.flush(_LONG_S):
        status = stream.status()
        assert status.rows_delivered > delivered, status
        delivered = status.rows_delivered


def deliver(project: Project, frames: int, go: str = "", rows: int | None = None) -> None:
    """Put frames, wait until told to go on, then deliver them in this thread."""
    planted.make_all_calls_here()
    streams = project.streams()
    (stream,) = streams.values()
    with Producer(project, streams, rows) as producer:
        producer.put(frames)
    if go:
        say("ready")
        Path(go).read_text()
    ending = threading.Thread(target=_stop_when_done, args=(stream,))
    ending.start()
    stream.stream_start()
    ending.join()


def store(project: Project, go: str = "") -> None:
    """Wait until told to go on, then do one round of a store in this thread."""
    planted.make_all_calls_here()
    planted.take_away(project.without)
    (kind,) = project.kinds
    found = STORES[kind](project.db, home=project.home, **project.options)
    if go:
        say("ready")
        Path(go).read_text()
    found.store()


def freeze(project: Project, frames: int) -> None:
    """Stop, as SIGSTOP does, in the first load, once the ledger is locked."""
    from tests.kills.on_servers import shorten

    shorten()
    real = Ledger.step

    def step(ledger: Ledger, *arguments: Any) -> None:
        real(ledger, *arguments)
        os.kill(os.getpid(), signal.SIGSTOP)

    planted.replace(Ledger, "step", step)
    deliver(project, frames)


class Producer:
    def __init__(self, project: Project, streams: dict[str, Stream], rows: int | None = None) -> None:
        logs = Path(project.logs)
        self._rows = rows
        self._streams = streams
        self._alternates = project.alternates
        self._begun = os.open(logs / "begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._said = Acknowledgements(logs / "acknowledged")
        self._n = max(acknowledged(logs / "begun"), default=0)
        for stream in streams.values():
            stream._attachment.attach()
        self._handle = open_shared(Path(project.home), COLLECTOR, project.options.get("durability", "full"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._handle.release()

    def put(self, frames: int) -> None:
        for n in self._numbers(frames):
            os.write(self._begun, f"{n}\n".encode())
            self._put(n)
            self._said.add(n)

    def _numbers(self, frames: int) -> Iterator[int]:
        last = self._n + frames if frames else None
        while last is None or self._n < last:
            self._n += 1
            yield self._n

    def _put(self, n: int) -> None:
        stream_no = lane_of(n, list(self._streams))
        batch = frame(stream_no, n, self._rows)
        if self._alternates and n % 2 and "extra" in batch.schema.names:
            batch = with_floats(batch, "extra")
        if stream_no == EVERYONE:
            self._handle.journal.append((batch,), stream_no=ALL)
        else:
            self._streams[stream_no].q.put(batch.to_pandas())


def _stop_when_done(stream: Stream) -> None:
    stream.flush(_LONG_S)
    stream.stop(0)


def collect(project: Project, shape: str, url: str) -> None:
    """Poll an API of a shape once, and deliver what it gives."""
    collect_shape(shape, url, Path(project.home))


def maintain(project: Project) -> None:
    """Gather the files of a Delta table, and delete old ones, again and again, beside whoever loads into it."""
    (stream,) = project.streams().values()
    assert isinstance(stream, Stream2Delta)
    done = os.open(Path(project.logs) / "maintained", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    say("ready")
    while True:
        with suppress(TargetUnavailableError):  # somebody replaced the rows meanwhile, or there is no table yet
            os.write(done, f"{stream.optimize()}\n".encode())
            stream.vacuum(1)


JOBS: dict[str, Callable[..., None]] = {
    "maintain": maintain,
    "collect": collect,
    "deliver": deliver,
    "freeze": freeze,
    "produce": produce,
    "store": store,
}


def run(line: str) -> None:
    """Run a job as a test has asked for it."""
    asked: dict[str, Any] = json.loads(line)
    JOBS[asked.pop("job")](Project(**asked.pop("project")), **asked)
