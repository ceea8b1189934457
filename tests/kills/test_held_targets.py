"""Another process holds the database: rows are parked and come first; a run lets others have the file in between."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from api2db import Stream2Sql
from api2db.delivery import METADATA_KEY
from api2db.disk.atomic import temporary_name
from api2db.journal._store import open_shared
from api2db.targets import sqlite
from tests.faults.children import ROOT, acknowledged
from tests.kills.checker import Row, Verdict, judge
from tests.kills.fork_server import ForkServer
from tests.kills.here import Puts, running, wait_until
from tests.kills.homes import Home
from tests.kills.rows import EVERYONE, frame

DIALECTS = ("duckdb", "sqlite")

pytestmark = pytest.mark.usefixtures("_short_pauses")


@contextmanager
def held(dialect: str, file: Path) -> Iterator[int]:
    """Another process that has the database for itself."""
    command = [sys.executable, "-m", "tests.kills.holder", dialect, str(file)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_batch_whose_tries_ran_out_is_parked_goes_first_on_release_and_its_file_goes(
    tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 100)
    puts = Puts(tmp_path, dialect)
    puts.put(2)
    puts.deliver()
    folder = puts.home.path / "STORE" / "upload_failed" / "flights" / f"sql.{dialect}"
    with running(puts.stream):
        with held(dialect, puts.database) as pid:
            puts.put(1)
            wait_until(lambda: puts.stream.status().rows_parked)
            puts.put(3)
            (parked,) = folder.iterdir()
            assert [row["n"] for row in pq.ParquetFile(parked).read().to_pylist()] == [
                3
            ] * puts.stream.status().rows_parked
            check_origin(parked, puts)
            assert dialect != "duckdb" or f"pid {pid}" in str(puts.stream.status().last_error)
        puts.stream.check_failures()
        assert puts.stream.flush(60), puts.stream.status()
        assert puts.stream.status().rows_parked == 0
    assert list(folder.iterdir()) == []
    assert puts.verdict() == Verdict()


def origin_of(parked: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(pq.read_metadata(parked).metadata[METADATA_KEY])
    return said


def check_origin(parked: Path, puts: Puts) -> None:
    """Its name is its frame's time; it says of which journal and stream it is, and which range."""
    assert abs(int(parked.stem) - time.time_ns()) < 120 * 10**9
    said = origin_of(parked)
    log = puts.stream._attachment.attach()
    assert (said["journal"], said["stream"]) == (log.journal_id, log.key)
    assert tuple(said["first"]) == log.position < tuple(said["last"])


def test_a_parked_batch_is_delivered_first_by_the_next_process_too(fork_server: ForkServer, tmp_path: Path) -> None:
    home = Home(tmp_path, ("duckdb",))
    fork_server.run("produce", home.project, frames=3)
    parked = home.path / "STORE" / "upload_failed" / "flights" / "sql.duckdb"
    with held("duckdb", home.databases / "flights.duckdb"), fork_server.start("produce", home.project) as child:
        wait_until(lambda: list(parked.glob("[0-9]*.parquet")))
        child.kill()
    fork_server.run("produce", home.project, frames=3)
    assert list(parked.iterdir()) == []
    assert home.judge("duckdb") == Verdict()


def test_a_duckdb_file_is_let_go_when_idle_and_under_load(fork_server: ForkServer, tmp_path: Path) -> None:
    home = Home(tmp_path, ("duckdb",))
    with fork_server.start("produce", home.project) as child:
        child.wait_for(home.log, 20)
        for _ in range(3):
            assert wait_to_open(home.databases / "flights.duckdb", 60) > 0
    puts = Puts(tmp_path / "idle", "duckdb")
    with running(puts.stream):
        puts.put(2)
        assert puts.stream.flush(30)
        with held("duckdb", puts.database):
            pass


def wait_to_open(file: Path, timeout_s: float) -> int:
    """Look into a DuckDB file as soon as its owner lets it go; a put may be on disk before the table is there."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with duckdb.connect(str(file), read_only=True) as connection:
                ((rows,),) = connection.execute("SELECT count(*) FROM flights").fetchall()
                return int(rows)
        except (duckdb.IOException, duckdb.CatalogException):
            assert time.monotonic() < deadline, "the file is never let go with its table in it"
            time.sleep(0.005)


@pytest.mark.parametrize("seconds", [1, pytest.param(20, marks=pytest.mark.torture)])
@pytest.mark.parametrize("kind", ["duckdb", "sqlite", "shards"])
def test_a_concurrent_reader_never_sees_a_gap_or_half_a_frame(
    fork_server: ForkServer, tmp_path: Path, kind: str, seconds: int
) -> None:
    home = Home(tmp_path, (kind,))
    fork_server.run("produce", home.project, frames=3)
    looks, latest = 0, 0
    with fork_server.start("produce", home.project) as child:
        child.wait_for(home.log, 10)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or looks < 2:
            rows = look(home, kind)
            if rows and rows[-1]["n"] > latest:
                looks, latest = looks + 1, rows[-1]["n"]
                before = [n for n in acknowledged(home.log) if n <= latest]
                assert judge(rows, before) == Verdict()
                time.sleep(0.2)  # a reader that is always there would keep DuckDB's file from the stream
    assert looks >= 2, "it has seen the target at several moments"


def look(home: Home, kind: str) -> list[Row]:
    """What a reader sees now; nothing where the file is not to be had."""
    try:
        return home.rows(kind)
    except duckdb.IOException:
        time.sleep(0.005)
        return []


def test_two_streams_of_one_kind_park_one_frame_each_in_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 100)
    streams = [Stream2Sql("flights", f"{name}.sqlite", "sqlite", home=tmp_path) for name in ("one", "two")]
    folder = tmp_path / "STORE" / "upload_failed" / "flights" / "sql.sqlite"
    for stream in streams:
        stream.stream(frame(EVERYONE, 1).to_pandas())
    with running(*streams):
        handle = open_shared(tmp_path, "flights")
        with held("sqlite", tmp_path / "one.sqlite"):
            with held("sqlite", tmp_path / "two.sqlite"):
                handle.journal.append((frame(EVERYONE, 2),))
                wait_until(lambda: all(stream.status().rows_parked for stream in streams))
                assert len(list(folder.iterdir())) == 2
            streams[1].check_failures()
            assert streams[1].flush(30)
            (left,) = folder.iterdir()
            assert origin_of(left)["stream"] == streams[0]._attachment.attach().key
        assert streams[0].flush(30)
        handle.release()
    assert list(folder.iterdir()) == []


def test_what_a_kill_left_of_a_parked_file_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 100)
    puts = Puts(tmp_path, "sqlite")
    puts.put(2)
    puts.deliver()
    folder = puts.home.path / "STORE" / "upload_failed" / "flights" / "sql.sqlite"
    folder.mkdir(parents=True)
    left = temporary_name(folder / puts.stream._attachment.attach().key)
    of_another = temporary_name(folder / "0123456789abcdef")
    left.touch()
    of_another.touch()
    with running(puts.stream):
        with held("sqlite", puts.database):
            puts.put(1)
            wait_until(lambda: puts.stream.status().rows_parked)
            assert not left.exists()
        assert puts.stream.flush(30)
    assert list(folder.iterdir()) == [of_another]
