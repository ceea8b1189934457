"""What the children do: each a function of options that a child of the zygote runs, and that a test may kill."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from api2db import Stream2Local, Stream2Sql
from api2db.journal import ALL, share
from api2db.stream.stream import Stream
from tests.faults.children import Acknowledgements, acknowledged
from tests.kills import planted
from tests.kills.marks import mark_loads
from tests.kills.rows import EVERYONE, frame, lane_of

COLLECTOR = "flights"
_LONG_S = 60.0

KINDS: dict[str, Callable[..., Stream]] = {
    "duckdb": lambda **options: Stream2Sql(COLLECTOR, "db/flights.duckdb", "duckdb", **options),
    "sqlite": lambda **options: Stream2Sql(COLLECTOR, "db/flights.sqlite", "sqlite", **options),
    "duckdb_replace": lambda **options: Stream2Sql(
        COLLECTOR, "db/replaced.duckdb", "duckdb", if_exists="replace", **options
    ),
    "sqlite_replace": lambda **options: Stream2Sql(
        COLLECTOR, "db/replaced.sqlite", "sqlite", if_exists="replace", **options
    ),
    "shards": lambda **options: Stream2Local(COLLECTOR, **options),
    "update": lambda **options: Stream2Local(COLLECTOR, "CACHE/updated.parquet", mode="update", **options),
    "replace": lambda **options: Stream2Local(COLLECTOR, "CACHE/replaced.parquet", mode="replace", **options),
}


def produce(home: str, logs: str, kinds: list[str], frames: int = 0, without: str = "", mark: bool = True) -> None:
    """Put numbered frames, without end or so many, while the streams deliver them; with an end, drain."""
    planted.take_away(without)
    if mark:
        mark_loads(Path(logs) / "marks")
    streams = _streams(home, kinds)
    for stream in streams.values():
        stream.start()
    with _Producer(home, Path(logs), streams) as producer:
        producer.put(frames)
    for stream in streams.values():
        assert stream.flush(_LONG_S), stream.status()
        stream.stop()


def put(home: str, logs: str, kinds: list[str], frames: int, without: str = "") -> None:
    """Put frames that nobody delivers for now."""
    planted.take_away(without)
    streams = _streams(home, kinds)
    with _Producer(home, Path(logs), streams) as producer:
        producer.put(frames)
    for stream in streams.values():
        stream.stop()


def deliver(home: str, logs: str, kinds: list[str], frames: int, go: str = "", without: str = "") -> None:
    """Put frames, wait until told to go on, then deliver them in this thread."""
    planted.take_away(without)
    streams = _streams(home, kinds)
    (stream,) = streams.values()
    with _Producer(home, Path(logs), streams) as producer:
        producer.put(frames)
    if go:
        print("ready", flush=True)
        Path(go).read_text()
    ending = threading.Thread(target=_stop_when_done, args=(stream,))
    ending.start()
    stream.stream_start()
    ending.join()


class _Producer:
    def __init__(self, home: str, logs: Path, streams: dict[str, Stream]) -> None:
        self._streams = streams
        self._begun = os.open(logs / "begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._said = Acknowledgements(logs / "acknowledged")
        self._n = max(acknowledged(logs / "begun"), default=0)
        for stream in streams.values():
            stream._attached()
        self._lease = share(Path(home), COLLECTOR)

    def __enter__(self) -> "_Producer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._lease.release()

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
        lane = lane_of(n, list(self._streams))
        batch = frame(lane, n)
        if lane == EVERYONE:
            self._lease.journal.append((batch,), lane=ALL)
        else:
            self._streams[lane].q.put(batch.to_pandas())


def _streams(home: str, kinds: list[str]) -> dict[str, Stream]:
    return {kind: KINDS[kind](home=home) for kind in kinds}


def _stop_when_done(stream: Stream) -> None:
    stream.flush(_LONG_S)
    stream.stop(0)


JOBS: dict[str, Callable[..., None]] = {"produce": produce, "put": put, "deliver": deliver}


def run(line: str) -> None:
    """Run a job as a test has asked for it."""
    asked: dict[str, Any] = json.loads(line)
    JOBS[asked.pop("job")](**asked)
