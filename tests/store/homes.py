"""A home with shards in it, and what a store has made of them."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from api2db import Store, Store2Sql
from api2db.disk.folders import shard_folder
from api2db.formats import write_frame
from api2db.shards import manifest as manifests
from api2db.store import _steps
from tests.shards.killing import interrupted


def shards(home: Path, fmt: str = "parquet") -> Path:
    return shard_folder(home, "flights", fmt)


def put_shards(home: Path, numbers: Iterable[int], fmt: str = "parquet", **columns: Any) -> None:
    """A shard a number, of two rows."""
    shards(home, fmt).mkdir(parents=True, exist_ok=True)
    for number in numbers:
        frame = pd.DataFrame({"n": [number, number], "row": [0, 1], **columns})
        write_frame(frame, shards(home, fmt) / f"{number:03}.{fmt}", fmt)


def rows_of(*numbers: int) -> list[tuple[int, int]]:
    return [(number, row) for number in numbers for row in (0, 1)]


def sqlite_store(home: Path, **options: Any) -> Store2Sql:
    return Store2Sql("flights", 60, "flights.sqlite", "sqlite", home=home, **options)


def query(home: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(home / "flights.sqlite")) as connection:
        return connection.execute(sql).fetchall()


def loaded(home: Path) -> list[Any]:
    """The rows of the table, in the order in which they went in."""
    return query(home, "SELECT n, row FROM flights ORDER BY rowid")


def left(home: Path, fmt: str = "parquet") -> list[str]:
    return sorted(path.name for path in shards(home, fmt).iterdir())


def cut_short(monkeypatch: pytest.MonkeyPatch, before: str, store: Store) -> None:
    """A round that ends before one of its steps."""
    with interrupted(monkeypatch, _steps if before == "_load" else manifests, before):
        store.store()
