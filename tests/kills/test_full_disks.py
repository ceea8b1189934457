"""The disk of a database is full or read-only: its stream waits, says why, and goes on by itself once mended."""

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from api2db.stream.stream2local import Stream2Local
from api2db.stream.stream2sql import Stream2Sql
from tests.faults.disks import small_disk
from tests.kills.checker import Verdict
from tests.kills.here import Puts, running, wait_until

DIALECTS = ("duckdb", "sqlite")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_full_disk_of_the_database_holds_up_rows_and_loses_none(tmp_path: Path, dialect: str) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        puts = Puts(tmp_path, dialect, disk)
        with running(puts.stream):
            puts.put(2)
            assert puts.stream.flush(30)
            filler = disk / "filler"
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 11 << 20)
            puts.put(4, rows=10_000)
            wait_until(lambda: puts.stream.status().last_error)
            assert str(disk) in str(puts.stream.status().last_error)
            filler.unlink()
            puts.stream.check_failures()
            assert puts.stream.flush(60), puts.stream.status()
            assert puts.stream.status().last_error is None
        assert puts.verdict() == Verdict()


@pytest.mark.parametrize("kind", ["sqlite", "local"])
def test_a_small_disk_of_the_home_does_not_stop_a_stream_that_delivers_all_it_gets(tmp_path: Path, kind: str) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        target = tmp_path / "target"
        stream = (
            Stream2Sql("flights", str(target), "sqlite", home=disk)
            if kind == "sqlite"
            else Stream2Local("flights", str(target), home=disk)
        )
        for begin in (0, 400):
            with running(stream):
                for number in range(begin, begin + 400):  # 6 MB
                    stream.q.put(pd.DataFrame({"n": [number], "bytes": [os.urandom(15_000)]}))
                    assert stream.flush(30), stream.status()
                assert stream.status().rows_delivered == begin + 400


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_database_on_a_disk_that_is_read_only_is_waited_for(tmp_path: Path, dialect: str) -> None:
    with small_disk(tmp_path / "disk", "12m") as disk:
        puts = Puts(tmp_path, dialect, disk)
        puts.put(2)
        puts.deliver()
        remount(disk, "ro")
        with running(puts.stream):
            puts.put(2)
            wait_until(lambda: puts.stream.status().last_error)
            assert str(disk) in str(puts.stream.status().last_error)
            remount(disk, "rw")
            puts.stream.check_failures()
            assert puts.stream.flush(60), puts.stream.status()
        assert puts.verdict() == Verdict()


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True, capture_output=True)
