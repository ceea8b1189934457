"""Delta Lake on an object store, which is moto's S3: real requests, and writers that commit at once."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from api2db import Stream2Delta
from api2db.errors import LedgerMovedError
from api2db.targets.delta import DeltaTarget, TableLocation
from tests.servers.buckets import Bucket
from tests.stream.cases import COLLECTOR, frame
from tests.stream.test_lakes import load

STREAM = "0123456789abcdef"
URI = "s3://lake/flights"


@pytest.fixture
def options(bucket: Bucket) -> dict[str, str]:
    return bucket.options


def ids(uri: str, options: dict[str, str]) -> list[int]:
    rows: Any = DeltaTable(uri, storage_options=options).to_pyarrow_table()
    return [int(number) for number in rows.column("id").to_pylist()]


def test_rows_are_in_the_object_store_once(options: dict[str, str], tmp_path: Path) -> None:
    stream = Stream2Delta(COLLECTOR, URI, options, home=tmp_path)
    for numbers in ([1, 2], [3]):
        with stream:
            stream.stream(frame(*numbers))
    assert sorted(ids(URI, options)) == [1, 2, 3]
    assert "planted" not in f"{stream!r} {stream.status()} {stream.identity}"


def test_writers_that_commit_at_once_overwrite_nothing(options: dict[str, str], tmp_path: Path) -> None:
    streams = [Stream2Delta(f"{COLLECTOR}{number}", f"{URI}_shared", options, home=tmp_path) for number in range(3)]
    for stream in streams:
        stream.start()
    for number in range(12):
        streams[number % 3].q.put(frame(number))
    for stream in streams:
        assert stream.flush(100)
        stream.stop()
    assert sorted(ids(f"{URI}_shared", options)) == list(range(12))


def test_of_owners_that_commit_at_once_one_wins(options: dict[str, str]) -> None:
    place = TableLocation(f"{URI}_owned", "owned", options)

    def owner() -> DeltaTarget:
        target = DeltaTarget(place, "append", "evolve")
        target.connect()
        target.read_position(STREAM)
        return target

    reached = load(owner(), None, 1)
    targets = [owner() for _ in range(3)]
    ready, won = threading.Barrier(3), []

    def race(target: DeltaTarget) -> None:
        ready.wait()
        with suppress(LedgerMovedError):
            won.append(load(target, reached, 2))

    threads = [threading.Thread(target=race, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert ids(f"{URI}_owned", options) == [1, 2, 1, 2]
