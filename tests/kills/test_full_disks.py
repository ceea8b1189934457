"""The disk of a database is full or read-only: its stream waits, says why, and goes on by itself once mended."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.faults.disks import small_disk
from tests.kills.here import Puts, running, wait_until
from tests.kills.oracle import Verdict

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
