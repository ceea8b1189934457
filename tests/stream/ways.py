"""Every way that rows can go, each with what reads them back: the behaviour suite runs on all of them."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from api2db import FileConverter, Stream, Stream2Local, Stream2Sql

COLLECTOR = "flights"
DATABASES = {"duckdb": "flights.duckdb", "sqlite": "flights.sqlite"}


@dataclass(frozen=True)
class Way:
    """A target with its options.

    Attributes:
        stream_type: Its folder below ``upload_failed`` and ``rejected``.
        make: Makes the stream; takes the home, and more options.
        rows: Reads what is there, in its order.
        newest_only: Whether only the newest frame counts.
    """

    name: str
    stream_type: str
    make: Callable[..., Stream]
    rows: Callable[[Path], list[dict[str, Any]]]
    newest_only: bool = field(default=False)

    def ids(self, home: Path) -> list[int]:
        return [int(row["id"]) for row in self.rows(home)]

    def rejected(self, home: Path) -> list[dict[str, Any]]:
        return rejected_rows(home, self.stream_type)

    def expected(self, frames: Sequence[Sequence[int]]) -> list[int]:
        """The numbers that are there after frames of these have been put."""
        return list(frames[-1]) if self.newest_only else [number for frame in frames for number in frame]


def frame(*numbers: int) -> pd.DataFrame:
    return pd.DataFrame({"id": list(numbers), "text": [f"row {number}" for number in numbers]})


def rejected_rows(home: Path, stream_type: str, collector: str = COLLECTOR) -> list[dict[str, Any]]:
    folder = home / "STORE" / "rejected" / collector / stream_type
    files = sorted(folder.glob("[0-9]*.parquet"), key=lambda path: int(path.stem))
    return [row for path in files for row in records(pd.read_parquet(path))]


def records(df: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in df.to_dict("records")]


def query(home: Path, dialect: str, sql: str) -> list[tuple[Any, ...]]:
    """Ask with the database's own client; nothing where there is no such file or table."""
    path = home / DATABASES[dialect]
    if not path.exists():
        return []
    library: Any = duckdb if dialect == "duckdb" else sqlite3
    with closing(library.connect(str(path))) as connection:
        try:
            return [tuple(row) for row in connection.execute(sql).fetchall()]
        except (duckdb.CatalogException, sqlite3.OperationalError) as error:
            if "does not exist" in str(error) or "no such table" in str(error):
                return []
            raise


def execute(home: Path, dialect: str, sql: str) -> None:
    """Change the database from outside."""
    library: Any = duckdb if dialect == "duckdb" else sqlite3
    with closing(library.connect(str(home / DATABASES[dialect]))) as connection:
        connection.execute(sql)
        if dialect == "sqlite":
            connection.commit()


def table_rows(home: Path, dialect: str, table: str = COLLECTOR) -> list[dict[str, Any]]:
    catalogue = {
        "duckdb": f"SELECT column_name FROM duckdb_columns() WHERE table_name = '{table}' ORDER BY column_index",
        "sqlite": f"SELECT name FROM pragma_table_info('{table}') ORDER BY cid",
    }
    names = [name for (name,) in query(home, dialect, catalogue[dialect])]
    return [dict(zip(names, row, strict=True)) for row in query(home, dialect, f'SELECT * FROM "{table}"')]


def shards(home: Path, fmt: str) -> list[Path]:
    folder = home / "STORE" / COLLECTOR / fmt
    return sorted(folder.glob(f"[0-9]*.{fmt}"), key=lambda path: int(path.stem))


def _shard_rows(home: Path, fmt: str) -> list[dict[str, Any]]:
    return [row for path in shards(home, fmt) for row in _file_rows(path, fmt)]


def _static_rows(home: Path, fmt: str) -> list[dict[str, Any]]:
    path = home / "CACHE" / f"{COLLECTOR}_static.{fmt}"
    return _file_rows(path, fmt) if path.exists() else []


def _file_rows(path: Path, fmt: str) -> list[dict[str, Any]]:
    loaded = FileConverter.static_load_df(str(path), fmt)
    assert loaded is not None
    return records(loaded)


def sql(dialect: str, if_exists: str = "append") -> Way:
    return Way(
        dialect if if_exists == "append" else f"{dialect}_{if_exists}",
        f"sql.{dialect}",
        partial(Stream2Sql, COLLECTOR, DATABASES[dialect], dialect, if_exists=if_exists),
        partial(table_rows, dialect=dialect),
        newest_only=if_exists == "replace",
    )


def files(mode: str, fmt: str) -> Way:
    return Way(
        f"{mode}_{fmt}",
        "local",
        partial(Stream2Local, COLLECTOR, mode=mode, fmt=fmt),
        partial(_shard_rows if mode == "shard" else _static_rows, fmt=fmt),
        newest_only=mode == "replace",
    )


WAYS = (
    sql("duckdb"),
    sql("sqlite"),
    sql("duckdb", "fail"),
    sql("sqlite", "fail"),
    sql("duckdb", "replace"),
    sql("sqlite", "replace"),
    files("shard", "parquet"),
    files("shard", "json"),
    files("shard", "csv"),
    files("shard", "pickle"),
    files("update", "parquet"),
    files("update", "csv"),
    files("replace", "parquet"),
)
APPENDING = tuple(way for way in WAYS if not way.newest_only)
REPLACING = tuple(way for way in WAYS if way.newest_only)
DIALECTS = tuple(DATABASES)
